"""evolve: how each event changes the matchmaker's state. Never refuses, touches no clock and no I/O.

`touched` collects what changed since the last commit, so that the projection writes each row once a batch; an ended
job leaves memory with its tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shardy_common import kinds, limits, trust
from shardy_common.log import Recorded
from shardy_common.shelf import Shelf
from shardy_common.wire import events as ev
from shardy_matchmaker import reliability
from shardy_matchmaker.state import (
    ANSWERED,
    EXPIRED,
    FAILED,
    FRAUD,
    LIVE,
    JobState,
    LeaseState,
    TaskState,
    WorkerState,
)
from shardy_matchmaker.tiers import believable_gops

PROBE_OPS = 2 * limits.PROBE_SIDE**3 * limits.PROBE_ROUNDS
LEARNING_MS_MIN = 20.0  # a shorter task says more about overheads than about speed


class Fold:
    def __init__(self) -> None:
        self.workers: Shelf[WorkerState] = Shelf()
        self.jobs: dict[str, JobState] = {}
        self.tasks: dict[str, TaskState] = {}
        self.ended: dict[str, str] = {}  # jobs ended since the last commit, with how
        self.touched: dict[str, set[str]] = {"workers": set(), "jobs": set(), "tasks": set()}
        self.moved: set[str] = set()  # workers that were touched, until the next round has looked at them
        self.dead_tasks: dict[str, TaskState] = {}  # left memory since the last commit
        self.dead_jobs: dict[str, JobState] = {}
        self.tasks_of: dict[str, set[str]] = {}
        self.wanting: dict[str, str] = {}  # tasks with fewer counting leases than needed, oldest first → requester
        self.wanting_of: dict[str, dict[str, None]] = {}  # the same by requester
        self.unjudged: dict[str, None] = {}  # tasks that wait for nobody's answer any more, only for a verdict
        self.fresh: dict[str, None] = {}  # jobs that came, or came back, since the last decision
        self.ending: dict[str, None] = {}  # jobs whose end is to be proposed
        self.untiered: dict[str, None] = {}
        self.book = trust.Book()
        self.incoming: dict[str, list[str]] = {}  # worker → leases lost at its latest join

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, recorded)

    # -- jobs -----------------------------------------------------------------------------------------------------

    def _job_submitted(self, event: ev.JobSubmitted, recorded: Recorded) -> None:
        rows, cols = kinds.KINDS[event.spec.kind].shape(event.spec)
        self.jobs[event.job] = JobState(
            event.job, recorded.seq, event.spec, event.requester, rows * cols, recorded.trace
        )
        self.tasks_of[event.job] = set()
        self.fresh[event.job] = None
        self.touched["jobs"].add(event.job)

    def _job_ended(self, event: Any, _recorded: Recorded) -> None:
        job = self.jobs.pop(event.job, None)
        if job is None:
            return
        self.dead_jobs[event.job] = job
        self.fresh.pop(event.job, None)
        self.ending.pop(event.job, None)
        for task_id in self.tasks_of.pop(event.job, set()):
            self._drop_task(task_id)

    def _job_reopened(self, event: ev.JobReopened, recorded: Recorded) -> None:
        """All that is needed stands in the event: an ended job is in memory no longer."""
        if event.job in self.jobs:
            return
        kind = kinds.KINDS[event.spec.kind]
        rows, cols = kind.shape(event.spec)
        made = event.tasks_verified + len(event.tasks)
        self.jobs[event.job] = JobState(
            event.job,
            recorded.seq,
            event.spec,
            event.requester,
            rows * cols,
            recorded.trace,
            event.cursor,
            event.cells_done,
            made,
        )
        self.dead_jobs.pop(event.job, None)
        self.tasks_of[event.job] = set()
        self.fresh[event.job] = None
        self.touched["jobs"].add(event.job)
        need = kinds.answers_wanted(event.spec)
        for task_id, tile in event.tasks:
            task = TaskState(task_id, event.job, tile, 0, need, kind.ops(event.spec, tile.rows, tile.cols))
            self.tasks[task_id] = task
            self.dead_tasks.pop(task_id, None)
            self.tasks_of[event.job].add(task_id)
            self._lend(task, [], recorded.at_ms)
        self.look_for_end(self.jobs[event.job])

    def look_for_end(self, job: JobState) -> None:
        if job.failing or job.cells_done >= job.cells:
            self.ending[job.id] = None

    # -- tasks ----------------------------------------------------------------------------------------------------

    def _task_created(self, event: ev.TaskCreated, recorded: Recorded) -> None:
        job = self.jobs.get(event.job)
        if job is None:
            return
        kind = kinds.KINDS[job.spec.kind]
        shape = kind.shape(job.spec)
        if not job.cursor.accepts(event.tile, shape):
            return  # void: see shardy_common/carving.py
        ops = kind.ops(job.spec, event.tile.rows, event.tile.cols)
        need = kinds.answers_wanted(job.spec, event.need)
        task = TaskState(event.task, event.job, event.tile, recorded.own_seq, need, ops)
        if need == 1 and job.spec.policy == "adaptive":
            task.lone = len(event.leases) == 1 and self.book.lend(task.id, event.leases[0].worker, ops)
            task.need = 1 if task.lone else job.spec.redundancy
        self.tasks[event.task] = task
        self.tasks_of[event.job].add(event.task)
        job.cursor = job.cursor.after(event.tile, shape)
        job.tasks_made += 1
        self.touched["jobs"].add(event.job)
        self._lend(task, event.leases, recorded.at_ms)

    def _task_assigned(self, event: ev.TaskAssigned, recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is not None:
            task.seq = recorded.seq
            self._lend(task, event.leases, recorded.at_ms)

    def _task_expired(self, event: ev.TaskExpired, recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is not None:
            task.seq = recorded.seq
            self.touched["tasks"].add(task.id)
            for lease in event.leases:
                if lease in task.leases and task.leases[lease].state == LIVE:  # not if its result came first
                    self._end_lease(task, lease, EXPIRED)
                    worker = self.workers.find(task.leases[lease].worker)
                    if event.cause == "deadline" and worker is not None:
                        reliability.ran_out(worker, task.leases[lease].lent_ms, recorded.at_ms)
                        self.touched["workers"].add(worker.id)

    def _task_disputed(self, event: ev.TaskDisputed, recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is not None:
            task.seq = recorded.seq
            self._share(task)
            # never fewer than the policy wants: voices that were counted when the dispute was written may be silenced
            task.need = max(task.answered + event.need, kinds.answers_wanted(self.jobs[task.job].spec))
            self.touched["tasks"].add(task.id)
            self.weigh(task)

    def _task_verified(self, event: ev.TaskVerified, recorded: Recorded) -> None:
        self.book.verified(event.task, event.workers, event.method, event.ops, recorded.at_ms)
        job = self.jobs.get(event.job)
        if job is not None and event.task in self.tasks:
            job.cells_done += event.tile.cells
            self.touched["jobs"].add(event.job)
            self.tasks_of[event.job].discard(event.task)
            self._drop_task(event.task)
            self.look_for_end(job)

    def _task_unresolved(self, event: ev.TaskUnresolved, _recorded: Recorded) -> None:
        job = self.jobs.get(event.job)
        if job is not None and event.task in self.tasks:  # not one of those that a reopened job left behind
            job.failing = event.cause
            self.ending[job.id] = None
            self.touched["jobs"].add(event.job)
            self.tasks_of[event.job].discard(event.task)
            self._drop_task(event.task)

    def _result_submitted(self, event: ev.ResultSubmitted, _recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is None:
            return
        lease = task.leases.get(event.lease)
        if lease is None or lease.worker != event.worker or lease.state in (ANSWERED, FRAUD) or lease.unproved:
            return
        worker = self.workers.find(event.worker)
        if self.book.convicted(event.worker):
            self._end_lease(task, event.lease, FRAUD)
            return
        self._end_lease(task, event.lease, ANSWERED)
        if worker is None:
            return
        if worker.strikes:
            reliability.answered(worker)
            self.touched["workers"].add(worker.id)
        if event.ms < LEARNING_MS_MIN:
            return
        seen = task.ops / event.ms / 1e6
        # one result moves the belief by at most a factor of two: a single odd timing does no harm
        worker.gops = max(0.01, 0.7 * worker.gops + 0.3 * min(seen, 4.3 * worker.gops))
        self.touched["workers"].add(worker.id)

    def _result_failed(self, event: ev.ResultFailed, _recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        lease = task.leases.get(event.lease) if task is not None else None
        if task is not None and lease is not None and lease.worker == event.worker and lease.state == LIVE:
            self._end_lease(task, event.lease, FAILED)

    def _proof_rejected(self, event: ev.ProofRejected, recorded: Recorded) -> None:
        """Somebody else gets the task. Who was late, or held to a version that counts no more, may get it again."""
        task = self.tasks.get(event.task)
        lease = task.leases.get(event.lease) if task is not None else None
        if task is None or lease is None or lease.state != ANSWERED:
            return
        lease.unproved = True
        self._end_lease(task, event.lease, FAILED if event.cause in ("wrong", "failed") else EXPIRED)
        worker = self.workers.find(lease.worker)
        if event.cause == "late" and worker is not None:
            reliability.ran_out(worker, lease.lent_ms, recorded.at_ms)
            self.touched["workers"].add(worker.id)

    def _fraud_detected(self, event: ev.FraudDetected, _recorded: Recorded) -> None:
        worker = self.workers.find(event.worker)
        if worker is not None:
            worker.banned = True
            self.touched["workers"].add(worker.id)
        task = self.tasks.get(event.task)
        if task is not None:
            self._end_lease(task, event.lease, FRAUD)
        if self.book.fraud(event.worker):
            self._silence(event.worker)

    def _silence(self, worker: str) -> None:
        """What a liar said elsewhere counts no more: its answers to open tasks were only its word (quorum/task.py
        does the same), and what it has on trust is replicated. Leases that it still has run out as those of a banned
        worker."""
        for task_id in self.book.held_alone(worker):
            self._share(self.tasks[task_id])
            self.weigh(self.tasks[task_id])
        for task in self.tasks.values():
            for lease_id, lease in task.leases.items():
                if lease.worker == worker and lease.state == ANSWERED:
                    self._end_lease(task, lease_id, FRAUD)

    # -- workers --------------------------------------------------------------------------------------------------

    def _worker_joined(self, event: ev.WorkerJoined, _recorded: Recorded) -> None:
        before = self.workers.find(event.worker)
        claimed = believable_gops(event.probe.gops, PROBE_OPS, event.probe.gateway_ms)
        gops = reliability.speed_at_join(claimed, before)
        worker = WorkerState(
            event.worker,
            event.session,
            event.gateway,
            event.instance,
            event.address,
            event.agent,
            event.probe.backend,
            event.probe.memory_mib,
            gops,
            gops,
            banned=before.banned if before else False,
            leases=before.leases if before else {},
            queued_ops=before.queued_ops if before else 0,
            strikes=before.strikes if before else 0,
            strike_ms=before.strike_ms if before else 0,
            late_ms=before.late_ms if before else 0,
            proves_mib=event.probe.proves_mib,
        )
        self.workers[event.worker] = worker
        self.touched["workers"].add(event.worker)
        self.untiered[event.worker] = None
        held = set(event.held)
        # in an order of their own: leases that were loaded have another one than leases that were folded
        worker.lost = sorted(lease for lease in worker.leases if lease not in held)
        self.incoming[event.worker] = list(worker.lost)

    def _worker_tiered(self, event: ev.WorkerTiered, _recorded: Recorded) -> None:
        worker = self.workers.find(event.worker)
        if worker is not None and worker.session == event.session:
            worker.tier, worker.max_leases = event.tier, event.max_leases
            self.untiered.pop(event.worker, None)
            self.touched["workers"].add(event.worker)

    def _worker_left(self, event: ev.WorkerLeft, recorded: Recorded) -> None:
        worker = self.workers.find(event.worker)
        if worker is None or worker.session != event.session:
            return
        worker.present = False
        worker.absent_ms = recorded.at_ms if event.cause == "dropped" else 1
        self.untiered.pop(event.worker, None)
        self.touched["workers"].add(event.worker)

    def _gateway_started(self, event: ev.GatewayStarted, recorded: Recorded) -> None:
        for worker in self.workers.values():
            if worker.gateway == event.gateway and worker.instance != event.instance and worker.present:
                worker.present, worker.absent_ms = False, recorded.at_ms
                self.untiered.pop(worker.id, None)
                self.touched["workers"].add(worker.id)

    # -- shared ---------------------------------------------------------------------------------------------------

    def _lend(self, task: TaskState, leases: list[ev.Lease], at_ms: int) -> None:
        for lease in leases:
            worker = self.workers.find(lease.worker)
            address = worker.address if worker else ""
            task.leases[lease.id] = LeaseState(lease.worker, address, lease.deadline_ms, LIVE, at_ms)
            if worker is not None:
                worker.leases[lease.id] = task.id
                worker.queued_ops += task.ops
                self.touched["workers"].add(worker.id)
        self.touched["tasks"].add(task.id)
        self.weigh(task)

    def _end_lease(self, task: TaskState, lease_id: str, state: str) -> None:
        lease = task.leases.get(lease_id)
        if lease is None:
            return
        lease.state = state
        self._unlease(lease.worker, lease_id, task.ops)
        if state != ANSWERED:
            self._share(task)
        self.touched["tasks"].add(task.id)
        self.weigh(task)

    def _unlease(self, worker_id: str, lease_id: str, ops: int) -> None:
        worker = self.workers.find(worker_id)
        if worker is not None and worker.leases.pop(lease_id, None) is not None:
            worker.queued_ops -= ops
            self.touched["workers"].add(worker_id)

    def _share(self, task: TaskState) -> None:
        """The one worker that had this task on trust will not do: it is replicated from now on."""
        if task.lone:
            task.lone = False
            task.need = kinds.answers_wanted(self.jobs[task.job].spec)
            self.touched["tasks"].add(task.id)
            self.book.release(task.id)

    def weigh(self, task: TaskState) -> None:
        """File the task among those that want further leases, or that only want a verdict, or neither."""
        if task.counting < task.need:
            self.want(task)
            self.unjudged.pop(task.id, None)
            return
        if task.id in self.wanting:
            self._unwant(task.id)
        for lease in task.leases.values():
            if lease.state == LIVE:
                self.unjudged.pop(task.id, None)
                return
        self.unjudged[task.id] = None

    def want(self, task: TaskState) -> None:
        if task.id not in self.wanting:
            requester = self.wanting[task.id] = self.jobs[task.job].requester
            self.wanting_of.setdefault(requester, {})[task.id] = None

    def _unwant(self, task_id: str) -> None:
        requester = self.wanting.pop(task_id)
        del self.wanting_of[requester][task_id]
        if not self.wanting_of[requester]:
            del self.wanting_of[requester]

    def _drop_task(self, task_id: str) -> None:
        task = self.tasks.pop(task_id, None)
        if task is None:
            return
        for lease_id, lease in task.leases.items():
            if lease.state == LIVE:
                self._unlease(lease.worker, lease_id, task.ops)
        if task.lone:
            self.book.release(task_id)
        if task_id in self.wanting:
            self._unwant(task_id)
        self.unjudged.pop(task_id, None)
        self.dead_tasks[task_id] = task


_HANDLERS: dict[type | None, Callable[[Fold, Any, Recorded], None]] = {
    ev.JobSubmitted: Fold._job_submitted,
    ev.JobCompleted: Fold._job_ended,
    ev.JobFailed: Fold._job_ended,
    ev.JobCancelled: Fold._job_ended,
    ev.JobReopened: Fold._job_reopened,
    ev.TaskCreated: Fold._task_created,
    ev.TaskAssigned: Fold._task_assigned,
    ev.TaskExpired: Fold._task_expired,
    ev.TaskDisputed: Fold._task_disputed,
    ev.TaskVerified: Fold._task_verified,
    ev.TaskUnresolved: Fold._task_unresolved,
    ev.ResultSubmitted: Fold._result_submitted,
    ev.ResultFailed: Fold._result_failed,
    ev.ProofRejected: Fold._proof_rejected,
    ev.FraudDetected: Fold._fraud_detected,
    ev.WorkerJoined: Fold._worker_joined,
    ev.WorkerTiered: Fold._worker_tiered,
    ev.WorkerLeft: Fold._worker_left,
    ev.GatewayStarted: Fold._gateway_started,
}
FILTERS = [
    "job.*.*",
    "task.*.*",
    "result.*.*",
    "worker.*.*",
    "gateway.started.*",
    "fraud.detected.*",
    "proof.rejected.*",
]
