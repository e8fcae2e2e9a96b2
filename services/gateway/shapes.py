"""What the gateway's fold keeps of a job, a task, a worker and a fraud."""

from __future__ import annotations

import msgspec

from shardy_common.carving import Cursor
from shardy_common.wire.job import JobSpec, Tile


class JobView(msgspec.Struct):
    """state: waiting | running | completed | failed | cancelled. since, seq: first and last sequence of the job's own
    events.

    changes: how often anything of it changed, the same on every gateway; ops: operations of its verified tasks, and
    ops_replicas: the same once for each credited worker. entry: the dead letter through which it was last reopened;
    since is 0 from then on.
    """

    id: str
    seq: int
    spec: JobSpec
    requester: str
    created_ms: int
    cells: int
    trace: str = ""
    state: str = "waiting"
    cursor: Cursor = Cursor()
    cells_done: int = 0
    tasks_verified: int = 0
    tasks_active: int = 0
    error: str = ""
    ended_ms: int = 0
    frauds: int = 0
    since: int = 0
    changes: int = 0
    ops: int = 0
    ops_replicas: int = 0
    entry: str = ""

    @property
    def ended(self) -> bool:
        return self.state in ("completed", "failed", "cancelled")


class TaskView(msgspec.Struct, omit_defaults=True):
    """leases: worker by lease id. digest: of the verified result, empty until then. seq: of its creation, then of its
    verdict. answers: where each worker's result stands in the log; by its lease, if results of the job are proved."""

    id: str
    job: str
    tile: Tile
    leases: dict[str, str]
    digest: str = ""
    size: int = 0
    workers: list[str] = []
    method: str = ""
    rounds: int = 0
    ops: int = 0
    seq: int = 0
    verified_ms: int = 0
    answers: dict[str, int] = {}


class WorkerView(msgspec.Struct):
    id: str
    session: str
    gateway: str
    instance: str
    address: str
    agent: str
    backend: str
    gpu: str
    memory_mib: int
    gops: float
    tier: str = ""
    present: bool = True
    banned: bool = False
    verified: int = 0
    ops: int = 0
    joined_ms: int = 0
    proves_mib: int = 0


class FraudView(msgspec.Struct):
    lease: str
    task: str
    job: str
    worker: str
    agent: str
    method: str
    row: int
    rounds: int
    digest: str
    at_ms: int
    seq: int = 0
    expected: str = ""
