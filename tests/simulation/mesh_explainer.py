"""Explains each event of the log by what the log held before it, apart from all services: an event that follows from
nothing breaks an invariant. Keeps what requesters and workers are owed on the way.

Rules of one job or task stand here; those of workers, letters and keys in mesh_explained.py.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mesh_explained import Others
from mesh_oracle import check
from mesh_proofs import Proofs
from mesh_work import shape_of, whole

from shardy_common import kinds, limits, trust
from shardy_common.log import Recorded
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Tile
from shardy_gateway.evidence import place_of

if TYPE_CHECKING:
    from mesh_world import Mesh


@dataclass(slots=True)
class LeaseStory:
    worker: str
    seq: int
    session: str  # of its worker, for which it was lent
    stale: bool  # its worker was away, or had another session, when it was lent
    state: str = "live"  # then answered, expired, failed
    over: bool = False  # it ran out, whether it was answered then or not
    digest: str = ""  # of its answer
    answered: int = 0  # the sequence of that
    place: int = 0  # and its place
    unblamed: bool = False  # there is no proof of its result, and its worker may have the task again


@dataclass(slots=True)
class TaskStory:
    """void: it does not begin where its job's last real task ended. alone: one worker has it on trust."""

    id: str
    job: str
    tile: Tile
    void: bool = False
    alone: bool = False
    leases: dict[str, LeaseStory] = field(default_factory=dict)
    votes: dict[str, tuple[str, int]] = field(default_factory=dict)  # worker → digest and place of its first answer
    condemned: set[str] = field(default_factory=set)
    ended: str = ""  # verified, unresolved or left
    digest: str = ""


@dataclass(slots=True)
class JobStory:
    """life: tasks that count now; a job that goes on has new ones for the tiles that it missed."""

    id: str
    spec: JobSpec
    owner: str
    seq: int
    row0: int = 0
    col0: int = 0
    band: int = 0
    state: str = "active"
    life: dict[str, TaskStory] = field(default_factory=dict)
    done: dict[Tile, str] = field(default_factory=dict)  # verified tiles → digest
    unresolved: int = 0
    reopenings: int = 0
    ops: int = 0
    ops_replicas: int = 0

    @property
    def cells_done(self) -> int:
        return sum(tile.cells for tile in self.done)


@dataclass(slots=True, frozen=True)
class Credit:
    workers: tuple[str, ...]
    owner: str


class Explainer(Others):
    def __init__(self, mesh: Mesh) -> None:
        super().__init__()
        self.mesh = mesh
        self.jobs: dict[str, JobStory] = {}
        self.tasks: dict[str, TaskStory] = {}
        self.open = 0
        self.verdicts_since_canary = 0
        self.proofs = Proofs(self)
        self.credit: dict[int, Credit] = {}  # by the verdict's place
        self._owed: dict[str, list[tuple[int, int, int]]] = defaultdict(lambda: [(0, 0, 0)])  # place, tasks, operations
        self._used: dict[str, list[tuple[int, int, int]]] = defaultdict(lambda: [(0, 0, 0)])

    def see(self, recorded: Recorded) -> None:
        """Call before the mesh's oracle sees it: that one knows what was known then."""
        self.tally[type(recorded.event).name] += 1  # type: ignore[union-attr]
        handler = _HANDLERS.get(type(recorded.event))
        if handler is not None:
            handler(self, recorded.event, recorded)
        elif recorded.subject.startswith("proof."):
            self.proofs.see(recorded.event, recorded)
        else:
            self.see_other(recorded.event, recorded)

    def open_jobs(self) -> list[str]:
        return [job.id for job in self.jobs.values() if job.state == "active"]

    def idle(self) -> bool:
        """All jobs ended, all letters that are due were written, and what a revocation reached was looked at again."""
        return self.open == 0 and not self.due and not self.proofs.owed() and len(self.jobs) >= self.mesh.shape.jobs

    def is_void(self, task: str) -> bool:
        return self.tasks[task].void

    # -- what is owed ---------------------------------------------------------------------------------------------

    def credited_until(self, seq: int) -> list[Credit]:
        return [credit for at, credit in self.credit.items() if at <= seq]

    def credit_of(self, worker: str, until: int) -> tuple[int, int]:
        return _at(self._owed[worker], until)

    def usage_of(self, owner: str, until: int) -> tuple[int, int]:
        return _at(self._used[owner], until)

    def _pay(self, job: JobStory, event: ev.TaskVerified, seq: int) -> None:
        job.ops += event.ops
        job.ops_replicas += event.ops * len(event.workers)
        self.credit[seq] = Credit(tuple(event.workers), job.owner)
        for worker in event.workers:
            _, tasks, ops = self._owed[worker][-1]
            self._owed[worker].append((seq, tasks + 1, ops + event.ops))
        _, tasks, ops = self._used[job.owner][-1]
        self._used[job.owner].append((seq, tasks + 1, ops + event.ops * len(event.workers)))

    # -- jobs -----------------------------------------------------------------------------------------------------

    def _submitted(self, event: ev.JobSubmitted, recorded: Recorded) -> None:
        check(event.job not in self.jobs, "a job twice:", event)
        if event.spec.policy == kinds.CANARY:
            check(event.job in self.prepared, "a canary whose answer nobody wrote down:", event)
        self.jobs[event.job] = JobStory(event.job, event.spec, event.requester, recorded.seq)
        self.mesh.work.specs[event.job] = event.spec
        self.open += 1

    def _ended(self, event: Any, recorded: Recorded) -> None:
        job = self.jobs[event.job]
        check(job.state == "active", "an end of what has ended:", event)
        job.state = event.name.partition(".")[2]
        job.seq = recorded.seq
        self.open -= 1
        if isinstance(event, ev.JobCompleted):
            rows, cols = shape_of(job.spec)
            check(job.cells_done == event.cells == rows * cols, "a job completed too soon:", event, job.done)
        elif isinstance(event, ev.JobFailed):
            check(job.unresolved > 0, "a job failed without a reason:", event)
        for task in job.life.values():
            if not task.ended:
                task.ended = "left"
                self.proofs.ended(task)

    def _reopened(self, event: ev.JobReopened, recorded: Recorded) -> None:
        job = self.jobs[event.job]
        check(job.state == "failed", "a job goes on that has not failed:", event)
        check(self.asks_for(event.entry, event.job), "a job goes on by no letter of its own:", event)
        where = (event.cursor.row0, event.cursor.col0, event.cursor.band_cols)
        check(where == (job.row0, job.col0, job.band), "a job goes on elsewhere:", event, job)
        check(event.cells_done == job.cells_done and event.tasks_verified == len(job.done), "other cells:", event)
        missing = {task.tile for task in job.life.values()} - job.done.keys()
        check({tile for _, tile in event.tasks} == missing, "a job goes on with other tiles than it misses:", event)
        check(len(event.tasks) == len(missing), "one tile twice:", event)
        job.state, job.seq, job.unresolved, job.reopenings = "active", recorded.seq, 0, job.reopenings + 1
        self.open += 1
        job.life = {}
        for task_id, tile in event.tasks:
            check(task_id not in self.tasks, "a task anew:", task_id)
            job.life[task_id] = self.tasks[task_id] = TaskStory(task_id, event.job, tile)
        self.reopened(event, recorded)

    def _prepared(self, event: ev.CanaryPrepared, _recorded: Recorded) -> None:
        every = self.mesh.pacing.every
        check(0 < every <= self.verdicts_since_canary, "a canary too soon:", event, self.verdicts_since_canary)
        right = self.mesh.work.right(event.job, whole(self.mesh.work.drafts[event.job]))[1]
        check(event.digest == right, "a canary with a wrong answer:", event)
        self.prepared[event.job] = event.digest
        self.verdicts_since_canary = 0

    # -- tasks and leases -----------------------------------------------------------------------------------------

    def _created(self, event: ev.TaskCreated, recorded: Recorded) -> None:
        check(event.task not in self.tasks, "a task twice:", event)
        job, tile = self.jobs[event.job], event.tile
        task = self.tasks[event.task] = TaskStory(event.task, event.job, tile)
        rows, cols = shape_of(job.spec)
        fits = tile.rows > 0 and tile.cols > 0 and tile.row0 + tile.rows <= rows and tile.col0 + tile.cols <= cols
        begins = (tile.row0, tile.col0) == (job.row0, job.col0) and job.band in (0, tile.cols)
        task.void = job.state != "active" or not fits or not begins
        check(bool(event.leases), "a task for nobody:", event)
        self._lend(task, event.leases, recorded.seq)
        if task.void:
            self.mesh.count("void tasks")
            return
        job.row0, job.col0, job.band = tile.row0 + tile.rows, tile.col0, tile.cols
        if job.row0 == rows:
            job.row0, job.col0, job.band = 0, tile.col0 + tile.cols, 0
        job.life[event.task] = task
        task.alone = event.need == 1 and job.spec.policy == "adaptive" and len(event.leases) == 1

    def _assigned(self, event: ev.TaskAssigned, recorded: Recorded) -> None:
        task = self._going_on(event)
        check(event.tile == task.tile, "another tile:", event, task)
        check(bool(event.leases), "a task assigned to nobody:", event)
        check(len(task.leases) + len(event.leases) <= limits.ATTEMPTS_MAX, "more leases than a task may have:", event)
        self._lend(task, event.leases, recorded.seq)

    def _lend(self, task: TaskStory, leases: list[ev.Lease], seq: int) -> None:
        needs = kinds.proving_mib(self.jobs[task.job].spec)
        for lease in leases:
            check(lease.id not in task.leases, "one lease twice:", lease)
            stale = self.stale(lease.worker, lease.session)
            check(self.proves[lease.session] >= needs, "lent to one that cannot prove:", lease, needs)
            for other in task.leases.values():
                if other.worker == lease.worker:
                    check(other.over or other.unblamed, "a worker has the task already:", lease, task)
                else:
                    apart = self.mesh.workers[other.worker].address != self.mesh.workers[lease.worker].address
                    check(apart, "two replicas at one address:", lease, task)
            task.leases[lease.id] = LeaseStory(lease.worker, seq, lease.session, stale)

    def _expired(self, event: ev.TaskExpired, _recorded: Recorded) -> None:
        task = self._going_on(event)
        check(bool(event.leases) and len(set(event.leases)) == len(event.leases), "nothing runs out:", event)
        for lease_id in event.leases:
            lease = task.leases[lease_id]
            check(not lease.over, "a lease runs out twice:", event)
            lease.over = True
            if event.cause == "banned":
                check(self.mesh.oracle.of(lease.worker).guilty, "no fraud was proven:", event)
            elif event.cause == "lost":
                gone = lease.stale or self.lost(lease.worker, lease.seq)
                check(gone, "a lease was lost by a worker that is there:", event)
            if lease.state == "live":  # its answer may have overtaken this
                lease.state = "expired"
                task.alone = False

    def _disputed(self, event: ev.TaskDisputed, _recorded: Recorded) -> None:
        task = self._going_on(event)
        job = self.jobs[task.job]
        voices = {worker: digest for digest, workers in event.votes.items() for worker in workers}
        for worker, digest in voices.items():
            check(task.votes.get(worker, ("",))[0] == digest, "a dispute of votes that nobody gave:", event, task.votes)
        disagree = len(event.votes) > 1 or self.mesh.tally["bytes that were missing"] > 0
        recomputed = job.spec.kind == "stream" and bool(task.condemned)
        check(bool(voices) and event.need > 0 and (disagree or recomputed), "a dispute about nothing:", event)
        task.alone = False

    def _unresolved(self, event: ev.TaskUnresolved, recorded: Recorded) -> None:
        task = self._going_on(event)
        check(len(task.leases) >= limits.ATTEMPTS_MAX, "a task was given up early:", event, task)
        live = [lease for lease in task.leases.values() if lease.state == "live"]
        silent = [x for x in live if not self.mesh.oracle.of(x.worker).guilty]
        check(not silent, "a task was given up while somebody has it:", event, silent)
        task.ended = "unresolved"
        self.proofs.ended(task)
        job = self.jobs[task.job]
        if task.id in job.life:
            job.unresolved += 1
        self.owe_letter(f"task-{task.id}", "unresolved", recorded, task.job)

    def _going_on(self, event: Any) -> TaskStory:
        task = self.tasks.get(event.task)
        check(task is not None and not task.void, "an event of a void task:", event)
        assert task is not None
        # what an end of its job overtook is no news of the task, but what follows its own end is a mistake
        check(task.ended in ("", "left"), "a task goes on after its end:", event, task.ended)
        return task

    # -- answers and verdicts -------------------------------------------------------------------------------------

    def _answered(self, event: ev.ResultSubmitted, recorded: Recorded) -> None:
        task, lease = self._lease_of(event)
        if lease.state == "answered":  # by a worker that came back, to another gateway: folds take the first
            worker = self.mesh.workers[event.worker]  # here a gateway listens to it before its join is in the log
            check(worker.session != lease.session, "a lease is answered twice:", event)
            same = event.digest == lease.digest
            check(same or not worker.honest, "a lease is answered twice, differently:", event)
            self.mesh.count("results recorded twice")
            return
        check(event.digest in self.mesh.work.blobs, "a result whose bytes are not stored:", event)
        check(event.size == len(self.mesh.work.blobs[event.digest]), "a result of another size:", event)
        lease.state, lease.digest = "answered", event.digest
        lease.answered, lease.place = recorded.seq, place_of(recorded)
        task.votes.setdefault(event.worker, (event.digest, place_of(recorded)))

    def _failed(self, event: ev.ResultFailed, _recorded: Recorded) -> None:
        task, lease = self._lease_of(event)
        if lease.state == "live":
            lease.state = "failed"
            task.alone = False
        self.proofs.gave_back(event)

    def _lease_of(self, event: Any) -> tuple[TaskStory, LeaseStory]:
        task = self.tasks[event.task]
        lease = task.leases.get(event.lease)
        check(not task.void, "an answer to a void task:", event)
        check(lease is not None and lease.worker == event.worker, "an answer without a lease:", event)
        assert lease is not None
        return task, lease

    def _fraud(self, event: ev.FraudDetected, recorded: Recorded) -> None:
        task, lease = self._lease_of(event)
        right = self.mesh.work.right(task.job, task.tile)[1]
        check(not self.mesh.workers[event.worker].honest, "an honest worker was accused:", event)
        proved = self.jobs[task.job].spec.policy == kinds.PROOF  # there each lease is an answer of its own
        said = lease.digest if proved else task.votes.get(event.worker, ("",))[0]
        check(said == event.digest, "a fraud that nobody committed:", event)
        check(event.digest != right, "a right result was called wrong:", event)
        check(event.lease not in task.condemned, "one fraud twice:", event)
        auditable = self.jobs[task.job].spec.kind == "matmul"
        check(event.method == ("audit" if auditable else "recompute"), "a fraud by another method:", event)
        check(0 <= event.row < task.tile.rows, "a row that the tile has not got:", event)
        if event.expected:
            check(event.expected == self.prepared.get(task.job), "a fraud with wrong evidence:", event)
            self.mesh.count("caught by a canary")
        if proved:
            self.proofs.fraud(event)
        self.proofs.convicted(event.worker)
        task.condemned.add(event.lease)
        task.alone = False
        self.owe_letter(f"fraud-{event.lease}", "fraud", recorded, task.job)

    def _verified(self, event: ev.TaskVerified, recorded: Recorded) -> None:
        task = self._going_on(event)
        job, work = self.jobs[task.job], self.mesh.work
        right = work.right(task.job, task.tile)[1]
        unseen = event.method in (trust.TRUST, kinds.PROOF)  # where a wrong one may pass
        check(event.digest == right or unseen, "a wrong result was verified:", event)
        check(event.tile == task.tile and event.ops == work.ops(job.spec, task.tile), "another tile or price:", event)
        check(event.size == len(work.blobs[event.digest]), "another size:", event)
        check(0 < len(event.workers) == len(set(event.workers)), "a worker voted twice, or nobody did:", event)
        if event.method == kinds.PROOF:
            self.proofs.verdict(event, task, recorded)
        for worker in event.workers if event.method != kinds.PROOF else ():
            check(task.votes.get(worker, ("",))[0] == event.digest, "credit for no such answer:", worker, event)
            check(not self.mesh.workers[worker].ways & {"liar", "colluder"}, "a liar was credited:", event)
        self._check_method(event, task, job)
        task.ended, task.digest = "verified", event.digest
        self.proofs.ended(task)
        self.mesh.tally[f"verdict: {event.method}"] += 1
        if event.method == "trust" and event.digest != right:
            self.mesh.tally["wrong on trust"] += 1
        if event.method != "canary":
            self.verdicts_since_canary += 1
        if job.state == "active" and task.id in job.life:  # its result will be used
            check(task.tile not in job.done, "a tile twice:", event)
            job.done[task.tile] = event.digest
            self._pay(job, event, recorded.seq)

    def _check_method(self, event: ev.TaskVerified, task: TaskStory, job: JobStory) -> None:
        spec, enough = job.spec, len(event.workers) >= job.spec.redundancy
        check((event.method == kinds.PROOF) == (spec.policy == kinds.PROOF), "a verdict of another kind:", event)
        if event.method == kinds.PROOF:
            pass  # looked at in mesh_proofs.py
        elif event.method == "trust":
            check(spec.policy == "adaptive" and task.alone, "trust in a task that is replicated:", event, task)
            if job.state == "active":
                known = self.mesh.oracle.of(event.workers[0])
                check(known.may_be_trusted_with(event.ops), "more on trust than it has earned:", event, known)
        elif event.method == "quorum":
            check(spec.policy in ("quorum", "adaptive") and enough, "too few votes:", event, spec)
        elif event.method == "audit":
            audited = spec.kind == "matmul" and event.rounds == spec.audit_rounds
            check(spec.policy == "audit" and audited, "an audit that was none:", event)
        elif event.method == "arbitration":
            audited = spec.kind == "matmul" and event.rounds == spec.audit_rounds
            check(audited or enough, "an arbitration without grounds:", event)
            check(spec.policy in ("quorum", "adaptive"), "an arbitration of what is not voted on:", event)
        else:
            known = self.prepared.get(task.job)
            check(event.method == spec.policy == kinds.CANARY and event.digest == known, "a strange verdict:", event)


def _at(steps: list[tuple[int, int, int]], until: int) -> tuple[int, int]:
    for seq, tasks, ops in reversed(steps):
        if seq <= until:
            return tasks, ops
    return 0, 0


_HANDLERS: dict[type | None, Any] = {
    ev.JobSubmitted: Explainer._submitted,
    ev.JobCompleted: Explainer._ended,
    ev.JobFailed: Explainer._ended,
    ev.JobCancelled: Explainer._ended,
    ev.JobReopened: Explainer._reopened,
    ev.CanaryPrepared: Explainer._prepared,
    ev.TaskCreated: Explainer._created,
    ev.TaskAssigned: Explainer._assigned,
    ev.TaskExpired: Explainer._expired,
    ev.TaskDisputed: Explainer._disputed,
    ev.TaskVerified: Explainer._verified,
    ev.TaskUnresolved: Explainer._unresolved,
    ev.ResultSubmitted: Explainer._answered,
    ev.ResultFailed: Explainer._failed,
    ev.FraudDetected: Explainer._fraud,
}
