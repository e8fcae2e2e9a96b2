"""The quorum's state and rules: a fold over the log, and the decisions it calls for. Pure.

`decide` returns appends, and examinations that need the bytes (audits, recomputations); the shell makes those and
hands their findings to `judge`, which returns the appends that follow from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shardy_common import kinds, trust
from shardy_common.log import Append, Recorded
from shardy_common.shelf import Shelf
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_quorum.canary import Canaries, Pacing
from shardy_quorum.proved import Proofs
from shardy_quorum.state import Examination, Findings, QuorumJob, QuorumTask, Vote
from shardy_quorum.tally import Agreed, Disputed, verdict


class Quorum:
    """owns: the jobs that this replica judges; by job, so that results of one are audited together."""

    def __init__(
        self, owns: Callable[[str], bool] = lambda _job: True, pacing: Pacing | None = None, name: str = ""
    ) -> None:
        self.jobs: dict[str, QuorumJob] = {}
        self.tasks: dict[str, QuorumTask] = {}
        self.tasks_of: dict[str, set[str]] = {}
        self.agents: Shelf[str] = Shelf()
        self.book = trust.Book()
        self.canaries, self.proofs = Canaries(pacing or Pacing(), name), Proofs()
        self.ready: dict[str, None] = {}
        self.busy: set[str] = set()  # decided or under examination, not read back yet
        self.touched_tasks: set[str] = set()
        self.touched_jobs: set[str] = set()
        self.touched_agents: set[str] = set()
        self.dead_tasks, self.dead_jobs = set[str](), set[str]()
        self.owns = owns

    # -- fold -----------------------------------------------------------------------------------------------------

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, recorded)
        elif recorded.subject.startswith(("verifier.", "proof.")):
            self.proofs.evolve(recorded)

    def _job_submitted(self, event: ev.JobSubmitted, recorded: Recorded) -> None:
        self.jobs[event.job] = QuorumJob(event.job, event.spec, recorded.trace)
        if event.spec.policy == kinds.CANARY:
            self.canaries.submitted(event.job, recorded.seq)
        self.tasks_of[event.job] = set()
        self.touched_jobs.add(event.job)

    def _job_ended(self, event: Any, _recorded: Recorded) -> None:
        job = self.jobs.pop(event.job, None)
        if job is None:
            return
        self.canaries.ended(event.job, job.spec, isinstance(event, ev.JobCompleted))
        self.dead_jobs.add(event.job)
        for task in self.tasks_of.pop(event.job, set()):
            self._drop(task)

    def _job_reopened(self, event: ev.JobReopened, recorded: Recorded) -> None:
        if event.job in self.jobs:
            return
        self.jobs[event.job] = QuorumJob(event.job, event.spec, recorded.trace, event.cursor)
        self.dead_jobs.discard(event.job)
        self.tasks_of[event.job] = set()
        self.touched_jobs.add(event.job)
        need = kinds.answers_wanted(event.spec)
        for task_id, tile in event.tasks:
            self.tasks[task_id] = QuorumTask(task_id, event.job, tile, 0, need)
            self.dead_tasks.discard(task_id)
            self.tasks_of[event.job].add(task_id)
            self.touched_tasks.add(task_id)

    def _task_created(self, event: ev.TaskCreated, recorded: Recorded) -> None:
        job = self.jobs.get(event.job)
        if job is None:
            return
        shape = kinds.KINDS[job.spec.kind].shape(job.spec)
        if not job.cursor.accepts(event.tile, shape):
            return  # void: see shardy_common/carving.py
        job.cursor = job.cursor.after(event.tile, shape)
        self.touched_jobs.add(event.job)
        need = kinds.answers_wanted(job.spec, event.need)
        leases = {lease.id: lease.worker for lease in event.leases}
        task = QuorumTask(event.task, event.job, event.tile, recorded.own_seq, need, leases)
        if need == 1 and job.spec.policy == "adaptive":
            ops = kinds.KINDS[job.spec.kind].ops(job.spec, event.tile.rows, event.tile.cols)
            task.lone = len(leases) == 1 and self.book.lend(task.id, event.leases[0].worker, ops)
            task.asked = 1 if task.lone else job.spec.redundancy
        self.tasks[event.task] = task
        self.tasks_of[event.job].add(event.task)
        self.touched_tasks.add(event.task)

    def _task_assigned(self, event: ev.TaskAssigned, recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is not None:
            task.seq = recorded.seq
            for lease in event.leases:
                task.leases[lease.id] = lease.worker
            self.touched_tasks.add(event.task)

    def _task_expired(self, event: ev.TaskExpired, recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is not None:  # the lease stays known: a late result of its own worker is still a vote
            task.seq = recorded.seq
            self.touched_tasks.add(event.task)
            for lease in event.leases:
                self._lease_ended(task, lease)

    def _result_failed(self, event: ev.ResultFailed, _recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is not None and task.leases.get(event.lease) == event.worker:
            self._lease_ended(task, event.lease)

    def _lease_ended(self, task: QuorumTask, lease: str) -> None:
        """Without an answer, unless that came first. A task that one worker had on trust is replicated from now on; a
        canary is over."""
        if lease in task.votes or lease not in task.leases:
            return
        if task.lone:
            self._share(task)
        elif not task.missed and self.jobs[task.job].spec.policy == kinds.CANARY:
            task.missed = True
            self.touched_tasks.add(task.id)
            self.ready[task.id] = None

    def _share(self, task: QuorumTask) -> None:
        task.lone = False
        task.asked = kinds.answers_wanted(self.jobs[task.job].spec)
        self.book.release(task.id)
        self.touched_tasks.add(task.id)

    def _task_disputed(self, event: ev.TaskDisputed, recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is not None:
            task.seq = recorded.seq
            if task.lone:
                self._share(task)
            task.asked = len(task.standing()) + event.need
            self.touched_tasks.add(event.task)
            self.busy.discard(event.task)
            self.ready[event.task] = None  # a vote that came meanwhile may have settled it

    def _task_verified(self, event: ev.TaskVerified, recorded: Recorded) -> None:
        self.book.verified(event.task, event.workers, event.method, event.ops, recorded.at_ms)
        if event.method != "canary":
            self.canaries.counted()
        if event.task in self.tasks:
            self.proofs.ended(self.tasks[event.task], self.jobs[event.job], event)
        self._task_ended(event, recorded)

    def _task_ended(self, event: Any, _recorded: Recorded) -> None:
        if event.task in self.tasks:
            self.tasks_of[event.job].discard(event.task)
            self._drop(event.task)

    def _result_submitted(self, event: ev.ResultSubmitted, _recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is None or task.leases.get(event.lease) != event.worker or event.lease in task.votes:
            return
        proved = self.jobs[task.job].spec.policy == kinds.PROOF  # there each result is looked at by itself
        if not proved and any(v.worker == event.worker and x not in task.silenced for x, v in task.votes.items()):
            return  # one voice per worker, however many leases of the task it had
        if self.book.convicted(event.worker):
            return  # and none once it was proven wrong
        task.votes[event.lease] = Vote(event.worker, event.digest, event.size)
        self.touched_tasks.add(event.task)
        self.ready[event.task] = None

    def _proof_judged(self, event: ev.ProofVerified | ev.ProofRejected, _recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is not None and self.proofs.take(task, event):
            self.touched_tasks.add(task.id)
            self.ready[task.id] = None

    def _fraud_detected(self, event: ev.FraudDetected, _recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        self.proofs.convicted(event)
        if task is not None and event.lease not in task.condemned:
            task.condemned.append(event.lease)
            self.touched_tasks.add(event.task)
            self.busy.discard(event.task)
            self.ready[event.task] = None
            if task.lone:
                self._share(task)
        if self.book.fraud(event.worker):
            self._silence(event.worker)

    def _silence(self, worker: str) -> None:
        """What a liar said elsewhere counts no more, and what it has on trust is replicated (matchmaker/fold.py does
        the same). Nothing of it is proven wrong by that, so nothing of it is condemned."""
        for task_id in self.book.held_alone(worker):
            self._share(self.tasks[task_id])
        for task in self.tasks.values():
            for lease, vote in task.votes.items():
                if vote.worker == worker and lease not in task.condemned:
                    task.silenced.append(lease)
                    self.touched_tasks.add(task.id)
                    self.ready[task.id] = None

    def _worker_joined(self, event: ev.WorkerJoined, _recorded: Recorded) -> None:
        if self.agents.find(event.worker) != event.agent:
            self.agents[event.worker] = event.agent
            self.touched_agents.add(event.worker)

    def _drop(self, task: str) -> None:
        dropped = self.tasks.pop(task, None)
        if dropped is not None:
            self.dead_tasks.add(task)
            self.proofs.forget(dropped)
            if dropped.lone:
                self.book.release(task)
        self.ready.pop(task, None)
        self.busy.discard(task)

    # -- decisions ------------------------------------------------------------------------------------------------

    def decide(self, now_ms: int = 0) -> tuple[list[Append], list[Examination]]:
        """now_ms: only canaries go by the clock."""
        appends: list[Append] = self.canaries.decide(now_ms) if self.canaries.open else []
        examinations: list[Examination] = self.proofs.again(self.owns)
        ready, self.ready = self.ready, {}
        for task_id in ready:
            task = self.tasks.get(task_id)
            if task is None:
                continue
            if task_id in self.busy or not self.owns(task.job):
                continue  # read-back brings it up again, or its owner decides it; review() if that changes
            job = self.jobs[task.job]
            standing = task.standing()
            if job.spec.policy == "audit":
                if standing:
                    self._examine(examinations, task, job, standing, "audit")
                continue
            if job.spec.policy == kinds.PROOF:
                if lease := self.proofs.proved(task, standing):  # nobody else has proved it, whatever he answered
                    digest = standing[lease]
                    appends.append(self._verified(task, job, {lease: digest}, digest, kinds.PROOF, 0))
                elif suspects := self.proofs.suspects(task, standing):
                    self._examine(examinations, task, job, suspects, "audit")
                continue
            if task.lone:
                if standing:
                    appends.append(self._verified(task, job, standing, *standing.values(), trust.TRUST, 0))
                continue
            if job.spec.policy == kinds.CANARY:
                self._canary(task, job, standing, appends, examinations)
                continue
            outcome = verdict(standing, job.spec.redundancy, task.asked)
            if isinstance(outcome, Agreed):
                if len(set(standing.values())) == 1:
                    method = "arbitration" if task.condemned else "quorum"
                    appends.append(self._verified(task, job, standing, outcome.digest, method, 0))
                else:  # a majority against somebody: find out who is wrong before anybody is blamed
                    purpose = "audit" if kinds.KINDS[job.spec.kind].auditable else "compare"
                    self._examine(examinations, task, job, standing, purpose)
            elif isinstance(outcome, Disputed):
                if kinds.KINDS[job.spec.kind].auditable:
                    self._examine(examinations, task, job, standing, "audit")
                else:
                    appends.append(self._disputed(task, standing))
        return appends, examinations

    def review(self) -> None:
        """Other replicas came or went, so this one may own what it passed over: look at all undecided tasks again."""
        self.ready.update(dict.fromkeys(self.tasks))
        self.proofs.review()

    def _canary(
        self,
        task: QuorumTask,
        job: QuorumJob,
        standing: dict[str, str],
        appends: list[Append],
        examinations: list[Examination],
    ) -> None:
        canary = self.canaries.open.get(job.id)
        digest = next(iter(standing.values()), "")
        if canary is None or task.missed or task.condemned:
            appends += self.canaries.cancel(job.id)
        elif digest == canary.digest:
            appends.append(self._verified(task, job, standing, digest, kinds.CANARY, 0))
        elif standing:  # it differs: the bytes must say where, before anybody is blamed
            auditable = kinds.KINDS[job.spec.kind].auditable
            self._examine(examinations, task, job, standing, "audit" if auditable else "recompute")

    def judge(self, findings: Findings) -> list[Append]:
        """What follows from looking at the bytes: frauds named, then the verdict, if one right result is left."""
        task = self.tasks.get(findings.task)
        if task is None:
            self.busy.discard(findings.task)
            return self.proofs.looked_at(findings, self.agents.find)
        job = self.jobs[task.job]
        standing = task.standing()
        method = "audit" if kinds.KINDS[job.spec.kind].auditable else "recompute"
        rounds = job.spec.audit_rounds if method == "audit" else 0
        canary = self.canaries.open.get(task.job)
        out: list[Append] = []
        for lease, digest in standing.items():
            if digest in findings.wrong:
                vote = task.votes[lease]
                found = (vote.worker, lease, digest, method, findings.wrong[digest], rounds)
                known = (self.agents.find(vote.worker) or "", canary.digest if canary is not None else "")
                fraud = ev.FraudDetected(task.id, task.job, *found, *known)
                out.append(Append(fraud, f"fraud/{lease}", trace=job.trace))
        if canary is not None:
            # not proven wrong, and yet not what was computed here: bytes that are gone, or a fault of our own
            return out or self.canaries.cancel(task.job)
        if job.spec.policy == kinds.PROOF:  # not proven wrong, so nobody is blamed; nor proved, so nothing is verified
            self.proofs.judged(task, standing, findings)
            return out or self._free(task)
        right = next((d for d in standing.values() if d in findings.right), None)
        if method == "recompute" and list(standing.values()).count(right or "") < job.spec.redundancy:
            right = None  # one recomputed segment proves the others wrong, but not the rest of this result right
        if right is not None:
            how = "audit" if job.spec.policy == "audit" else "arbitration"
            out.append(self._verified(task, job, standing, right, how, rounds))
        elif standing and not out and (findings.missing or method == "recompute"):
            # bytes gone, nothing proven: ask others
            out.append(self._disputed(task, standing))
        return out or self._free(task)  # those examined have been silenced meanwhile; others may have come

    def _free(self, task: QuorumTask) -> list[Append]:
        """Nothing follows for now: the task is looked at again."""
        self.busy.discard(task.id)
        self.ready[task.id] = None
        return []

    def settled(self, item: Append, accepted: bool) -> None:
        """A refused or lost append frees its task to be decided again."""
        event = item.event
        if accepted:
            return
        self.proofs.refused(event)
        if isinstance(event, (ev.TaskVerified, ev.TaskDisputed, ev.FraudDetected)):
            self.busy.discard(event.task)
            self.ready[event.task] = None
        elif isinstance(event, (ev.CanaryPrepared, ev.JobSubmitted, ev.JobCancelled)):
            self.canaries.refused(event)
            for task in self.tasks_of.get(event.job, ()):
                self.busy.discard(task)
                self.ready[task] = None

    def _examine(
        self, out: list[Examination], task: QuorumTask, job: QuorumJob, standing: dict[str, str], purpose: str
    ) -> None:
        self.busy.add(task.id)
        counts: dict[str, int] = {}
        for digest in standing.values():
            counts[digest] = counts.get(digest, 0) + 1
        digests = tuple(sorted(counts, key=lambda d: (-counts[d], d)))
        out.append(Examination(task.id, task.job, job.spec, task.tile, digests, purpose))

    def _verified(
        self, task: QuorumTask, job: QuorumJob, standing: dict[str, str], digest: str, method: str, rounds: int
    ) -> Append:
        self.busy.add(task.id)
        votes = [task.votes[lease] for lease, voted in standing.items() if voted == digest]
        kind = kinds.KINDS[job.spec.kind]
        event = ev.TaskVerified(
            task.id,
            task.job,
            task.tile,
            digest,
            votes[0].size,
            [vote.worker for vote in votes],
            method,
            rounds,
            kind.ops(job.spec, task.tile.rows, task.tile.cols),
        )
        return self._own(task, job, event, f"verdict/{task.id}")

    def _disputed(self, task: QuorumTask, standing: dict[str, str]) -> Append:
        self.busy.add(task.id)
        votes: dict[str, list[str]] = {}
        for lease, digest in standing.items():
            votes.setdefault(digest, []).append(task.votes[lease].worker)
        event = ev.TaskDisputed(task.id, task.job, votes, 1)
        return self._own(task, self.jobs[task.job], event, f"dispute/{task.id}/{len(standing)}")

    def _own(self, task: QuorumTask, job: QuorumJob, event: ev.Event, msg_id: str) -> Append:
        """An event of the task's own state machine: it holds only if nothing else was decided meanwhile."""
        return Append(event, f"{msg_id}/{task.seq}", task.seq, subjects.of_entity("task", task.id), trace=job.trace)


_HANDLERS: dict[type | None, Callable[[Quorum, Any, Recorded], None]] = {
    ev.JobSubmitted: Quorum._job_submitted,
    ev.JobCompleted: Quorum._job_ended,
    ev.JobFailed: Quorum._job_ended,
    ev.JobCancelled: Quorum._job_ended,
    ev.JobReopened: Quorum._job_reopened,
    ev.TaskCreated: Quorum._task_created,
    ev.TaskAssigned: Quorum._task_assigned,
    ev.TaskExpired: Quorum._task_expired,
    ev.TaskDisputed: Quorum._task_disputed,
    ev.TaskVerified: Quorum._task_verified,
    ev.TaskUnresolved: Quorum._task_ended,
    ev.ResultSubmitted: Quorum._result_submitted,
    ev.ResultFailed: Quorum._result_failed,
    ev.CanaryPrepared: lambda quorum, event, recorded: quorum.canaries.prepared(event, recorded),
    ev.ProofVerified: Quorum._proof_judged,
    ev.ProofRejected: Quorum._proof_judged,
    ev.FraudDetected: Quorum._fraud_detected,
    ev.WorkerJoined: Quorum._worker_joined,
}
FILTERS = ["job.*.*", "task.*.*", "result.*.*", "fraud.detected.*", "worker.joined.*", "canary.prepared.*"]
FILTERS += ["proof.verified.*", "proof.rejected.*", "proof.reaudited.*", "verifier.*.*"]
