"""The matchmaker's state: a fold over the log, kept in memory while it is active and in SQLite for restarts."""

from __future__ import annotations

import msgspec

from shardy_common.carving import Cursor
from shardy_common.wire.job import JobSpec, Tile

# fraud: the worker was proven wrong, here or elsewhere: it has no voice in this task
LIVE, ANSWERED, EXPIRED, FAILED, FRAUD = "live", "answered", "expired", "failed", "fraud"


class WorkerState(msgspec.Struct):
    """gops: believed speed, learned from results; leases: live ones. absent_ms: when it was lost, 0 while present.

    strikes: times in a row that it let leases run out (reliability.py); late_ms: when it last did. lost: leases that it
    came back without at its latest join, which nobody waits for. proves_mib: memory that it gives for proving.
    """

    id: str
    session: str
    gateway: str
    instance: str
    address: str
    agent: str
    backend: str
    memory_mib: int
    probe_gops: float
    gops: float
    tier: str = ""
    max_leases: int = 0
    present: bool = True
    absent_ms: int = 0
    banned: bool = False
    leases: dict[str, str] = {}  # lease id → task id
    queued_ops: int = 0  # of the live leases
    strikes: int = 0
    strike_ms: int = 0
    late_ms: int = 0
    lost: list[str] = []
    proves_mib: int = 0


class LeaseState(msgspec.Struct, omit_defaults=True):
    """unproved: it was answered, and there will be no proof of that, whatever comes for it again."""

    worker: str
    address: str
    deadline_ms: int
    state: str = LIVE
    lent_ms: int = 0
    unproved: bool = False


class TaskState(msgspec.Struct, omit_defaults=True):
    """seq: last sequence of the task's own events, what its next one expects (0: a reopened job's, not lent yet).
    need: answers wanted in all; ops: integer operations of the tile. lone: it was given to one worker on trust, and
    nobody else has it."""

    id: str
    job: str
    tile: Tile
    seq: int
    need: int
    ops: int
    leases: dict[str, LeaseState] = {}
    lone: bool = False

    def strangers(self, tried: set[str]) -> dict[str, set[str]]:
        """For each worker that had the task: the addresses at which somebody else had it."""
        leases = self.leases.values()
        return {worker: {lease.address for lease in leases if lease.worker != worker} for worker in tried}

    @property
    def counting(self) -> int:
        """Workers that have answered or still may."""
        return len(self._voices(LIVE, ANSWERED))

    @property
    def answered(self) -> int:
        """Workers whose answer stands."""
        return len(self._voices(ANSWERED))

    def _voices(self, *states: str) -> set[str]:
        """A worker has one voice, however many leases of the task it had, and none once its result was proven wrong:
        that is how the quorum counts, and a task would wait for ever if the two counted differently."""
        voices: set[str] = set()
        liars: set[str] = set()
        for lease in self.leases.values():  # written out: it runs for every answer of the mesh
            if lease.state in states:
                voices.add(lease.worker)
            elif lease.state == FRAUD:
                liars.add(lease.worker)
        return voices - liars if liars else voices


class JobState(msgspec.Struct):
    """seq: last sequence of the job's own events. cursor: where its next task starts."""

    id: str
    seq: int
    spec: JobSpec
    requester: str
    cells: int
    trace: str = ""
    cursor: Cursor = Cursor()
    cells_done: int = 0
    tasks_made: int = 0
    failing: str = ""
