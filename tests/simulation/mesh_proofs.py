"""What explains events of proofs (policy `proof`), told apart from the services: what is asked follows from a result in
the log, what counts is proved under the version that was active at the lease's place, and what a revocation reaches is
looked at again."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mesh_tokens
from blake3 import blake3
from mesh_oracle import check

from shardy_common import kinds
from shardy_common.log import Recorded
from shardy_common.proofs import tiles
from shardy_common.proofs.statement import Terms
from shardy_common.wire import events as ev
from shardy_common.wire import merkle

if TYPE_CHECKING:
    from mesh_explainer import Explainer, LeaseStory, TaskStory

UNBLAMED = ("late", "missing", "version")  # causes after which the same worker may have the task again


@dataclass(slots=True)
class Asked:
    """One challenge and what became of it. state: open | handed in | holds | void, where its verdict stands behind a
    revocation | the cause for which it was rejected."""

    terms: Terms
    drawn: list[int]
    deadline_ms: int
    state: str = "open"
    proofs: str = ""


class Proofs:
    """asked: by lease. nonces: what the examiners drew: for which lease and result, and how long the log was then.
    counts: by task, the lease that its verdict rests on. frauds: leases whose result is wrong, and whose fraud must be
    told. again: verified tasks that must be looked at again."""

    def __init__(self, explainer: Explainer) -> None:
        self.explainer = explainer
        self.asked: dict[str, Asked] = {}
        self.rejected: dict[str, str] = {}  # lease → cause
        self.nonces: dict[str, tuple[str, str, int]] = {}
        self.gave_up: set[str] = set()
        self.held: dict[str, list[str]] = {}  # task → leases whose proof holds, in the order of the log
        self.counts: dict[str, str] = {}
        self.frauds: set[str] = set()
        self.again: set[str] = set()
        self.looked: dict[str, str] = {}  # task → outcome

    def of(self, lease: str) -> Asked:
        check(lease in self.asked, "nothing was asked of", lease)
        return self.asked[lease]

    def owed(self) -> list[str]:
        """What must still be told: findings after revocations, and frauds."""
        return [*sorted(self.again), *sorted(self.frauds)]

    def see(self, event: Any, recorded: Recorded) -> None:
        if isinstance(event, ev.ProofReaudited):
            self._reaudited(event, recorded)
            return
        task, lease = self._lease_of(event)
        _HANDLERS[type(event)](self, event, recorded, task, lease)

    def _lease_of(self, event: Any) -> tuple[TaskStory, LeaseStory]:
        task = self.explainer.tasks[event.task]
        spec = self.explainer.jobs[task.job].spec
        lease = task.leases.get(event.lease)
        check(spec.policy == kinds.PROOF and not task.void, "a proof of what is not to be proved:", event)
        check(lease is not None and lease.worker == event.worker, "a proof without a lease:", event)
        assert lease is not None
        check(bool(lease.digest), "a proof before the result is in the log:", event)
        return task, lease

    # -- what is asked --------------------------------------------------------------------------------------------

    def _challenged(self, e: ev.ProofChallenged, recorded: Recorded, task: TaskStory, lease: LeaseStory) -> None:
        explainer = self.explainer
        check(e.lease not in self.asked and e.lease not in self.rejected, "a lease is challenged twice:", e)
        open_ = [lease for lease in task.leases if lease in self.asked and self.asked[lease].state == "open"]
        waiting = [lease for lease in open_ if lease not in task.condemned]
        check(not waiting, "two challenges of one task at once:", e, waiting)
        plan = explainer.jobs[task.job].spec.proof
        assert plan is not None
        data = explainer.mesh.work.blobs[lease.digest]
        grid = mesh_tokens.cut(plan.circuit, task.tile)
        leaves = [tiles.leaf(i, grid.tile_bytes(i, data)) for i in range(grid.count)]
        check(e.digest == lease.digest and e.root == merkle.root(leaves).hex(), "a challenge of another result:", e)
        check((e.tiles, e.checked) == (grid.count, min(plan.tiles, grid.count)), "another number of tiles:", e, plan)
        pinned = explainer.versions.active(plan.circuit, lease.seq)
        check((e.circuit, e.version) == (plan.circuit, pinned), "a challenge under another version:", e, pinned)
        check(e.vk_hash == explainer.versions.hashes[pinned], "a challenge under another key:", e)
        whose, digest, log_length = self.nonces.pop(e.nonce, ("", "", 0))
        check((whose, digest) == (e.lease, e.digest), "a nonce that was drawn for something else:", e, whose)
        check(log_length >= lease.answered, "a challenge that was drawn before its result was in the log:", e)
        terms = Terms.of(e)
        self.asked[e.lease] = Asked(terms, drawn_apart(terms), e.deadline_ms)

    def _submitted(self, e: ev.ProofSubmitted, _recorded: Recorded, task: TaskStory, _lease: LeaseStory) -> None:
        asked = self.of(e.lease)
        check(not asked.proofs, "proofs are handed in twice:", e)
        check(e.proofs in self.explainer.mesh.work.blobs, "proofs whose bytes are not stored:", e)
        asked.proofs = e.proofs
        if asked.state == "open":
            asked.state = "handed in"
        else:
            self.explainer.mesh.count("proofs after their rejection")

    # -- what comes of it -----------------------------------------------------------------------------------------

    def _verified(self, e: ev.ProofVerified, recorded: Recorded, task: TaskStory, lease: LeaseStory) -> None:
        asked, mesh = self.of(e.lease), self.explainer.mesh
        check(asked.state == "handed in", "a proof holds that is not looked at:", e, asked.state)
        check(Terms.of(e) == asked.terms and e.proofs == asked.proofs, "another proof than was asked for holds:", e)
        said = mesh_tokens.statements(asked.terms, asked.drawn)
        check(mesh.work.blobs.get(e.statements) == said, "it states something else than was drawn:", e)
        wrong = self._wrong(asked, task, lease)
        check(not wrong, "not every drawn tile is proved:", e, wrong)
        if self.explainer.versions.revoked(e.version, recorded.seq):
            mesh.count("proofs behind a revocation")
            return  # void in every fold: its task waits for another word
        asked.state = "holds"
        self.held.setdefault(task.id, []).append(e.lease)
        right = mesh.work.right(task.job, task.tile)[1] == lease.digest
        mesh.count("wrong tiles that were not drawn", not right)
        mesh.count("proofs within a grace", self.explainer.versions.active(e.circuit, recorded.seq) != e.version)

    def _wrong(self, asked: Asked, task: TaskStory, lease: LeaseStory) -> list[int]:
        blobs = self.explainer.mesh.work.blobs
        return mesh_tokens.wrong_tiles(asked.terms, task.tile, blobs[lease.digest], blobs[asked.proofs], asked.drawn)

    def _rejected(self, e: ev.ProofRejected, recorded: Recorded, task: TaskStory, lease: LeaseStory) -> None:
        explainer = self.explainer
        mesh, asked = explainer.mesh, self.asked.get(e.lease)
        check(e.lease not in self.rejected, "a proof is rejected twice:", e)
        check(asked is None or asked.state != "holds", "a proof that holds is rejected:", e)
        check(e.digest == lease.digest, "another result is rejected:", e)
        state = asked.state if asked is not None else ""
        if e.cause == "late":
            check(state == "open", "late, and nothing is waited for:", e, state)
        elif e.cause == "failed":
            check(state == "open" and e.lease in self.gave_up, "nobody gave it up:", e)
        elif e.cause == "wrong":
            assert asked is not None
            check(state == "handed in" and bool(self._wrong(asked, task, lease)), "a proof holds, and is refused:", e)
            self._suspect(e.lease, task, lease)
        elif e.cause == "missing":
            check(mesh.tally["bytes that were missing"] > 0, "bytes are missing that are there:", e)
        else:
            plan = explainer.jobs[task.job].spec.proof
            assert e.cause == "version" and plan is not None
            pinned = explainer.versions.active(plan.circuit, lease.seq)
            stays = bool(pinned) and explainer.versions.accepts(pinned, lease.seq, 1 << 60, recorded.seq)
            check(not stays, "an active version is refused:", e)
        mesh.count(f"rejected: {e.cause}")
        self.rejected[e.lease] = e.cause
        lease.unblamed = e.cause in UNBLAMED
        if asked is not None:
            asked.state = e.cause

    def _suspect(self, lease_id: str, task: TaskStory, lease: LeaseStory) -> None:
        """What came is no proof, so the bytes are looked at: if they are wrong, and read, that is fraud."""
        mesh = self.explainer.mesh
        if lease.digest == mesh.work.right(task.job, task.tile)[1]:
            mesh.count("right results without a proof")
            return
        mesh.count("wrong tiles that were drawn")
        if not task.ended and lease_id not in task.condemned and not mesh.oracle.of(lease.worker).guilty:
            self.frauds.add(lease_id)

    def missing(self, task: str, digests: list[str]) -> None:
        """The quorum's examiner could not read these: nobody is blamed for them."""
        leases = self.explainer.tasks[task].leases
        self.frauds -= {lease for lease in leases if leases[lease].digest in digests}

    def gave_back(self, event: ev.ResultFailed) -> None:
        if event.lease in self.asked:
            self.gave_up.add(event.lease)

    # -- verdicts, frauds, revocations ----------------------------------------------------------------------------

    def verdict(self, event: ev.TaskVerified, task: TaskStory, recorded: Recorded) -> str:
        """The lease that a verdict by proof rests on: the first that is proved, of a worker that nobody convicted."""
        guilty = self.explainer.mesh.oracle
        held = self.held.get(task.id, [])
        fit = [x for x in held if [task.leases[x].worker] == event.workers and task.leases[x].digest == event.digest]
        check(bool(fit) and event.rounds == 0, "a verdict that rests on no proof:", event, held)
        self.counts[event.task] = fit[0]
        self.explainer.mesh.count("verdicts on a late conviction", guilty.of(event.workers[0]).guilty)
        if self.explainer.versions.revoked(self.asked[fit[0]].terms.version, recorded.seq):
            self.again.add(event.task)
        return fit[0]

    def ended(self, task: TaskStory) -> None:
        """What is over is looked at no more."""
        self.frauds -= {lease for lease in task.leases if task.ended != "verified" or lease != self.counts.get(task.id)}

    def fraud(self, event: ev.FraudDetected) -> None:
        """In a job whose results are proved: by what an audit found, where one was called for."""
        looked = self.looked.get(event.task) == "wrong" and self.counts[event.task] == event.lease
        due = looked or event.task in self.again
        task = self.explainer.tasks[event.task]  # whoever else gave the same bytes is found out with the suspect
        wrong = {task.leases[x].digest for x in task.leases if self.rejected.get(x) == "wrong"}
        check(event.digest in wrong or due, "who is not suspect is accused:", event)
        self.frauds.discard(event.lease)

    def convicted(self, worker: str) -> None:
        """What a liar said elsewhere counts no more, so nobody looks at it."""
        tasks = self.explainer.tasks
        over = {x for x in self.frauds if tasks[x.rpartition("-")[0]].leases[x].worker == worker}
        self.frauds -= {x for x in over if self.counts.get(x.rpartition("-")[0]) != x}

    def revoked(self, version: str) -> None:
        for task, lease in self.counts.items():
            if self.asked[lease].terms.version == version:
                self.again.add(task)

    def _reaudited(self, e: ev.ProofReaudited, recorded: Recorded) -> None:
        mesh = self.explainer.mesh
        check(e.task in self.again, "what nobody asked for is looked at again, or twice:", e)
        lease = self.counts[e.task]
        asked, task = self.asked[lease], self.explainer.tasks[e.task]
        named = (lease, asked.terms.version, asked.terms.digest)
        check((e.lease, e.version, e.digest) == named, "something else is looked at again:", e, named)
        right = mesh.work.right(task.job, task.tile)[1] == e.digest
        if e.outcome == "missing":
            check(mesh.tally["bytes that were missing"] > 0, "bytes are missing that are there:", e)
        else:
            check(e.outcome == ("right" if right else "wrong"), "a strange finding:", e)
        self.again.discard(e.task)
        self.looked[e.task] = e.outcome
        mesh.count(f"looked at again: {e.outcome}")
        if e.outcome == "wrong" and lease not in task.condemned:
            self.frauds.add(lease)


def drawn_apart(terms: Terms) -> list[int]:
    """The tiles that a nonce draws: by the words of docs/proofs.md, and apart from shardy_common/proofs/tiles.py."""
    if terms.checked >= terms.tiles:
        return list(range(terms.tiles))
    said = b"shardy-tile-challenge-v2\0" + bytes.fromhex(terms.root)
    for field in (terms.lease.encode() + b"\0" + bytes.fromhex(terms.digest), bytes.fromhex(terms.nonce)):
        said += len(field).to_bytes(4, "little") + field
    stream = blake3(said + terms.tiles.to_bytes(8, "little") + terms.checked.to_bytes(8, "little")).digest(8 * 256)
    found: set[int] = set()
    for number in struct.unpack("<256Q", stream):
        if len(found) < terms.checked and number < 2**64 - 2**64 % terms.tiles:
            found.add(number % terms.tiles)
    return sorted(found)


_HANDLERS: dict[type, Any] = {
    ev.ProofChallenged: Proofs._challenged,
    ev.ProofSubmitted: Proofs._submitted,
    ev.ProofVerified: Proofs._verified,
    ev.ProofRejected: Proofs._rejected,
}
