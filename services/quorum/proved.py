"""What the quorum makes of proofs (policy `proof`): a proved result is verified; what came in place of a proof and does
not hold is looked at before anybody is blamed; and what was verified under a version that is revoked later is looked at
again. Pure.

Whether a proof holds is the prover-verifier's to say. A verdict of its that stands behind a revocation of the version
is void here as there: the log's order decides, whatever either had read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import msgspec
from msgspec.structs import replace

from shardy_common import kinds
from shardy_common.log import Append, Recorded
from shardy_common.verifiers import VerifierFold
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Tile
from shardy_quorum.state import Examination, Findings, QuorumJob, QuorumTask

WRONG = "wrong"
AT_ONCE = 64  # results that are looked at again at the same time


class Proven(msgspec.Struct, frozen=True):
    """A result that was verified by its proof under `version`. told: that it is wrong after all stands in the log."""

    task: str
    job: str
    lease: str
    worker: str
    version: str
    digest: str
    tile: Tile
    spec: JobSpec
    trace: str = ""
    told: bool = False


class Proofs:
    """examined: leases whose bytes this process has looked at, because what came for a proof was none.

    ids, read: set by the core: task and job of what was verified under a version and not looked at again since it was
    revoked; and one of those as it is. again: those that wait for it, of versions in `revoked`.
    """

    def __init__(self) -> None:
        self.verifiers = VerifierFold()
        self.examined: set[str] = set()
        self.ids: Callable[[str], Iterable[tuple[str, str]]] = lambda _version: ()
        self.read: Callable[[str], Proven | None] = lambda _task: None
        self.fresh: dict[str, Proven] = {}  # not in rows yet
        self.looked: set[str] = set()
        self._revoked: set[str] = set()
        self._again: deque[str] = deque()
        self._looking: dict[str, Proven] = {}

    # -- fold -----------------------------------------------------------------------------------------------------

    def evolve(self, recorded: Recorded) -> None:
        """Events of versions, and of what was looked at again."""
        event = recorded.event
        if isinstance(event, ev.ProofReaudited):
            self.fresh.pop(event.task, None)
            self._looking.pop(event.task, None)
            self.looked.add(event.task)
            return
        registry = self.verifiers.registry
        for name in self.verifiers.evolve(recorded):
            if registry.versions[name].revoked_seq:
                self._revoked.add(name)

    def take(self, task: QuorumTask, event: ev.ProofVerified | ev.ProofRejected) -> bool:
        """Whether the event changes anything of the task."""
        return self._verified(task, event) if isinstance(event, ev.ProofVerified) else self._rejected(task, event)

    def _verified(self, task: QuorumTask, event: ev.ProofVerified) -> bool:
        version = self.verifiers.registry.versions.get(event.version)
        vote = task.votes.get(event.lease)
        if version is None or version.revoked_seq or vote is None or vote.digest != event.digest:
            return False
        if any(lease == event.lease for lease, _ in task.proofs):
            return False
        task.proofs.append((event.lease, event.version))  # one of them may be silenced, so that another counts
        return True

    def _rejected(self, task: QuorumTask, event: ev.ProofRejected) -> bool:
        """The matchmaker lends the task to somebody else; the vote counts no more."""
        if event.lease not in task.votes or event.lease in task.unproven or event.lease in task.silenced:
            return False
        if event.cause == WRONG:
            task.unproven.append(event.lease)
        else:
            task.silenced.append(event.lease)
        return True

    def ended(self, task: QuorumTask, job: QuorumJob, event: ev.TaskVerified) -> None:
        """Its verdict is in the log."""
        if event.method != kinds.PROOF:
            return
        for lease, version in task.proofs:
            vote = task.votes[lease]
            if event.workers == [vote.worker] and event.digest == vote.digest:
                known = (task.id, task.job, lease, vote.worker, version, vote.digest, task.tile)
                self.fresh[task.id] = Proven(*known, job.spec, job.trace)
                if self.verifiers.registry.versions[version].revoked_seq:  # between its proof and its verdict
                    self._revoked.add(version)
                return

    def convicted(self, event: ev.FraudDetected) -> None:
        """What was verified is told to be fraud: the finding follows, once this is in the log."""
        proven = self.fresh.get(event.task) or self.read(event.task)
        if proven is not None and proven.lease == event.lease:
            self.fresh[event.task] = replace(proven, told=True)
            if self._looking.pop(event.task, None) is not None:
                self._again.append(event.task)

    # -- decisions ------------------------------------------------------------------------------------------------

    def proved(self, task: QuorumTask, standing: dict[str, str]) -> str:
        """The lease that a verdict rests on: the first that is proved, of those that stand."""
        return next((lease for lease, _ in task.proofs if lease in standing), "")

    def suspects(self, task: QuorumTask, standing: dict[str, str]) -> dict[str, str]:
        """Standing results that came with what is no proof, and were not looked at."""
        fresh = [lease for lease in task.unproven if lease in standing and lease not in self.examined]
        return {lease: standing[lease] for lease in fresh}

    def judged(self, task: QuorumTask, standing: dict[str, str], findings: Findings) -> None:
        """Those that were not proven wrong are looked at no more. A fraud is told until it is in the log; and what
        became suspect meanwhile is still to be looked at."""
        done = {*findings.right, *findings.missing}
        self.examined |= {lease for lease, digest in self.suspects(task, standing).items() if digest in done}

    def forget(self, task: QuorumTask) -> None:
        self.examined.difference_update(task.unproven)

    def review(self) -> None:
        """Look through all that may have to be looked at again: after a start, or where replicas came or went."""
        self._revoked |= {name for name, v in self.verifiers.registry.versions.items() if v.revoked_seq}

    def again(self, owns: Callable[[str], bool]) -> list[Examination]:
        """Results under revoked versions, whose bytes are to be audited now."""
        for version in sorted(self._revoked):
            fresh = [(p.task, p.job) for p in self.fresh.values() if p.version == version]
            known = {*self._again, *self._looking, *self.looked}
            self._again += [t for t, job in (*self.ids(version), *fresh) if owns(job) and t not in known]
        self._revoked.clear()
        out = []
        while self._again and len(self._looking) < AT_ONCE:
            task = self._again.popleft()
            proven = self.fresh.get(task) or self.read(task)
            if proven is not None and task not in self._looking and task not in self.looked:
                self._looking[task] = proven
                out.append(Examination(task, proven.job, proven.spec, proven.tile, (proven.digest,), "audit"))
        return out

    def looked_at(self, findings: Findings, agent: Callable[[str], str | None]) -> list[Append]:
        """What follows for a result that was verified before: the finding. If it is wrong after all, the fraud comes
        first, and the finding when that is in the log: so whoever crashes between them, both are told."""
        proven = self._looking.get(findings.task)
        if proven is None:
            return []
        row = findings.wrong.get(proven.digest, -1)
        if row >= 0 and not proven.told:
            name, rounds = agent(proven.worker) or "", proven.spec.audit_rounds
            fraud = ev.FraudDetected(
                proven.task, proven.job, proven.worker, proven.lease, proven.digest, "audit", row, rounds, name
            )
            return [Append(fraud, f"fraud/{proven.lease}", trace=proven.trace)]
        outcome = "wrong" if row >= 0 else "right" if proven.digest in findings.right else "missing"
        rounds = proven.spec.audit_rounds
        event = ev.ProofReaudited(proven.task, proven.job, proven.lease, proven.version, proven.digest, outcome, rounds)
        return [Append(event, f"reaudit/{proven.task}", 0, trace=proven.trace)]

    def refused(self, event: ev.Event) -> None:
        """The log did not take what was found: it is looked for again, unless another one is read."""
        if isinstance(event, (ev.ProofReaudited, ev.FraudDetected)) and self._looking.pop(event.task, None) is not None:
            self._again.append(event.task)
