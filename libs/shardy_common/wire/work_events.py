"""Events of jobs and tasks: asked for, lent, answered, judged."""

from __future__ import annotations

import msgspec

from shardy_common.carving import Cursor
from shardy_common.wire.event_base import JobEvent, TaskEvent
from shardy_common.wire.job import JobSpec, Tile


class Lease(msgspec.Struct, frozen=True):
    """One task lent to one worker's session until deadline_ms (Unix milliseconds)."""

    id: str
    worker: str
    session: str
    deadline_ms: int


class JobSubmitted(JobEvent, frozen=True, tag="job.submitted/1"):
    """requester: the owner of the API key. idem: hash of an idempotency key and its owner; body: of what was asked."""

    name = "job.submitted"
    spec: JobSpec
    requester: str
    idem: str = ""
    body: str = ""


class JobCompleted(JobEvent, frozen=True, tag="job.completed/1"):
    name = "job.completed"
    cells: int
    tasks: int


class JobFailed(JobEvent, frozen=True, tag="job.failed/1"):
    name = "job.failed"
    cause: str


class JobCancelled(JobEvent, frozen=True, tag="job.cancelled/1"):
    name = "job.cancelled"
    by: str


class JobReopened(JobEvent, frozen=True, tag="job.reopened/1"):
    """A failed job goes on: its missing tiles are tasks again, under fresh ids, real by this event alone.

    cursor, cells_done, tasks_verified: where it stood; entry: the dead letter whose replay this is.
    """

    name = "job.reopened"
    spec: JobSpec
    requester: str
    created_ms: int
    cells_done: int
    tasks_verified: int
    cursor: Cursor
    tasks: list[tuple[str, Tile]]
    entry: str
    by: str


class CanaryPrepared(JobEvent, frozen=True, tag="canary.prepared/1"):
    """The answer of a canary job, known before it is lent. digest: of its right result bytes."""

    name = "canary.prepared"
    digest: str
    by: str


class TaskCreated(TaskEvent, frozen=True, tag="task.created/1"):
    """A task is carved from its job and lent in one decision: its first leases travel with it.

    need: answers wanted; 0: what the job's policy says.
    """

    name = "task.created"
    tile: Tile
    leases: list[Lease]
    need: int = 0


class Carved(msgspec.Struct, frozen=True, array_like=True):
    """One task of TasksCreated; see TaskCreated."""

    task: str
    tile: Tile
    leases: list[Lease]
    need: int = 0


class TasksCreated(JobEvent, frozen=True, tag="task.created/2"):
    """Many TaskCreated of one job that were decided together, in one message (log/packs.py)."""

    name = "task.created"
    tasks: list[Carved]


class TaskAssigned(TaskEvent, frozen=True, tag="task.assigned/1"):
    """Further leases. cause: replica | retry | dispute."""

    name = "task.assigned"
    tile: Tile
    leases: list[Lease]
    cause: str


class TaskExpired(TaskEvent, frozen=True, tag="task.expired/1"):
    """Leases that will be waited for no longer. cause: deadline | lost | banned."""

    name = "task.expired"
    leases: list[str]
    cause: str


class TaskDisputed(TaskEvent, frozen=True, tag="task.disputed/1"):
    """Results differ and could not be told apart. votes: workers by digest; need: further replicas wanted."""

    name = "task.disputed"
    votes: dict[str, list[str]]
    need: int


class TaskVerified(TaskEvent, frozen=True, tag="task.verified/1"):
    """The verdict. workers: whose results had this digest. method: quorum | audit | arbitration | trust |
    canary | proof.

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


class TaskUnresolved(TaskEvent, frozen=True, tag="task.unresolved/1"):
    name = "task.unresolved"
    cause: str


class ResultSubmitted(TaskEvent, frozen=True, tag="result.submitted/1"):
    """digest: hex BLAKE3 of the `size` result bytes, which the gateway checked and stored. ms: the worker's clock.

    sig: hex of the worker's signature over the Merkle root of its frame (protocol §5.1); batch: blob with the frame's
    leaves, empty when it had one; index: this result's leaf.
    """

    name = "result.submitted"
    lease: str
    worker: str
    digest: str
    size: int
    ms: float
    backend: str
    spans: dict[str, float] = {}
    sig: str = ""
    batch: str = ""
    index: int = 0


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """One result of ResultsSubmitted; see ResultSubmitted."""

    task: str
    lease: str
    digest: str
    size: int
    ms: float
    backend: str
    index: int = 0
    spans: dict[str, float] = {}


class HandedIn(msgspec.Struct, frozen=True, array_like=True):
    """Results of one frame, under the worker's one signature."""

    worker: str
    sig: str
    batch: str
    results: list[Answered]


class ResultsSubmitted(JobEvent, frozen=True, tag="result.submitted/2"):
    """Many ResultSubmitted of one job that came in together, in one message (log/packs.py)."""

    name = "result.submitted"
    frames: list[HandedIn]


class ResultFailed(TaskEvent, frozen=True, tag="result.failed/1"):
    """A worker gave a lease back. Never fraud."""

    name = "result.failed"
    lease: str
    worker: str
    code: str
    message: str


class FraudDetected(TaskEvent, frozen=True, tag="fraud.detected/1"):
    """A proven wrong result. method: audit | recompute; row: a wrong row of the tile; digest: of the wrong bytes;
    expected: of the right ones, where the mesh knows them."""

    name = "fraud.detected"
    worker: str
    lease: str
    digest: str
    method: str
    row: int
    rounds: int = 0
    agent: str = ""
    expected: str = ""
