"""The prover-verifier's state and rules: a fold over the log, and the decisions it calls for. Pure.

A result of a job with policy `proof` that stands in the log is challenged under the version that its lease is held to;
what the worker hands in is checked; and one event says what came of it. A version counts if it is not revoked where the
verdict stands in the log: a verdict behind a revocation that its decider had not read is void in every fold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shardy_common import kinds
from shardy_common.log import Append, Recorded
from shardy_common.proofs.signals import Circuit
from shardy_common.proofs.statement import Terms
from shardy_common.verifiers import Registry
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_prover_verifier.state import Check, Checked, Draw, Drawn, Lent, Open, ProofJob, ProofTask

ANSWER_BASE_MS = 60_000  # time for an answer: a tab may have to fetch a key of tens of megabytes first
ANSWER_MS_PER_CELL = 6.0  # and for each tile, by bytes of B in its circuit: many times what a slow phone takes

Work = Draw | Check


def answer_ms(circuit: Circuit, checked: int) -> int:
    """How long a worker may take to prove `checked` tiles."""
    return int(ANSWER_BASE_MS + checked * ANSWER_MS_PER_CELL * (circuit.n * circuit.k + circuit.m * circuit.k))


class Proving:
    """owns: the jobs that this replica looks after. vk_of: the key of a version, canonical text."""

    def __init__(
        self,
        registry: Registry,
        vk_of: Callable[[str], str],
        owns: Callable[[str], bool] = lambda _job: True,
        development: bool = False,
    ) -> None:
        self.registry, self.vk_of, self.owns, self.development = registry, vk_of, owns, development
        self.jobs: dict[str, ProofJob] = {}
        self.tasks: dict[str, ProofTask] = {}
        self.tasks_of: dict[str, set[str]] = {}
        self.ready: dict[str, None] = {}
        self.waiting: dict[str, None] = {}  # tasks with a challenge that nobody has answered
        self.busy: set[str] = set()  # decided or being worked on, not read back yet
        self.touched_jobs: set[str] = set()
        self.touched_tasks: set[str] = set()
        self.dead_jobs: set[str] = set()
        self.dead_tasks: set[str] = set()

    # -- fold -----------------------------------------------------------------------------------------------------

    def evolve(self, recorded: Recorded) -> None:
        handler = _HANDLERS.get(type(recorded.event))
        if handler is not None:
            handler(self, recorded.event, recorded)

    def _job_submitted(self, event: ev.JobSubmitted, recorded: Recorded) -> None:
        if event.spec.policy == kinds.PROOF:
            self._begin(ProofJob(event.job, event.spec, recorded.trace))

    def _job_reopened(self, event: ev.JobReopened, recorded: Recorded) -> None:
        if event.spec.policy == kinds.PROOF and event.job not in self.jobs:
            self._begin(ProofJob(event.job, event.spec, recorded.trace, event.cursor))
            for task_id, tile in event.tasks:
                self._add(ProofTask(task_id, event.job, tile))

    def _begin(self, job: ProofJob) -> None:
        self.jobs[job.id] = job
        self.tasks_of[job.id] = set()
        self.dead_jobs.discard(job.id)
        self.touched_jobs.add(job.id)

    def _add(self, task: ProofTask) -> None:
        self.tasks[task.id] = task
        self.tasks_of[task.job].add(task.id)
        self.dead_tasks.discard(task.id)
        self.touched_tasks.add(task.id)

    def _job_ended(self, event: Any, _recorded: Recorded) -> None:
        if self.jobs.pop(event.job, None) is not None:
            self.dead_jobs.add(event.job)
            for task in self.tasks_of.pop(event.job):
                self._drop(task)

    def _task_created(self, event: ev.TaskCreated, recorded: Recorded) -> None:
        job = self.jobs.get(event.job)
        if job is None:
            return
        shape = kinds.KINDS[job.spec.kind].shape(job.spec)
        if not job.cursor.accepts(event.tile, shape):
            return  # void: see shardy_common/carving.py
        job.cursor = job.cursor.after(event.tile, shape)
        self.touched_jobs.add(event.job)
        leases = {lease.id: Lent(lease.worker, recorded.seq) for lease in event.leases}
        self._add(ProofTask(event.task, event.job, event.tile, leases=leases))

    def _task_assigned(self, event: ev.TaskAssigned, recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is not None:
            task.leases |= {lease.id: Lent(lease.worker, recorded.seq) for lease in event.leases}
            self.touched_tasks.add(task.id)

    def _task_ended(self, event: Any, _recorded: Recorded) -> None:
        if event.task in self.tasks:
            self.tasks_of[event.job].discard(event.task)
            self._drop(event.task)

    def _drop(self, task: str) -> None:
        del self.tasks[task]
        self.dead_tasks.add(task)
        self.ready.pop(task, None)
        self.waiting.pop(task, None)
        self.busy.discard(task)

    def _result_submitted(self, event: ev.ResultSubmitted, _recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        lent = task.leases.get(event.lease) if task is not None else None
        if task is None or lent is None or lent.worker != event.worker or event.lease in task.results:
            return
        task.results[event.lease] = (event.worker, event.digest)
        task.answered.append(event.lease)
        self._look(task)

    def _result_failed(self, event: ev.ResultFailed, _recorded: Recorded) -> None:
        """Of a lease whose result is in the log: the worker cannot prove it."""
        task = self.tasks.get(event.task)
        if task is None or task.open is None or task.open.proofs:
            return
        if (task.open.terms.lease, task.open.terms.worker) == (event.lease, event.worker):
            task.open.failed = f"{event.code}: {event.message}"
            self._look(task)

    def _fraud_detected(self, event: ev.FraudDetected, _recorded: Recorded) -> None:
        task = self.tasks.get(event.task)
        if task is not None and event.lease in task.results:
            self._settle(task, event.lease)

    def _challenged(self, event: ev.ProofChallenged, recorded: Recorded) -> None:
        task = self._of(event.task, recorded)
        if task is not None and task.open is None and task.next() == event.lease:
            task.open = Open(Terms.of(event), event.deadline_ms)
            self.waiting[task.id] = None

    def _submitted(self, event: ev.ProofSubmitted, recorded: Recorded) -> None:
        task = self._of(event.task, recorded)
        if task is None or task.open is None or task.open.proofs:
            return
        if (task.open.terms.lease, task.open.terms.worker) == (event.lease, event.worker):
            task.open.proofs = event.proofs
            self.waiting.pop(task.id, None)

    def _verified(self, event: ev.ProofVerified, recorded: Recorded) -> None:
        task = self._of(event.task, recorded)
        version = self.registry.versions.get(event.version)
        if task is not None and version is not None and not version.revoked_seq:
            self._settle(task, event.lease)

    def _rejected(self, event: ev.ProofRejected, recorded: Recorded) -> None:
        task = self._of(event.task, recorded)
        if task is not None:
            self._settle(task, event.lease)

    def _of(self, task_id: str, recorded: Recorded) -> ProofTask | None:
        """An event of the proofs of a task: whatever it says, the next one expects it."""
        task = self.tasks.get(task_id)
        if task is not None:
            task.seq = recorded.seq
            self._look(task)
        return task

    def _settle(self, task: ProofTask, lease: str) -> None:
        if lease not in task.settled:
            task.settled.append(lease)
        if task.open is not None and task.open.terms.lease == lease:
            task.open = None
            self.waiting.pop(task.id, None)
        self._look(task)

    def _look(self, task: ProofTask) -> None:
        self.busy.discard(task.id)
        self.touched_tasks.add(task.id)
        self.ready[task.id] = None

    def revoked(self, versions: set[str]) -> None:
        """Of these versions something changed: what is open under one of them is looked at again."""
        for task in self.tasks.values():
            if task.open is not None and task.open.terms.version in versions:
                self.ready[task.id] = None

    # -- decisions ------------------------------------------------------------------------------------------------

    def decide(self, now_ms: int) -> tuple[list[Append], list[Work]]:
        """now_ms: by the log's clock."""
        appends: list[Append] = []
        work: list[Work] = []
        ready, self.ready = self.ready, {}
        late = [t for t in self.waiting if (found := self.tasks[t].open) is not None and found.deadline_ms < now_ms]
        for task_id in [*ready, *(task for task in late if task not in ready)]:
            task = self.tasks.get(task_id)
            if task is None or task_id in self.busy or not self.owns(task.job):
                continue  # read-back brings it up again, or its owner decides it; review() if that changes
            decided = self._decide(task, now_ms)
            if decided is None:
                continue
            self.busy.add(task_id)
            if isinstance(decided, Append):
                appends.append(decided)
            else:
                work.append(decided)
        return appends, work

    def _decide(self, task: ProofTask, now_ms: int) -> Append | Work | None:
        job = self.jobs[task.job]
        if task.open is None:
            lease = task.next()
            return self._draw(task, job, lease, now_ms) if lease else None
        terms = task.open.terms
        refusal = self._refusal(terms.version, task.leases[terms.lease].seq, now_ms)
        if refusal:
            return self._reject(task, terms.lease, "version", refusal)
        if task.open.proofs:
            vk = self.vk_of(terms.version)
            return Check(task.id, task.job, job.spec, task.tile, terms, task.open.proofs, vk)
        if task.open.failed:
            return self._reject(task, terms.lease, "failed", task.open.failed)
        if now_ms > task.open.deadline_ms:
            return self._reject(task, terms.lease, "late", "no proof came in time")
        return None

    def _draw(self, task: ProofTask, job: ProofJob, lease: str, now_ms: int) -> Append | Draw:
        assert job.spec.proof is not None
        seq = task.leases[lease].seq
        version = self.registry.pinned(job.spec.proof.circuit, seq)
        refusal = self._refusal(version, seq, now_ms) if version else "no version was active when the lease was given"
        if refusal:
            return self._reject(task, lease, "version", refusal)
        worker, digest = task.results[lease]
        vk_hash = self.registry.versions[version].vk_hash
        return Draw(task.id, task.job, job.spec, task.tile, lease, worker, digest, version, vk_hash)

    def _refusal(self, version: str, lease_seq: int, now_ms: int) -> str:
        return self.registry.refusal(version, lease_seq, now_ms, self.development)

    def drawn(self, drawn: Drawn, now_ms: int) -> list[Append]:
        """What follows once the result's bytes were read."""
        draw = drawn.draw
        task = self.tasks.get(draw.task)
        if task is None or task.open is not None or task.next() != draw.lease:
            self._again(draw.task)
            return []
        if drawn.missing:
            return [self._reject(task, draw.lease, "missing", drawn.missing)]
        plan = draw.spec.proof
        assert plan is not None
        checked = min(plan.tiles, drawn.tiles)
        event = ev.ProofChallenged(
            task.id,
            task.job,
            draw.lease,
            draw.worker,
            draw.digest,
            plan.circuit,
            draw.version,
            draw.vk_hash,
            drawn.root,
            drawn.nonce,
            drawn.tiles,
            checked,
            now_ms + answer_ms(Circuit.named(plan.circuit), checked),
        )
        return [self._own(task, event, f"challenge/{draw.lease}")]

    def checked(self, checked: Checked) -> list[Append]:
        """What follows once the proofs were checked."""
        check = checked.check
        task = self.tasks.get(check.task)
        if task is None or task.open is None or task.open.terms != check.terms:
            self._again(check.task)
            return []
        terms = check.terms
        if checked.cause:
            return [self._reject(task, terms.lease, checked.cause, checked.detail)]
        version = self.registry.versions[terms.version]
        if version.revoked_seq:  # meanwhile
            return [self._reject(task, terms.lease, "version", f"version {terms.version} is revoked")]
        event = ev.ProofVerified(
            task.id,
            task.job,
            terms.lease,
            terms.worker,
            terms.digest,
            terms.circuit,
            terms.version,
            terms.vk_hash,
            terms.root,
            terms.nonce,
            terms.tiles,
            terms.checked,
            check.proofs,
            checked.statements,
        )
        return [self._own(task, event, f"proved/{terms.lease}")]

    def settled(self, item: Append, accepted: bool) -> None:
        """The log answered. An accepted event clears its marks when it is read back, a refused one now."""
        event = item.event
        if not accepted and isinstance(event, (ev.ProofChallenged, ev.ProofVerified, ev.ProofRejected)):
            self._again(event.task)

    def _again(self, task: str) -> None:
        self.busy.discard(task)
        if task in self.tasks:
            self.ready[task] = None

    def review(self) -> None:
        """Other replicas came or went, so this one may own what it passed over: look at all tasks again."""
        self.ready.update(dict.fromkeys(self.tasks))

    def _reject(self, task: ProofTask, lease: str, cause: str, detail: str) -> Append:
        worker, digest = task.results[lease]
        event = ev.ProofRejected(task.id, task.job, lease, worker, digest, cause, detail[:200])
        return self._own(task, event, f"unproved/{lease}")

    def _own(self, task: ProofTask, event: ev.Event, msg_id: str) -> Append:
        """An event of the proofs of a task: it holds only if nothing else was said of them meanwhile."""
        self.busy.add(task.id)
        trace = self.jobs[task.job].trace
        return Append(event, f"{msg_id}/{task.seq}", task.seq, subjects.of_entity("proof", task.id), trace=trace)


_HANDLERS: dict[type | None, Callable[[Proving, Any, Recorded], None]] = {
    ev.JobSubmitted: Proving._job_submitted,
    ev.JobReopened: Proving._job_reopened,
    ev.JobCompleted: Proving._job_ended,
    ev.JobFailed: Proving._job_ended,
    ev.JobCancelled: Proving._job_ended,
    ev.TaskCreated: Proving._task_created,
    ev.TaskAssigned: Proving._task_assigned,
    ev.TaskVerified: Proving._task_ended,
    ev.TaskUnresolved: Proving._task_ended,
    ev.ResultSubmitted: Proving._result_submitted,
    ev.ResultFailed: Proving._result_failed,
    ev.FraudDetected: Proving._fraud_detected,
    ev.ProofChallenged: Proving._challenged,
    ev.ProofSubmitted: Proving._submitted,
    ev.ProofVerified: Proving._verified,
    ev.ProofRejected: Proving._rejected,
}
FILTERS = [
    "job.*.*",
    "task.*.*",
    "result.*.*",
    "fraud.detected.*",
    "proof.*.*",
    "verifier.*.*",
]
