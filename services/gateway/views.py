"""The gateway's fold: jobs, tasks, workers and frauds as requesters and sessions need to see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from shardy_common import kinds
from shardy_common.log import Projection, Recorded, Table
from shardy_common.shelf import Shelf
from shardy_common.wire import events as ev
from shardy_gateway.ceremonies import CeremonySide
from shardy_gateway.evidence import Answers, MeshKeys
from shardy_gateway.idempotency import Idempotency
from shardy_gateway.keyring import Keyring
from shardy_gateway.ledger import Ledger
from shardy_gateway.letters import Letters
from shardy_gateway.load import Load
from shardy_gateway.outbox import Outbox
from shardy_gateway.proving import Proofs
from shardy_gateway.reputation import Reputations
from shardy_gateway.shapes import FraudView, JobView, TaskView, WorkerView
from shardy_gateway.side import SideFold, by_event
from shardy_gateway.verifiers import Verifiers

SIDES = (Letters, Answers, Ledger, MeshKeys, Reputations, Keyring, Idempotency, Verifiers, CeremonySide, Proofs)
TABLES = [
    Table(
        "jobs",
        {"id": str, "active": int, "requester": str, "state": str, "since": int, "until": int, "body": bytes},
        [["active"], ["requester", "id"], ["state", "id"]],
    ),
    Table(
        "tasks",
        {"id": str, "job": str, "active": int, "row0": int, "col0": int, "rows": int, "cols": int, "body": bytes},
        [["job", "col0", "row0", "id"], ["active"]],
    ),
    Table("workers", {"id": str, "present": int, "body": bytes}, [["present", "id"]]),
    Table(
        "frauds",
        {"lease": str, "job": str, "worker": str, "seq": int, "body": bytes},
        [["job"], ["worker", "seq"], ["seq"]],
    ),
    *(table for side in SIDES for table in side.tables),
]
VERSION = 11
FILTERS = ["job.*.*", "task.*.*", "fraud.detected.*", "worker.*.*", "gateway.started.*"]
FILTERS += [pattern for side in SIDES for pattern in side.filters if pattern not in FILTERS]

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
        self.workers: Shelf[WorkerView] = Shelf()
        self.load_now = Load()
        self.outbox = Outbox()
        self._touched_tasks: dict[str, TaskView] = {}
        self._touched_jobs: dict[str, JobView] = {}
        self._touched_workers: set[str] = set()
        self._frauds: list[FraudView] = []
        self.letters, self.answers, self.ledger, self.mesh_keys = (
            Letters(),
            Answers(self.tasks, self._proves),
            Ledger(),
            MeshKeys(),
        )
        self._frauds_in: dict[str, int] = {}  # by job, for jobs that go on after their end
        self.reputations = Reputations(lambda task: self.tasks[task].leases if task in self.tasks else {})
        self.keyring, self.idempotency, self.verifiers = Keyring(), Idempotency(), Verifiers()
        self.ceremonies = CeremonySide()
        self.proofs = Proofs(self.verifiers.registry, self.tasks)
        self.sides: tuple[SideFold, ...] = (  # in the order of SIDES
            self.letters,
            self.answers,
            self.ledger,
            self.mesh_keys,
            self.reputations,
            self.keyring,
            self.idempotency,
            self.verifiers,
            self.ceremonies,
            self.proofs,
        )
        for side in self.sides:
            side.flush = self._flush

    # -- service core ---------------------------------------------------------------------------------------------

    def load(self, projection: Projection) -> None:
        self.projection = projection
        for (body,) in projection.rows("SELECT body FROM jobs WHERE active = 1 ORDER BY id"):
            job = _job(body)
            self.jobs[job.id] = job
            self.tasks_of[job.id] = set()
            self.load_now.began(job)
        for (body,) in projection.rows("SELECT body FROM tasks WHERE active = 1"):
            task = _task(body)
            if task.job in self.jobs:
                self.tasks[task.id] = task
                self.tasks_of[task.job].add(task.id)
        self.workers.recall, self.workers.spilled = self._worker_of, True
        for (body,) in projection.rows("SELECT body FROM workers WHERE present = 1"):
            worker = _worker(body)
            self.workers[worker.id] = worker
        self._frauds_in = dict(projection.rows("SELECT job, COUNT(*) FROM frauds GROUP BY job"))
        for side in self.sides:
            side.load(projection)

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, recorded)
        for side in _SIDES_OF.get(type(event), ()):
            self.sides[side].evolve(recorded)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        self.workers.trim(self._touched_workers, lambda worker: not worker.present)
        out: dict[str, list[Sequence[Any]]] = {
            "jobs": [
                (j.id, int(not j.ended), j.requester, j.state, j.since, j.seq if j.ended else 0, _pack(j))
                for j in self._touched_jobs.values()
            ],
            "tasks": [
                (t.id, t.job, int(t.id in self.tasks), t.tile.row0, t.tile.col0, t.tile.rows, t.tile.cols, self._row(t))
                for t in self._touched_tasks.values()
            ],
            "workers": [(w, int(self.workers[w].present), _pack(self.workers[w])) for w in self._touched_workers],
            "frauds": [(f.lease, f.job, f.worker, f.seq, _pack(f)) for f in self._frauds],
        }
        self._touched_jobs.clear()
        self._touched_tasks.clear()
        self._touched_workers.clear()
        self._frauds.clear()
        for side in self.sides:
            out |= side.rows()
        return {table: rows for table, rows in out.items() if rows}

    def _row(self, task: TaskView) -> bytes:
        """An active task without its answers, which are gathered again (evidence.py): they do not write it anew, so
        whether it had them would depend on when it was written."""
        if task.answers and task.id in self.tasks:
            task = msgspec.structs.replace(task, answers={})
        return _pack(task)

    def take_outbox(self) -> Outbox:
        outbox, self.outbox = self.outbox, Outbox()
        return outbox

    def _proves(self, job_id: str) -> bool:
        """Whether the results of an active job are proved."""
        return self.jobs[job_id].spec.policy == kinds.PROOF

    # -- look-ups -------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self.flush()

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self.flush()
        return self.projection.rows(sql, parameters)

    def job(self, job_id: str) -> JobView | None:
        """Active or ended."""
        job = self.jobs.get(job_id)
        if job is not None:
            return job
        rows = self.read("SELECT body FROM jobs WHERE id = ?", (job_id,))
        return _job(rows[0][0]) if rows else None

    def tasks_in(self, job_id: str) -> list[TaskView]:
        rows = self.read("SELECT body FROM tasks WHERE job = ? ORDER BY col0, row0, id", (job_id,))
        return [_task(body) for (body,) in rows]

    def task(self, task_id: str) -> TaskView | None:
        rows = self.read("SELECT body FROM tasks WHERE id = ?", (task_id,))
        return _task(rows[0][0]) if rows else None

    def task_state(self, task_id: str) -> str:
        """active | ended | unknown."""
        if task_id in self.tasks:
            return "active"
        return "ended" if self.read("SELECT 1 FROM tasks WHERE id = ?", (task_id,)) else "unknown"

    def worker_page(self, after: str, present: bool | None, limit: int) -> list[WorkerView]:
        """Devices by id, those too that are in the rows only."""
        chosen = "" if present is None else f" AND present = {int(present)}"
        sql = f"SELECT body FROM workers WHERE id > ?{chosen} ORDER BY id LIMIT ?"
        return [_worker(body) for (body,) in self.read(sql, (after, limit))]

    def _worker_of(self, worker_id: str) -> WorkerView | None:
        rows = self.projection.rows("SELECT body FROM workers WHERE id = ?", (worker_id,))
        return _worker(rows[0][0]) if rows else None

    def frauds(self, job_id: str, limit: int = 100) -> list[FraudView]:
        rows = self.read("SELECT body FROM frauds WHERE job = ? ORDER BY seq LIMIT ?", (job_id, limit))
        return [_fraud(body) for (body,) in rows]

    # -- fold -----------------------------------------------------------------------------------------------------

    def _job_submitted(self, event: ev.JobSubmitted, recorded: Recorded) -> None:
        rows, cols = kinds.KINDS[event.spec.kind].shape(event.spec)
        job = JobView(event.job, recorded.seq, event.spec, event.requester, recorded.at_ms, rows * cols, recorded.trace)
        job.since = recorded.seq
        self.jobs[event.job] = job
        self.load_now.began(job)
        self.tasks_of[event.job] = set()
        self._touch_job(job)

    def _job_completed(self, event: ev.JobCompleted, recorded: Recorded) -> None:
        self._end(event.job, "completed", "", recorded)

    def _job_failed(self, event: ev.JobFailed, recorded: Recorded) -> None:
        job = self.jobs.get(event.job)
        self._end(event.job, "failed", event.cause, recorded)
        if job is not None:
            self.ledger.failed(job.id, job.ops, job.ops_replicas)

    def _job_cancelled(self, event: ev.JobCancelled, recorded: Recorded) -> None:
        job = self.jobs.get(event.job)
        who = "an operator" if job is not None and event.by != job.requester else "its requester"
        self._end(event.job, "cancelled", f"cancelled by {who}", recorded)

    def _job_reopened(self, event: ev.JobReopened, recorded: Recorded) -> None:
        if event.job in self.jobs:
            return
        rows, cols = kinds.KINDS[event.spec.kind].shape(event.spec)
        job = JobView(
            event.job, recorded.seq, event.spec, event.requester, event.created_ms, rows * cols, recorded.trace
        )
        job.state, job.cursor, job.entry = "running", event.cursor, event.entry
        job.cells_done, job.tasks_verified, job.tasks_active = event.cells_done, event.tasks_verified, len(event.tasks)
        job.frauds, job.changes = self._frauds_in.get(event.job, 0), recorded.seq  # more than it ever was
        job.ops, job.ops_replicas = self.ledger.reopened(event.job)
        self.jobs[event.job] = job
        self.load_now.began(job)
        self.tasks_of[event.job] = {task_id for task_id, _ in event.tasks}
        for task_id, tile in event.tasks:
            task = TaskView(task_id, event.job, tile, {}, seq=recorded.seq)
            self.tasks[task_id] = self._touched_tasks[task_id] = task
        self._touch_job(job)

    def _end(self, job_id: str, state: str, error: str, recorded: Recorded) -> None:
        job = self.jobs.pop(job_id, None)
        if job is None:
            return
        self.load_now.ended(job)
        job.seq, job.state, job.error, job.ended_ms, job.tasks_active = recorded.seq, state, error, recorded.at_ms, 0
        for task_id in self.tasks_of.pop(job_id, set()):
            task = self.tasks.pop(task_id)
            task.method = "dropped"
            self._touched_tasks[task_id] = task
            self.outbox.dropped.append(task)
        self._touch_job(job)
        self.outbox.ended.append(job)

    def _task_created(self, event: ev.TaskCreated, recorded: Recorded) -> None:
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
        task.seq = recorded.seq
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

    def _task_verified(self, event: ev.TaskVerified, recorded: Recorded) -> None:
        task, job = self.tasks.pop(event.task, None), self.jobs.get(event.job)
        if task is None or job is None:
            return
        task.digest, task.size, task.workers, task.method = event.digest, event.size, event.workers, event.method
        task.rounds, task.ops, task.seq, task.verified_ms = event.rounds, event.ops, recorded.seq, recorded.at_ms
        job.ops += event.ops
        self.load_now.verified(job.id, event.ops, recorded.at_ms)
        job.ops_replicas += event.ops * self.ledger.credit(event, job.requester, recorded.seq)
        self.tasks_of[event.job].discard(event.task)
        self._touched_tasks[event.task] = task
        job.cells_done += event.tile.cells
        job.tasks_verified += 1
        job.tasks_active -= 1
        self.reputations.used(event)
        for worker_id in event.workers:
            worker = self.workers.find(worker_id)
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
        job, worker = self.jobs.get(event.job), self.workers.find(event.worker)
        values = {name: getattr(event, name) for name in FraudView.__struct_fields__ if name not in ("at_ms", "seq")}
        self._frauds.append(FraudView(**values, at_ms=recorded.at_ms, seq=recorded.seq))
        self._frauds_in[event.job] = self._frauds_in.get(event.job, 0) + 1
        if job is not None:
            job.frauds += 1
            self._touch_job(job)
        if worker is not None:
            worker.banned = True
            self._touched_workers.add(worker.id)
        self.outbox.frauds.append(event)

    def _proof_challenged(self, event: ev.ProofChallenged, _recorded: Recorded) -> None:
        self.outbox.challenged.append(event)

    def _worker_joined(self, event: ev.WorkerJoined, recorded: Recorded) -> None:
        before = self.workers.find(event.worker)
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
            proves_mib=event.probe.proves_mib,
        )
        self._touched_workers.add(event.worker)
        self.outbox.joined.append((recorded.seq, event))

    def _worker_tiered(self, event: ev.WorkerTiered, _recorded: Recorded) -> None:
        worker = self.workers.find(event.worker)
        if worker is not None and worker.session == event.session:
            worker.tier, worker.gops = event.tier, event.gops
            self._touched_workers.add(event.worker)
            self.outbox.tiered.append(event)

    def _worker_left(self, event: ev.WorkerLeft, _recorded: Recorded) -> None:
        worker = self.workers.find(event.worker)
        if worker is not None and worker.session == event.session:
            worker.present = False
            self._touched_workers.add(event.worker)

    def _gateway_started(self, event: ev.GatewayStarted, _recorded: Recorded) -> None:
        for worker in self.workers.values():
            if worker.gateway == event.gateway and worker.instance != event.instance and worker.present:
                worker.present = False
                self._touched_workers.add(worker.id)

    def _touch_job(self, job: JobView) -> None:
        job.changes += 1
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
    ev.ProofChallenged: Views._proof_challenged,
    ev.WorkerJoined: Views._worker_joined,
    ev.WorkerTiered: Views._worker_tiered,
    ev.WorkerLeft: Views._worker_left,
    ev.GatewayStarted: Views._gateway_started,
}
_SIDES_OF = by_event(SIDES)
