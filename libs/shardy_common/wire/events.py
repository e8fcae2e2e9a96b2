"""Events of the log: past participles, small, versioned, discriminated by the tag `<name>/<version>`.

A change of meaning or of a required field makes a new version: bump the tag, and add an upcaster that turns the old
map into the new one. Logs are read for ever; events are never rewritten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from shardy_common.wire.ceremony_events import (
    CeremonyContributed,
    CeremonyFinished,
    CeremonySealed,
    CeremonyStarted,
    CeremonyVerified,
)
from shardy_common.wire.event_base import Event
from shardy_common.wire.mesh_events import (
    DlqDiscarded,
    DlqRecorded,
    DlqReplayed,
    GatewayStarted,
    KeyIssued,
    KeyRevoked,
    MeshKeyed,
    Probe,
    ProverFiles,
    VerifierRegistered,
    VerifierRevoked,
    VerifierRotated,
    WorkerJoined,
    WorkerLeft,
    WorkerTiered,
)
from shardy_common.wire.proof_events import (
    ProofChallenged,
    ProofReaudited,
    ProofRejected,
    ProofSubmitted,
    ProofVerified,
)
from shardy_common.wire.work_events import (
    Answered,
    CanaryPrepared,
    Carved,
    FraudDetected,
    HandedIn,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobReopened,
    JobSubmitted,
    Lease,
    ResultFailed,
    ResultsSubmitted,
    ResultSubmitted,
    TaskAssigned,
    TaskCreated,
    TaskDisputed,
    TaskExpired,
    TasksCreated,
    TaskUnresolved,
    TaskVerified,
)

__all__ = [
    "Answered",
    "CanaryPrepared",
    "Carved",
    "CeremonyContributed",
    "CeremonyFinished",
    "CeremonySealed",
    "CeremonyStarted",
    "CeremonyVerified",
    "DlqDiscarded",
    "DlqRecorded",
    "DlqReplayed",
    "Event",
    "FraudDetected",
    "GatewayStarted",
    "HandedIn",
    "JobCancelled",
    "JobCompleted",
    "JobFailed",
    "JobReopened",
    "JobSubmitted",
    "KeyIssued",
    "KeyRevoked",
    "Lease",
    "MeshKeyed",
    "Probe",
    "ProofChallenged",
    "ProofReaudited",
    "ProofRejected",
    "ProofSubmitted",
    "ProofVerified",
    "ProverFiles",
    "ResultFailed",
    "ResultSubmitted",
    "ResultsSubmitted",
    "TaskAssigned",
    "TaskCreated",
    "TaskDisputed",
    "TaskExpired",
    "TaskUnresolved",
    "TaskVerified",
    "TasksCreated",
    "VerifierRegistered",
    "VerifierRevoked",
    "VerifierRotated",
    "WorkerJoined",
    "WorkerLeft",
    "WorkerTiered",
]

AnyEvent = (
    JobSubmitted
    | JobCompleted
    | JobFailed
    | JobCancelled
    | JobReopened
    | CanaryPrepared
    | TaskCreated
    | TasksCreated
    | TaskAssigned
    | TaskExpired
    | TaskDisputed
    | TaskVerified
    | TaskUnresolved
    | ResultSubmitted
    | ResultsSubmitted
    | ResultFailed
    | FraudDetected
    | ProofChallenged
    | ProofSubmitted
    | ProofVerified
    | ProofRejected
    | ProofReaudited
    | WorkerJoined
    | WorkerTiered
    | WorkerLeft
    | GatewayStarted
    | VerifierRegistered
    | VerifierRotated
    | VerifierRevoked
    | CeremonyStarted
    | CeremonyContributed
    | CeremonySealed
    | CeremonyVerified
    | CeremonyFinished
    | DlqRecorded
    | DlqReplayed
    | DlqDiscarded
    | KeyIssued
    | KeyRevoked
    | MeshKeyed
)

EVENT_TYPES: tuple[type[Event], ...] = AnyEvent.__args__  # type: ignore[attr-defined]


def _verifier_with_key(old: dict[str, Any]) -> dict[str, Any]:
    """The old event had no key, and its status was what anybody wrote there: the version stays known, without a key."""
    known = {"version": old["version"], "circuit": old["circuit"], "vk_hash": old["vk_digest"]}
    return {"e": "verifier.registered/2", **known, "shape": (0, 0, 0), "vk": "", "dev": False, "by": ""}


# (old tag) → function from the old map to the next version's map, tag included
UPCASTERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"verifier.registered/1": _verifier_with_key}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AnyEvent).decode


class UndecodableEvent(ValueError):
    """Bytes that no known event version explains: a poison message, to be dead-lettered, never to stop a consumer."""


def encode(event: Event) -> bytes:
    """JSON bytes with the tag in `e`."""
    return _encode(event)


def decode(payload: bytes) -> Any:
    """The event, upcast to its newest version. Raises UndecodableEvent."""
    try:
        return _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _decode_old(payload, error)


def _decode_old(payload: bytes, error: Exception) -> Any:
    try:
        old = msgspec.json.decode(payload)
        for _ in range(100):
            upcast = UPCASTERS.get(old["e"])
            if upcast is None:
                break
            old = upcast(old)
        return msgspec.convert(old, AnyEvent)
    except (msgspec.MsgspecError, LookupError, AttributeError, TypeError, ValueError, RecursionError):
        raise UndecodableEvent(str(error)) from None
