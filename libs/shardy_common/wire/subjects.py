"""The one module that builds subjects: `<entity>.<event>.<id>` on the stream EVENTS."""

from __future__ import annotations

from collections.abc import Iterable

STREAM = "EVENTS"
ADVISORIES = "ADVISORIES"  # the second stream: what the server says of messages that a consumer gets no more
ENTITIES = (
    "job",
    "task",
    "result",
    "worker",
    "gateway",
    "fraud",
    "proof",
    "verifier",
    "ceremony",
    "dlq",
    "canary",
    "key",
    "mesh",
)
STREAM_SUBJECTS = [f"{entity}.>" for entity in ENTITIES]


def subject(event_name: str, entity_id: str) -> str:
    """`task.created` and an id make `task.created.<id>`."""
    return f"{event_name}.{entity_id}"


def of_kind(event_name: str) -> str:
    """All events of one name."""
    return f"{event_name}.*"


def taken(filters: Iterable[str], event_name: str) -> bool:
    """Whether one of the filters `<entity>.<event>.*` takes events of this name."""
    entity, _, event = event_name.partition(".")
    return any(all(w in ("*", h) for w, h in zip(f.split("."), (entity, event), strict=False)) for f in filters)


def of_entity(entity: str, entity_id: str) -> str:
    """All events of one state machine: what its optimistic concurrency counts."""
    return f"{entity}.*.{entity_id}"


def control(service: str, verb: str) -> str:
    """Request/reply subject of the control plane; not part of the log."""
    return f"ctl.{service}.{verb}"
