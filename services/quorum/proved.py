"""What the quorum makes of proofs (policy `proof`): a proved result is verified, and what came in place of a proof and
does not hold is looked at before anybody is blamed. Pure.

Whether a proof holds is the prover-verifier's to say. A verdict of its that stands behind a revocation of the version
is void here as there: the log's order decides, whatever either had read.
"""

from __future__ import annotations

from shardy_common.verifiers import VerifierFold
from shardy_common.wire import events as ev
from shardy_quorum.state import QuorumTask

WRONG = "wrong"


class Proofs:
    """examined: leases whose bytes this process has looked at, because what came for a proof was none."""

    def __init__(self) -> None:
        self.verifiers = VerifierFold()
        self.examined: set[str] = set()

    def take(self, task: QuorumTask, event: ev.ProofVerified | ev.ProofRejected) -> bool:
        """Whether the event changes anything of the task."""
        return self._verified(task, event) if isinstance(event, ev.ProofVerified) else self._rejected(task, event)

    def _verified(self, task: QuorumTask, event: ev.ProofVerified) -> bool:
        version = self.verifiers.registry.versions.get(event.version)
        vote = task.votes.get(event.lease)
        if version is None or version.revoked_seq or vote is None or vote.digest != event.digest or task.proved:
            return False
        task.proved = event.lease
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

    def suspects(self, task: QuorumTask, standing: dict[str, str]) -> dict[str, str]:
        """Standing results that came with what is no proof, and were not looked at."""
        fresh = [lease for lease in task.unproven if lease in standing and lease not in self.examined]
        return {lease: standing[lease] for lease in fresh}

    def forget(self, task: QuorumTask) -> None:
        self.examined.difference_update(task.unproven)
