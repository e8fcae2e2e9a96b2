"""What a letter says of a task that was given up: who had it, how each lease ended, and what was voted for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from shardy_common import ids
from shardy_common.log import Recorded
from shardy_common.wire import events as ev
from shardy_common.wire import subjects

EVENTS_MAX = 2_000  # of one task's history; a lease makes a handful, and a task has few leases
MESSAGE_CHARS_MAX = 120


def history_filters(task: str) -> tuple[str, ...]:
    """Subjects with everything that happened to a task; the last two are its job's, and tell of other tasks, too."""
    own = tuple(subjects.of_entity(entity, task) for entity in ("task", "result", "fraud"))
    job = ids.job_of(task)
    return (*own, subjects.subject(ev.TaskCreated.name, job), subjects.subject(ev.ResultSubmitted.name, job))


def of_task(history: Iterable[Recorded], before: int) -> dict[str, str]:
    """Evidence from the events before a sequence: equal whenever it is gathered. Lists and maps are JSON.

    lent: [lease, worker, how it ended] in the order of lending; votes: workers by digest.
    """
    leases: dict[str, list[str]] = {}
    votes: dict[str, list[str]] = {}
    tile: Any = None
    for recorded in sorted(history, key=lambda r: r.seq)[:EVENTS_MAX]:
        event = recorded.event
        if recorded.seq >= before:
            break
        if isinstance(event, (ev.TaskCreated, ev.TaskAssigned)):
            tile = event.tile
            for lease in event.leases:
                leases[lease.id] = [lease.id, lease.worker, "no answer"]
        elif isinstance(event, ev.TaskExpired):
            for expired in event.leases:
                _end(leases, expired, f"expired ({event.cause})", unless="answered")
        elif isinstance(event, ev.ResultFailed):
            what = f"failed ({event.code}) {event.message[:MESSAGE_CHARS_MAX]}".strip()
            _end(leases, event.lease, what)
        elif isinstance(event, ev.ResultSubmitted):
            _end(leases, event.lease, f"answered {event.digest}")
            if event.lease in leases:
                votes.setdefault(event.digest, []).append(event.worker)
        elif isinstance(event, ev.FraudDetected):
            _end(leases, event.lease, f"proven wrong (row {event.row}) {event.digest}")
    evidence = {"leases": str(len(leases)), "lent": _json(list(leases.values())), "votes": _json(votes)}
    if tile is not None:
        evidence["tile"] = _json(tile)
    return evidence


def _end(leases: dict[str, list[str]], lease: str, how: str, unless: str = "-") -> None:
    if lease in leases and not leases[lease][2].startswith(unless):
        leases[lease][2] = how


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
