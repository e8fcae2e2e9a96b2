"""Events of the log: past participles, small, versioned, discriminated by the tag `<name>/<version>`.

A change of meaning or of a required field makes a new version: bump the tag, and add an upcaster that turns the old
map into the new one. Logs are read for ever; events are never rewritten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from shardy_common.wire import subjects
from shardy_common.wire.job import JobSpec, Tile


class Event(msgspec.Struct, frozen=True, tag_field="e", omit_defaults=True):
    """Base. `name` is the first two subject tokens; `entity_id` the third."""

    name: ClassVar[str]

    @property
    def entity_id(self) -> str:
        raise NotImplementedError

    @property
    def subject(self) -> str:
        return subjects.subject(self.name, self.entity_id)


class _JobEvent(Event, frozen=True):
    job: str

    @property
    def entity_id(self) -> str:
        return self.job


class _TaskEvent(Event, frozen=True):
    task: str
    job: str

    @property
    def entity_id(self) -> str:
        return self.task


class _WorkerEvent(Event, frozen=True):
    worker: str
    session: str

    @property
    def entity_id(self) -> str:
        return self.worker


class Lease(msgspec.Struct, frozen=True):
    """One task lent to one worker's session until deadline_ms (Unix milliseconds)."""

    id: str
    worker: str
    session: str
    deadline_ms: int


class JobSubmitted(_JobEvent, frozen=True, tag="job.submitted/1"):
    name = "job.submitted"
    spec: JobSpec
    requester: str


class JobCompleted(_JobEvent, frozen=True, tag="job.completed/1"):
    name = "job.completed"
    cells: int
    tasks: int


class JobFailed(_JobEvent, frozen=True, tag="job.failed/1"):
    name = "job.failed"
    cause: str


class JobCancelled(_JobEvent, frozen=True, tag="job.cancelled/1"):
    name = "job.cancelled"
    by: str


class TaskCreated(_TaskEvent, frozen=True, tag="task.created/1"):
    """A task is carved from its job and lent in one decision: its first leases travel with it."""

    name = "task.created"
    tile: Tile
    leases: list[Lease]


class TaskAssigned(_TaskEvent, frozen=True, tag="task.assigned/1"):
    """Further leases. cause: replica | retry | dispute."""

    name = "task.assigned"
    tile: Tile
    leases: list[Lease]
    cause: str


class TaskExpired(_TaskEvent, frozen=True, tag="task.expired/1"):
    """Leases that will be waited for no longer. cause: deadline | lost | banned."""

    name = "task.expired"
    leases: list[str]
    cause: str


class TaskDisputed(_TaskEvent, frozen=True, tag="task.disputed/1"):
    """Results differ and could not be told apart. votes: workers by digest; need: further replicas wanted."""

    name = "task.disputed"
    votes: dict[str, list[str]]
    need: int


class TaskVerified(_TaskEvent, frozen=True, tag="task.verified/1"):
    """The verdict. workers: whose results had this digest. method: quorum | audit | arbitration.

    rounds: Freivalds rounds made (0: none); ops: integer operations that the task took, for credit.
    """

    name = "task.verified"
    tile: Tile
    digest: str
    size: int
    workers: list[str]
    method: str
    rounds: int = 0
    ops: int = 0


class TaskUnresolved(_TaskEvent, frozen=True, tag="task.unresolved/1"):
    name = "task.unresolved"
    cause: str


class ResultSubmitted(_TaskEvent, frozen=True, tag="result.submitted/1"):
    """digest: hex BLAKE3 of the `size` result bytes, which the gateway checked and stored. ms: the worker's clock."""

    name = "result.submitted"
    lease: str
    worker: str
    digest: str
    size: int
    ms: float
    backend: str
    spans: dict[str, float] = {}


class ResultFailed(_TaskEvent, frozen=True, tag="result.failed/1"):
    """A worker gave a lease back. Never fraud."""

    name = "result.failed"
    lease: str
    worker: str
    code: str
    message: str


class FraudDetected(_TaskEvent, frozen=True, tag="fraud.detected/1"):
    """A proven wrong result. method: audit | recompute; row: a wrong row of the tile; digest: of the wrong bytes."""

    name = "fraud.detected"
    worker: str
    lease: str
    digest: str
    method: str
    row: int
    rounds: int = 0
    agent: str = ""


class Probe(msgspec.Struct, frozen=True):
    """What a worker claimed and the gateway's own timing. gops in 10⁹ operations a second, memory in MiB."""

    gops: float
    ms: float
    memory_mib: int
    backend: str
    gpu: str = ""
    engine: str = ""
    kernels: str = ""
    gateway_ms: float = 0.0


class WorkerJoined(_WorkerEvent, frozen=True, tag="worker.joined/1"):
    """held: leases that the worker still has from an earlier session; all others of its leases are lost."""

    name = "worker.joined"
    gateway: str
    instance: str
    address: str
    agent: str
    key: str
    probe: Probe
    held: list[str] = []


class WorkerTiered(_WorkerEvent, frozen=True, tag="worker.tiered/1"):
    name = "worker.tiered"
    tier: str
    max_leases: int
    gops: float


class WorkerLeft(_WorkerEvent, frozen=True, tag="worker.left/1"):
    """cause: left (leases given back at once) | dropped (it may come back and bring results)."""

    name = "worker.left"
    cause: str


class GatewayStarted(Event, frozen=True, tag="gateway.started/1"):
    """Sessions of earlier instances of this gateway are gone."""

    name = "gateway.started"
    gateway: str
    instance: str

    @property
    def entity_id(self) -> str:
        return self.gateway


class VerifierRegistered(Event, frozen=True, tag="verifier.registered/1"):
    """A verification key version enters the registry. status: active | grace | revoked."""

    name = "verifier.registered"
    version: str
    circuit: str
    vk_digest: str
    status: str

    @property
    def entity_id(self) -> str:
        return self.version


class DlqRecorded(Event, frozen=True, tag="dlq.recorded/1"):
    """A dead letter. cause: fraud | unresolved | poison | max-deliveries; evidence: small map of strings."""

    name = "dlq.recorded"
    entry: str
    cause: str
    subject_of: str
    seq_of: int
    evidence: dict[str, str]

    @property
    def entity_id(self) -> str:
        return self.entry


AnyEvent = (
    JobSubmitted
    | JobCompleted
    | JobFailed
    | JobCancelled
    | TaskCreated
    | TaskAssigned
    | TaskExpired
    | TaskDisputed
    | TaskVerified
    | TaskUnresolved
    | ResultSubmitted
    | ResultFailed
    | FraudDetected
    | WorkerJoined
    | WorkerTiered
    | WorkerLeft
    | GatewayStarted
    | VerifierRegistered
    | DlqRecorded
)

EVENT_TYPES: tuple[type[Event], ...] = AnyEvent.__args__  # type: ignore[attr-defined]

# (old tag) → function from the old map to the next version's map, tag included
UPCASTERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}

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
