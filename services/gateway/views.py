"""The gateway's fold: jobs, tasks, workers and frauds as requesters and sessions need to see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from shardy_common import kinds
from shardy_common.carving import Cursor
from shardy_common.log import Projection, Recorded, Table
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Tile
from shardy_gateway.letters import Letters
from shardy_gateway.outbox import Outbox
from shardy_gateway.reputation import Reputations
from shardy_gateway.side import SideFold

TABLES = [
    Table("jobs", {"id": str, "active": int, "requester": str, "body": bytes}, [["active"]]),
    Table(
        "tasks",
        {"id": str, "job": str, "active": int, "row0": int, "col0": int, "rows": int, "cols": int, "body": bytes},
        [["job"], ["active"]],
    ),
    Table("workers", {"id": str, "body": bytes}),
    Table("frauds", {"lease": str, "job": str, "worker": str, "body": bytes}, [["job"], ["worker"]]),
    *Letters.tables,
    *Reputations.tables,
]
VERSION = 4
FILTERS = ["job.*.*", "task.*.*", "worker.*.*", "gateway.started.*", *Letters.filters, *Reputations.filters]


class JobView(msgspec.Struct):
    """state: waiting | running | completed | failed | cancelled. seq: last sequence of the job's own events."""

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
    entry: str = ""  # the dead letter through which it was last reopened

    @property
    def ended(self) -> bool:
        return self.state in ("completed", "failed", "cancelled")


class TaskView(msgspec.Struct):
    """leases: worker by lease id. digest: of the verified result, empty until then."""

    id: str
    job: str
    tile: Tile
    leases: dict[str, str]
    digest: str = ""
    size: int = 0
    workers: list[str] = []
    method: str = ""


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
    expected: str = ""


_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_job = msgspec.msgpack.Decoder(JobView).decode
_task = msgspec.msgpack.Decoder(TaskView).decode
_worker = msgspec.msgpack.Decoder(WorkerView).decode
_fraud = msgspec.msgpack.Decoder(FraudView).decode


class Views:
    filters = FILTERS

    def __init__(self) -> None:
        self.flush: Callable[[], None] = lambda: None  # set by the service: writes pending rows before they are read
        self.jobs: dict[str, JobView] = {}  # active
        self.tasks: dict[str, TaskView] = {}  # active
        self.tasks_of: dict[str, set[str]] = {}
        self.workers: dict[str, WorkerView] = {}
        self.outbox = Outbox()
        self._touched_tasks: dict[str, TaskView] = {}
        self._touched_jobs: dict[str, JobView] = {}
        self._touched_workers: set[str] = set()
        self._frauds: list[FraudView] = []
        self._frauds_in: dict[str, int] = {}  # by job, for jobs that go on after their end
        self.letters = Letters()
        self.reputations = Reputations(lambda task: self.tasks[task].leases if task in self.tasks else {})
        self.sides: tuple[SideFold, ...] = (self.letters, self.reputations)
        for side in self.sides:
            side.flush = self._flush

    # -- service core ---------------------------------------------------------------------------------------------

    def load(self, projection: Projection) -> None:
        self.projection = projection
        for (body,) in projection.rows("SELECT body FROM jobs WHERE active = 1 ORDER BY id"):
            job = _job(body)
            self.jobs[job.id] = job
            self.tasks_of[job.id] = set()
        for (body,) in projection.rows("SELECT body FROM tasks WHERE active = 1"):
            task = _task(body)
            if task.job in self.jobs:
                self.tasks[task.id] = task
                self.tasks_of[task.job].add(task.id)
        for (body,) in projection.rows("SELECT body FROM workers"):
            worker = _worker(body)
            self.workers[worker.id] = worker
        self._frauds_in = dict(projection.rows("SELECT job, COUNT(*) FROM frauds GROUP BY job"))
        for side in self.sides:
            side.load(projection)

    def evolve(self, recorded: Recorded) -> None:
        handler = _HANDLERS.get(type(recorded.event))
        if handler is not None:
            handler(self, recorded.event, recorded)
        for side in self.sides:
            side.evolve(recorded)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        out: dict[str, list[Sequence[Any]]] = {
            "jobs": [(j.id, int(not j.ended), j.requester, _pack(j)) for j in self._touched_jobs.values()],
            "tasks": [
                (
                    t.id,
                    t.job,
                    int(t.id in self.tasks),
                    t.tile.row0,
                    t.tile.col0,
                    t.tile.rows,
                    t.tile.cols,
                    _pack(t),
                )
                for t in self._touched_tasks.values()
            ],
            "workers": [(w, _pack(self.workers[w])) for w in self._touched_workers],
            "frauds": [(f.lease, f.job, f.worker, _pack(f)) for f in self._frauds],
        }
        self._touched_jobs.clear()
        self._touched_tasks.clear()
        self._touched_workers.clear()
        self._frauds.clear()
        for side in self.sides:
            out |= side.rows()
        return {table: rows for table, rows in out.items() if rows}

    def take_outbox(self) -> Outbox:
        outbox, self.outbox = self.outbox, Outbox()
        return outbox

    # -- look-ups -------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self.flush()

    def _read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self.flush()
        return self.projection.rows(sql, parameters)

    def job(self, job_id: str) -> JobView | None:
        """Active or ended."""
        job = self.jobs.get(job_id)
        if job is not None:
            return job
        rows = self._read("SELECT body FROM jobs WHERE id = ?", (job_id,))
        return _job(rows[0][0]) if rows else None

    def job_page(self, requester: str, before: str, limit: int) -> list[JobView]:
        rows = self._read(
            "SELECT body FROM jobs WHERE requester = ? AND id < ? ORDER BY id DESC LIMIT ?",
            (requester, before or "~", limit),
        )
        return [_job(body) for (body,) in rows]

    def tasks_in(self, job_id: str, limit: int = -1, after: str = "") -> list[TaskView]:
        rows = self._read(
            "SELECT body FROM tasks WHERE job = ? AND id > ? ORDER BY col0, row0 LIMIT ?", (job_id, after, limit)
        )
        return [_task(body) for (body,) in rows]

    def task(self, task_id: str) -> TaskView | None:
        rows = self._read("SELECT body FROM tasks WHERE id = ?", (task_id,))
        return _task(rows[0][0]) if rows else None

    def task_state(self, task_id: str) -> str:
        """active | ended | unknown."""
        if task_id in self.tasks:
            return "active"
        return "ended" if self._read("SELECT 1 FROM tasks WHERE id = ?", (task_id,)) else "unknown"

    def frauds_of(self, worker: str, limit: int = 100) -> list[FraudView]:
        rows = self._read("SELECT body FROM frauds WHERE worker = ? ORDER BY rowid DESC LIMIT ?", (worker, limit))
        return [_fraud(body) for (body,) in rows]

    def frauds(self, job_id: str | None = None, limit: int = 100) -> list[FraudView]:
        if job_id is None:
            rows = self._read("SELECT body FROM frauds ORDER BY rowid DESC LIMIT ?", (limit,))
        else:
            rows = self._read("SELECT body FROM frauds WHERE job = ? LIMIT ?", (job_id, limit))
        return [_fraud(body) for (body,) in rows]

    # -- fold -----------------------------------------------------------------------------------------------------

    def _job_submitted(self, event: ev.JobSubmitted, recorded: Recorded) -> None:
        rows, cols = kinds.KINDS[event.spec.kind].shape(event.spec)
        job = JobView(event.job, recorded.seq, event.spec, event.requester, recorded.at_ms, rows * cols, recorded.trace)
        self.jobs[event.job] = job
        self.tasks_of[event.job] = set()
        self._touch_job(job)

    def _job_completed(self, event: ev.JobCompleted, recorded: Recorded) -> None:
        self._end(event.job, "completed", "", recorded)

    def _job_failed(self, event: ev.JobFailed, recorded: Recorded) -> None:
        self._end(event.job, "failed", event.cause, recorded)

    def _job_cancelled(self, event: ev.JobCancelled, recorded: Recorded) -> None:
        self._end(event.job, "cancelled", "cancelled by its requester", recorded)

    def _job_reopened(self, event: ev.JobReopened, recorded: Recorded) -> None:
        if event.job in self.jobs:
            return
        rows, cols = kinds.KINDS[event.spec.kind].shape(event.spec)
        job = JobView(
            event.job, recorded.seq, event.spec, event.requester, event.created_ms, rows * cols, recorded.trace
        )
        job.state, job.cursor, job.entry = "running", event.cursor, event.entry
        job.cells_done, job.tasks_verified, job.tasks_active = event.cells_done, event.tasks_verified, len(event.tasks)
        job.frauds = self._frauds_in.get(event.job, 0)
        self.jobs[event.job] = job
        self.tasks_of[event.job] = {task_id for task_id, _ in event.tasks}
        for task_id, tile in event.tasks:
            self.tasks[task_id] = self._touched_tasks[task_id] = TaskView(task_id, event.job, tile, {})
        self._touch_job(job)

    def _end(self, job_id: str, state: str, error: str, recorded: Recorded) -> None:
        job = self.jobs.pop(job_id, None)
        if job is None:
            return
        job.seq, job.state, job.error, job.ended_ms, job.tasks_active = recorded.seq, state, error, recorded.at_ms, 0
        for task_id in self.tasks_of.pop(job_id, set()):
            task = self.tasks.pop(task_id)
            task.method = "dropped"
            self._touched_tasks[task_id] = task
            self.outbox.dropped.append(task)
        self._touch_job(job)
        self.outbox.ended.append(job)

    def _task_created(self, event: ev.TaskCreated, _recorded: Recorded) -> None:
        job = self.jobs.get(event.job)
        if job is None:
            return
        shape = kinds.KINDS[job.spec.kind].shape(job.spec)
        if not job.cursor.accepts(event.tile, shape):
            return  # void: see shardy_common/carving.py
        job.cursor = job.cursor.after(event.tile, shape)
        job.state = "running"
        job.tasks_active += 1
        task = TaskView(event.task, event.job, event.tile, {lease.id: lease.worker for lease in event.leases})
        self.tasks[event.task] = task
        self.tasks_of[event.job].add(event.task)
        self._touched_tasks[event.task] = task
        self._touch_job(job)
        self.outbox.lent.append((task, event.leases))

    def _task_assigned(self, event: ev.TaskAssigned, _recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is not None:
            for lease in event.leases:
                task.leases[lease.id] = lease.worker
            self._touched_tasks[event.task] = task
            self.outbox.lent.append((task, event.leases))

    def _task_verified(self, event: ev.TaskVerified, _recorded: Recorded) -> None:
        task, job = self.tasks.pop(event.task, None), self.jobs.get(event.job)
        if task is None or job is None:
            return
        task.digest, task.size, task.workers, task.method = event.digest, event.size, event.workers, event.method
        self.tasks_of[event.job].discard(event.task)
        self._touched_tasks[event.task] = task
        job.cells_done += event.tile.cells
        job.tasks_verified += 1
        job.tasks_active -= 1
        self.reputations.used(event)
        for worker_id in event.workers:
            worker = self.workers.get(worker_id)
            if worker is not None:
                worker.verified += 1
                worker.ops += event.ops
                self._touched_workers.add(worker_id)
        self._touch_job(job)
        self.outbox.dropped.append(task)

    def _task_unresolved(self, event: ev.TaskUnresolved, _recorded: Recorded) -> None:
        task, job = self.tasks.pop(event.task, None), self.jobs.get(event.job)
        if task is None or job is None:
            return
        self.tasks_of[event.job].discard(event.task)
        task.method = "unresolved"
        self._touched_tasks[event.task] = task
        job.tasks_active -= 1
        self._touch_job(job)
        self.outbox.dropped.append(task)

    def _fraud_detected(self, event: ev.FraudDetected, recorded: Recorded) -> None:
        job, worker = self.jobs.get(event.job), self.workers.get(event.worker)
        values = {name: getattr(event, name) for name in FraudView.__struct_fields__ if name != "at_ms"}
        self._frauds.append(FraudView(**values, at_ms=recorded.at_ms))
        self._frauds_in[event.job] = self._frauds_in.get(event.job, 0) + 1
        if job is not None:
            job.frauds += 1
            self._touch_job(job)
        if worker is not None:
            worker.banned = True
            self._touched_workers.add(worker.id)
        self.outbox.frauds.append(event)

    def _worker_joined(self, event: ev.WorkerJoined, recorded: Recorded) -> None:
        before = self.workers.get(event.worker)
        self.workers[event.worker] = WorkerView(
            event.worker,
            event.session,
            event.gateway,
            event.instance,
            event.address,
            event.agent,
            event.probe.backend,
            event.probe.gpu,
            event.probe.memory_mib,
            event.probe.gops,
            banned=before.banned if before else False,
            verified=before.verified if before else 0,
            ops=before.ops if before else 0,
            joined_ms=recorded.at_ms,
        )
        self._touched_workers.add(event.worker)
        self.outbox.joined.append((recorded.seq, event))

    def _worker_tiered(self, event: ev.WorkerTiered, _recorded: Recorded) -> None:
        worker = self.workers.get(event.worker)
        if worker is not None and worker.session == event.session:
            worker.tier, worker.gops = event.tier, event.gops
            self._touched_workers.add(event.worker)
            self.outbox.tiered.append(event)

    def _worker_left(self, event: ev.WorkerLeft, _recorded: Recorded) -> None:
        worker = self.workers.get(event.worker)
        if worker is not None and worker.session == event.session:
            worker.present = False
            self._touched_workers.add(event.worker)

    def _gateway_started(self, event: ev.GatewayStarted, _recorded: Recorded) -> None:
        for worker in self.workers.values():
            if worker.gateway == event.gateway and worker.instance != event.instance and worker.present:
                worker.present = False
                self._touched_workers.add(worker.id)

    def _touch_job(self, job: JobView) -> None:
        self._touched_jobs[job.id] = job
        self.outbox.jobs.add(job.id)


_HANDLERS: dict[type | None, Callable[[Views, Any, Recorded], None]] = {
    ev.JobSubmitted: Views._job_submitted,
    ev.JobCompleted: Views._job_completed,
    ev.JobFailed: Views._job_failed,
    ev.JobCancelled: Views._job_cancelled,
    ev.JobReopened: Views._job_reopened,
    ev.TaskCreated: Views._task_created,
    ev.TaskAssigned: Views._task_assigned,
    ev.TaskVerified: Views._task_verified,
    ev.TaskUnresolved: Views._task_unresolved,
    ev.FraudDetected: Views._fraud_detected,
    ev.WorkerJoined: Views._worker_joined,
    ev.WorkerTiered: Views._worker_tiered,
    ev.WorkerLeft: Views._worker_left,
    ev.GatewayStarted: Views._gateway_started,
}
