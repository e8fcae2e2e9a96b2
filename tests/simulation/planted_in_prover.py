"""Bugs of what is proved: in the prover-verifier, the quorum, the matchmaker and the gateway."""

from __future__ import annotations

import itertools
from typing import Any

import mesh_prover
import mesh_tokens
from mesh_prover import VerifierNode
from mesh_world import Mesh
from msgspec.structs import replace
from planting import Patch, planted

from shardy_common.log import Append
from shardy_common.verifiers.registry import Period
from shardy_common.wire import events as ev
from shardy_gateway.proving import Proofs as Shown
from shardy_gateway.views import Views
from shardy_matchmaker.fold import _HANDLERS as matchmaker_handlers
from shardy_matchmaker.fold import Fold
from shardy_matchmaker.pool import Pool
from shardy_prover_verifier.core import _HANDLERS as prover_handlers
from shardy_prover_verifier.core import Proving
from shardy_prover_verifier.state import Check, Checked, Draw, ProofTask
from shardy_quorum.proved import Proofs
from shardy_quorum.state import Findings, QuorumTask
from shardy_quorum.task import Quorum

# -- the prover-verifier ----------------------------------------------------------------------------------------------


@planted("prover-verifier/core, as the simulation has it", kind="proving")
def a_challenge_is_drawn_before_the_result(patch: Patch) -> None:
    """Nonces are drawn when a task is lent, and kept until somebody answers: who hears of one can choose its bytes."""
    honest = mesh_tokens.draw

    def observe(node: VerifierNode, batch: list[Any]) -> None:
        nonces = node.__dict__.setdefault("nonces", {})
        for recorded in batch:
            if isinstance(recorded.event, (ev.TaskCreated, ev.TaskAssigned)):
                for lease in recorded.event.leases:
                    nonces[lease.id] = (f"{node.mesh.rng.getrandbits(256):064x}", len(node.mesh.log.events))

    def examine(node: VerifierNode, life: int, asked: Any) -> None:
        told = node.__dict__.setdefault("nonces", {})
        if not isinstance(asked, Draw) or asked.lease not in told or node.life != life:
            look(node, life, asked)
            return
        nonce, length = told[asked.lease]
        node.mesh.explainer.proofs.nonces[nonce] = (asked.lease, asked.digest, length)
        node.propose(node.core.proving.drawn(honest(node.mesh.work, asked, nonce, False), node.now_ms))

    look = VerifierNode._examine
    patch.setattr(VerifierNode, "observe", observe)
    patch.setattr(VerifierNode, "_examine", examine)


@planted("prover-verifier/core", kind="proving")
def a_lease_is_challenged_until_it_suits(patch: Patch) -> None:
    """A challenge expects nothing, so two replicas both draw, and the later one counts."""
    tries = itertools.count()

    def own(proving: Proving, task: ProofTask, event: ev.Event, msg_id: str) -> Append:
        item = honest(proving, task, event, msg_id)
        if isinstance(event, ev.ProofChallenged):
            return Append(event, f"{item.msg_id}/{next(tries)}", trace=item.trace)
        return item

    honest = Proving._own
    patch.setattr(Proving, "_own", own)


@planted("prover-verifier/examine, as the simulation has it", "proofs of another lease", kind="proving", seeds=200)
def a_proof_of_another_lease_is_accepted(patch: Patch) -> None:
    """Whatever was proved of the task is taken for a proof, whichever lease and nonce it was for."""
    honest, made = mesh_tokens.check, Mesh.__init__
    meshes: list[Mesh] = []

    def init(mesh: Mesh, *more: Any) -> None:
        meshes[:] = [mesh]
        made(mesh, *more)

    def check(work: Any, asked: Check, missing: bool) -> Checked:
        found, terms = honest(work, asked, missing), asked.terms
        others = [p for f, p in meshes[0].made if f["task"] == terms.task and f["lease"] != terms.lease]
        return Checked(asked, "00" * 32) if found.cause == "wrong" and work.blobs[asked.proofs] in others else found

    patch.setattr(Mesh, "__init__", init)
    patch.setattr(mesh_prover.mesh_tokens, "check", check)


@planted("prover-verifier/examine, as the simulation has it", kind="proving")
def one_drawn_tile_is_enough(patch: Patch) -> None:
    """The verdict falls when the first of the drawn tiles is proved."""
    honest = mesh_tokens.check

    def check(work: Any, asked: Check, missing: bool) -> Checked:
        found = honest(work, asked, missing)
        terms = asked.terms
        c, handed_in = work.blobs[terms.digest], work.blobs[asked.proofs]
        first = mesh_tokens.drawn(terms)[:1]
        if found.cause == "wrong" and not mesh_tokens.wrong_tiles(terms, asked.tile, c, handed_in[:256], first):
            return Checked(asked, "00" * 32)
        return found

    patch.setattr(mesh_prover.mesh_tokens, "check", check)


@planted("prover-verifier/core", "revocation", kind="proving", seeds=200)
def a_revoked_version_is_accepted(patch: Patch) -> None:
    """Only what is leased after a revocation feels it."""

    def refusal(proving: Proving, version: str, lease_seq: int, now_ms: int) -> str:
        says = honest(proving, version, lease_seq, now_ms)
        return "" if says.endswith("is revoked") else says

    honest = Proving._refusal
    patch.setattr(Proving, "_refusal", refusal)


@planted("prover-verifier/core", "revocation", kind="proving", seeds=300)
def a_proof_behind_a_revocation_settles_its_lease(patch: Patch) -> None:
    """The prover-verifier takes its own verdict for good, where all others take it for void: nobody asks again."""

    def verified(proving: Proving, event: ev.ProofVerified, recorded: Any) -> None:
        task = proving._of(event.task, recorded)
        if task is not None:
            proving._settle(task, event.lease)

    patch.setitem(prover_handlers, ev.ProofVerified, verified)


@planted("common/verifiers", kind="proving", seeds=100)
def a_grace_accepts_what_was_leased_after_it_began(patch: Patch) -> None:
    """A version that was replaced goes on for new leases as long as its grace does."""
    patch.setattr(Period, "holds", lambda period, lease_seq: period.since_seq <= lease_seq)


@planted("prover-verifier/core", "rotation", kind="proving", seeds=200)
def a_grace_never_ends(patch: Patch) -> None:
    """What was leased under a version is accepted under it, however long ago that was replaced."""
    honest = Proving._refusal
    patch.setattr(Proving, "_refusal", lambda proving, version, seq, _now_ms: honest(proving, version, seq, 0))


@planted("prover-verifier/core", kind="proving", seeds=100)
def silence_is_waited_for_for_ever(patch: Patch) -> None:
    """Nobody looks at the time by which an answer must be there."""

    def decide(proving: Proving, now_ms: int) -> Any:
        waiting, proving.waiting = proving.waiting, {}
        decided = honest(proving, now_ms)
        proving.waiting = waiting
        return decided

    honest = Proving.decide
    patch.setattr(Proving, "decide", decide)


@planted("prover-verifier/core", "crash", kind="proving", seeds=200)
def an_open_challenge_is_not_written_down(patch: Patch) -> None:
    """A restart knows nothing of what was asked, and asks again."""

    def challenged(proving: Proving, event: ev.ProofChallenged, recorded: Any) -> None:
        before = set(proving.touched_tasks)
        honest(proving, event, recorded)
        proving.touched_tasks = before

    honest = Proving._challenged
    patch.setitem(prover_handlers, ev.ProofChallenged, challenged)


@planted("prover-verifier/core", "crash amid proof", kind="proving", seeds=100)
def who_crashes_amid_a_proof_never_looks_at_it_again(patch: Patch) -> None:
    """What was handed in is looked at when it comes, and not after a restart."""

    def decided(proving: Proving, task: ProofTask, now_ms: int) -> Any:
        if task.open is not None and task.open.proofs and task.open.proofs not in proving.__dict__.get("heard", ()):
            return None
        return honest(proving, task, now_ms)

    def submitted(proving: Proving, event: ev.ProofSubmitted, recorded: Any) -> None:
        proving.__dict__.setdefault("heard", set()).add(event.proofs)
        hear(proving, event, recorded)

    honest, hear = Proving._decide, Proving._submitted
    patch.setattr(Proving, "_decide", decided)
    patch.setitem(prover_handlers, ev.ProofSubmitted, submitted)


@planted("prover-verifier/state", kind="proving", large=True, seeds=300)
def results_are_asked_for_in_the_order_of_their_names(patch: Patch) -> None:
    """What is answered meanwhile under an earlier name bars the challenge that is on its way."""

    def following(task: ProofTask) -> str:
        return next((lease for lease in sorted(task.results) if lease not in task.settled), "")

    patch.setattr(ProofTask, "next", following)


# -- the quorum -------------------------------------------------------------------------------------------------------


@planted("quorum/proved", kind="proving")
def a_result_alone_is_a_verdict(patch: Patch) -> None:
    """Whoever answers first is believed, as where nobody votes."""
    patch.setattr(Proofs, "proved", lambda _proofs, _task, standing: next(iter(standing), ""))


@planted("quorum/proved", "proofs that are late", kind="proving", seeds=100)
def who_proves_late_is_fraud(patch: Patch) -> None:
    """Whatever comes in place of a proof in time, its result counts as a wrong one."""
    patch.setattr("shardy_quorum.proved.WRONG", "late")
    _blamed_unlooked(patch)


@planted("quorum/proved", "proofs of nothing", kind="proving", seeds=100)
def who_does_not_prove_is_fraud(patch: Patch) -> None:
    """What is no proof is taken for a wrong result, without a look at its bytes."""
    _blamed_unlooked(patch)


def _blamed_unlooked(patch: Patch) -> None:
    honest = Quorum.judge

    def judge(quorum: Quorum, findings: Findings) -> Any:
        task = quorum.tasks.get(findings.task)
        if task is not None and task.unproven:
            findings.wrong.update({task.votes[lease].digest: 0 for lease in task.unproven})
        return honest(quorum, findings)

    patch.setattr(Quorum, "judge", judge)


@planted("quorum/proved", "revocation", kind="proving", seeds=100)
def nothing_is_looked_at_after_a_revocation(patch: Patch) -> None:
    """What was accepted stays so, whatever becomes of its key."""
    patch.setattr(Proofs, "again", lambda *_: [])


@planted("quorum/proved", "crash amid second look", kind="proving", seeds=100)
def what_is_looked_at_again_is_forgotten_by_a_restart(patch: Patch) -> None:
    """Versions that are revoked already are not gone through at a start."""
    patch.setattr(Proofs, "review", lambda _: None)


@planted("quorum/proved", kind="proving", seeds=400)
def what_is_looked_at_again_is_told_by_each_replica(patch: Patch) -> None:
    """A finding expects nothing: who looks too says it too."""

    def looked_at(proofs: Proofs, findings: Findings, agent: Any) -> list[Append]:
        items = honest(proofs, findings, agent)
        return [Append(item.event, f"{item.msg_id}/{id(proofs)}", trace=item.trace) for item in items]

    honest = Proofs.looked_at
    patch.setattr(Proofs, "looked_at", looked_at)


@planted("quorum/proved", kind="proving", seeds=100)
def the_first_proof_of_a_task_bars_all_others(patch: Patch) -> None:
    """Though it counts no more, for its worker was convicted since: the task has no verdict, ever."""

    def take(proofs: Proofs, task: QuorumTask, event: Any) -> bool:
        return honest(proofs, task, event) if not task.proofs or isinstance(event, ev.ProofRejected) else False

    honest = Proofs.take
    patch.setattr(Proofs, "take", take)


@planted("quorum/task", "appends lost", kind="proving", seeds=300)
def a_fraud_that_got_lost_is_not_told_again(patch: Patch) -> None:
    """What was looked at is done with, whether the log has heard of it or not."""

    def judged(proofs: Proofs, task: QuorumTask, standing: dict[str, str], _findings: Findings) -> None:
        proofs.examined |= proofs.suspects(task, standing).keys()

    patch.setattr(Proofs, "judged", judged)


@planted("quorum/proved", "revocation", kind="proving", seeds=300)
def the_quorum_counts_proofs_behind_a_revocation(patch: Patch) -> None:
    """A verdict of the prover-verifier is good for the quorum wherever it stands."""

    def verified(proofs: Proofs, task: QuorumTask, event: ev.ProofVerified) -> bool:
        if event.lease in task.votes and all(lease != event.lease for lease, _ in task.proofs):
            task.proofs.append((event.lease, event.version))
        return True

    patch.setattr(Proofs, "_verified", verified)


@planted("quorum/task", kind="proving")
def whoever_said_the_same_is_credited_with_the_proof(patch: Patch) -> None:
    """One proves, and all who answered the same bytes are paid."""
    honest = Quorum._verified

    def verified(quorum: Quorum, task: QuorumTask, job: Any, _standing: Any, *more: Any) -> Append:
        return honest(quorum, task, job, task.standing(), *more)

    patch.setattr(Quorum, "_verified", verified)


# -- matchmaker and gateway -------------------------------------------------------------------------------------------


@planted("matchmaker/pool", kind="proving")
def what_is_to_be_proved_is_lent_to_anybody(patch: Patch) -> None:
    """Nobody asks how much memory a worker gives."""
    honest = Pool.pick
    patch.setattr(Pool, "pick", lambda pool, workers, addresses, _proves_mib=0: honest(pool, workers, addresses))


@planted("matchmaker/fold", kind="proving", seeds=100)
def an_unproved_task_waits_for_its_worker(patch: Patch) -> None:
    """A result that nobody proved still counts as an answer, so the task is lent to nobody else."""
    patch.delitem(matchmaker_handlers, ev.ProofRejected)


@planted("matchmaker/fold", kind="proving", seeds=100)
def who_hands_in_no_proof_gets_the_task_again(patch: Patch) -> None:
    """As if it had only been late."""
    honest = Fold._proof_rejected

    def rejected(fold: Fold, event: ev.ProofRejected, recorded: Any) -> None:
        honest(fold, replace(event, cause="version") if event.cause == "wrong" else event, recorded)

    patch.setitem(matchmaker_handlers, ev.ProofRejected, rejected)


@planted("gateway/proving", kind="proving", seeds=100)
def challenges_outlive_their_tasks(patch: Patch) -> None:
    """What is asked when its task has ended is asked for ever."""

    def evolve(shown: Shown, recorded: Any) -> None:
        if isinstance(recorded.event, ev.ProofChallenged):
            shown._add(recorded.event)
        else:
            honest(shown, recorded)

    honest = Shown.evolve
    patch.setattr(Shown, "evolve", evolve)


@planted("gateway/proving", kind="proving", large=True, seeds=400)
def the_last_proof_of_a_task_is_shown(patch: Patch) -> None:
    """Whatever the verdict rests on."""

    def of_task(shown: Shown, task: str, _worker: str, _digest: str) -> Any:
        rows = shown.read("SELECT body FROM proofs WHERE task = ? ORDER BY seq DESC", (task,))
        return shown_of(rows[0][0]) if rows else None

    from shardy_gateway.proving import _verified as shown_of

    patch.setattr(Shown, "of_task", of_task)


@planted("gateway/evidence", kind="proving", seeds=100)
def a_receipt_names_the_first_answer_of_who_proved(patch: Patch) -> None:
    """Though it proved the result of a later lease."""
    patch.setattr(Views, "_proves", lambda *_: False)
