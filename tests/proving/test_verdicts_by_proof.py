"""What the quorum makes of proofs, and the matchmaker of results that will not be proved. By events alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
from made_keys import made_key

from shardy_common import kinds
from shardy_common.log import Append, Recorded
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Operand, ProofPlan, Tile
from shardy_matchmaker.decide import Matchmaker
from shardy_matchmaker.state import EXPIRED, FAILED
from shardy_quorum.proved import Proven
from shardy_quorum.state import Findings
from shardy_quorum.task import Quorum

KEY = made_key(1)
CIRCUIT = "v2-8x8x8"
DIGEST = "aa" * 32
SPEC = JobSpec(
    "matmul",
    {"a": Operand("01" * 32, "int8", 16, 8), "b": Operand("02" * 32, "int8", 16, 8)},
    policy="proof",
    proof=ProofPlan(CIRCUIT, 3),
)
TILE = Tile(0, 16, 0, 16)
TASK = "j-0-0-1"
TERMS: dict[str, Any] = {
    "circuit": CIRCUIT, "version": "v1", "vk_hash": KEY.vk_hash, "root": "", "nonce": "", "tiles": 4, "checked": 3,
}  # fmt: skip


class Place:
    """A quorum with one task, lent to Ann, who has answered."""

    def __init__(self) -> None:
        self.quorum, self.seq = Quorum(), 0
        self.say(
            ev.VerifierRegistered(CIRCUIT, "v1", (8, 8, 8), KEY.vk, KEY.vk_hash, True, "op"),
            ev.VerifierRotated(CIRCUIT, "v1", "", 0, "op"),
            ev.JobSubmitted("j", SPEC, "me"),
            ev.TaskCreated(TASK, "j", TILE, [ev.Lease(f"{TASK}-0", "ann", "s", 9)]),
            ev.ResultSubmitted(TASK, "j", f"{TASK}-0", "ann", DIGEST, 1024, 1.0, "wasm"),
        )

    def say(self, *events: ev.Event) -> None:
        for event in events:
            self.seq += 1
            self.quorum.evolve(Recorded(self.seq, event.subject, 0, event))

    def proved(self, version: str = "v1", lease: str = f"{TASK}-0", digest: str = DIGEST) -> ev.ProofVerified:
        terms = {**TERMS, "version": version}
        return ev.ProofVerified(TASK, "j", lease, "ann", digest, proofs="", statements="", **terms)

    def rejected(self, cause: str) -> None:
        self.say(ev.ProofRejected(TASK, "j", f"{TASK}-0", "ann", DIGEST, cause))

    def verdicts(self) -> list[ev.Event]:
        return [item.event for item in self.quorum.decide()[0]]


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_result_alone_is_no_verdict_and_its_proof_is(place: Place) -> None:
    assert place.quorum.decide() == ([], [])
    place.say(place.proved())
    (event,) = place.verdicts()
    assert isinstance(event, ev.TaskVerified)
    assert (event.method, event.workers, event.digest, event.rounds) == ("proof", ["ann"], DIGEST, 0)


@pytest.mark.parametrize("change", [{"version": "v9"}, {"lease": f"{TASK}-7"}, {"digest": "bb" * 32}])
def test_a_proof_of_something_else_is_none(place: Place, change: dict[str, str]) -> None:
    place.say(place.proved(**change))
    assert place.verdicts() == []


def test_a_verdict_behind_the_revocation_of_its_version_is_void(place: Place) -> None:
    place.say(ev.VerifierRevoked(CIRCUIT, "v1", "", "broken", "op"), place.proved())
    assert place.verdicts() == []


@pytest.mark.parametrize("cause", ["late", "failed", "missing", "version"])
def test_who_does_not_prove_is_not_looked_at_and_may_answer_again(place: Place, cause: str) -> None:
    place.rejected(cause)
    assert place.quorum.decide() == ([], [])
    again = f"{TASK}-1"
    place.say(
        ev.TaskAssigned(TASK, "j", TILE, [ev.Lease(again, "ann", "s", 9)], "retry"),
        ev.ResultSubmitted(TASK, "j", again, "ann", DIGEST, 1024, 1.0, "wasm"),
        place.proved(lease=again),
    )
    assert [type(event) for event in place.verdicts()] == [ev.TaskVerified]


def test_what_is_no_proof_is_looked_at_before_anybody_is_blamed(place: Place) -> None:
    place.rejected("wrong")
    appends, (examination,) = place.quorum.decide()
    assert appends == [] and (examination.purpose, examination.digests) == ("audit", (DIGEST,))
    (item,) = place.quorum.judge(Findings(TASK, wrong={DIGEST: 3}))
    fraud = item.event
    assert isinstance(fraud, ev.FraudDetected) and (fraud.worker, fraud.method, fraud.row) == ("ann", "audit", 3)
    place.say(fraud)
    assert place.quorum.decide() == ([], [])


@pytest.mark.parametrize("findings", [Findings(TASK, right=[DIGEST]), Findings(TASK, missing=[DIGEST])])
def test_a_right_result_without_a_proof_is_neither_fraud_nor_verified(place: Place, findings: Findings) -> None:
    place.rejected("wrong")
    place.quorum.decide()
    assert place.quorum.judge(findings) == []
    place.quorum.review()
    assert place.quorum.decide() == ([], []), "it is looked at once"


def test_what_was_verified_under_a_version_is_audited_when_that_is_revoked(place: Place) -> None:
    place.say(place.proved())
    (verified,) = place.verdicts()
    place.say(verified, ev.JobCompleted("j", 256, 1))
    assert place.quorum.decide() == ([], [])
    place.say(ev.VerifierRevoked(CIRCUIT, "v1", "", "broken", "op"))
    _, (examination,) = place.quorum.decide()
    assert (examination.task, examination.digests, examination.purpose) == (TASK, (DIGEST,), "audit")
    assert place.quorum.decide() == ([], []), "it is being looked at"
    (item,) = place.quorum.judge(Findings(TASK, right=[DIGEST]))
    assert isinstance(item.event, ev.ProofReaudited) and item.event.outcome == "right" and item.expect == 0
    place.say(item.event)
    place.quorum.review()
    assert place.quorum.decide() == ([], [])


def looked_at_again(place: Place) -> list[Append]:
    """A verified result turns out to be wrong after its version was revoked: what is proposed."""
    place.say(place.proved())
    (verified,) = place.verdicts()
    place.say(verified, ev.VerifierRevoked(CIRCUIT, "v1", "", "broken", "op"))
    place.quorum.decide()
    return place.quorum.judge(Findings(TASK, wrong={DIGEST: 2}))


def test_what_is_wrong_after_all_is_fraud_and_then_a_finding(place: Place) -> None:
    (item,) = looked_at_again(place)
    fraud = item.event
    assert isinstance(fraud, ev.FraudDetected) and (fraud.lease, fraud.row) == (f"{TASK}-0", 2)
    place.say(fraud)
    _, (examination,) = place.quorum.decide()
    (item,) = place.quorum.judge(Findings(examination.task, wrong={DIGEST: 2}))
    assert isinstance(item.event, ev.ProofReaudited) and item.event.outcome == "wrong"
    place.say(item.event)
    place.quorum.review()
    assert place.quorum.decide() == ([], [])


def test_a_fraud_that_the_log_did_not_take_is_told_again(place: Place) -> None:
    (item,) = looked_at_again(place)
    place.quorum.settled(item, accepted=False)
    _, (examination,) = place.quorum.decide()
    (again,) = place.quorum.judge(Findings(examination.task, wrong={DIGEST: 2}))
    assert again.event == item.event


def test_a_fraud_without_a_proof_that_the_log_did_not_take_is_told_again(place: Place) -> None:
    place.rejected("wrong")
    place.quorum.decide()
    (item,) = place.quorum.judge(Findings(TASK, wrong={DIGEST: 3}))
    place.quorum.settled(item, accepted=False)
    _, (examination,) = place.quorum.decide()
    assert place.quorum.judge(Findings(examination.task, wrong={DIGEST: 3}))[0].event == item.event


def test_who_becomes_suspect_during_an_audit_is_looked_at_after_it(place: Place) -> None:
    place.rejected("wrong")
    place.quorum.decide()
    other, later = "bb" * 32, f"{TASK}-1"
    place.say(
        ev.TaskAssigned(TASK, "j", TILE, [ev.Lease(later, "ben", "s", 9)], "retry"),
        ev.ResultSubmitted(TASK, "j", later, "ben", other, 1024, 1.0, "wasm"),
        ev.ProofRejected(TASK, "j", later, "ben", other, "wrong"),
    )
    assert place.quorum.judge(Findings(TASK, right=[DIGEST])) == []
    _, (examination,) = place.quorum.decide()
    assert examination.digests == (other,)


def test_who_proved_and_was_convicted_leaves_the_task_to_the_next_proof(place: Place) -> None:
    place.say(
        place.proved(),
        ev.FraudDetected("k-0-0-1", "k", "ann", "k-0-0-1-0", "ee" * 32, "audit", 0, 2),
        ev.TaskAssigned(TASK, "j", TILE, [ev.Lease(f"{TASK}-1", "ben", "s", 9)], "retry"),
        ev.ResultSubmitted(TASK, "j", f"{TASK}-1", "ben", DIGEST, 1024, 1.0, "wasm"),
    )
    assert place.verdicts() == []
    place.say(place.proved(lease=f"{TASK}-1"))
    (event,) = place.verdicts()
    assert isinstance(event, ev.TaskVerified) and event.workers == ["ben"]


def test_a_worker_with_two_leases_is_heard_for_both(place: Place) -> None:
    """Its first lease ran out and was answered late; then nothing comes of that, and the second is proved."""
    again = f"{TASK}-1"
    place.say(
        ev.TaskAssigned(TASK, "j", TILE, [ev.Lease(again, "ann", "s", 9)], "retry"),
        ev.ResultSubmitted(TASK, "j", again, "ann", DIGEST, 1024, 1.0, "wasm"),
    )
    place.rejected("late")
    place.say(place.proved(lease=again))
    (event,) = place.verdicts()
    assert isinstance(event, ev.TaskVerified) and event.workers == ["ann"]


def test_only_who_proved_is_credited(place: Place) -> None:
    """Whatever others answered: a right result with what is no proof earns nothing."""
    place.rejected("wrong")
    place.say(
        ev.TaskAssigned(TASK, "j", TILE, [ev.Lease(f"{TASK}-1", "ben", "s", 9)], "retry"),
        ev.ResultSubmitted(TASK, "j", f"{TASK}-1", "ben", DIGEST, 1024, 1.0, "wasm"),
        place.proved(lease=f"{TASK}-1"),
    )
    (event,) = place.verdicts()
    assert isinstance(event, ev.TaskVerified) and event.workers == ["ben"]


def test_a_replica_audits_its_own_jobs_and_takes_over_others(place: Place) -> None:
    mine: list[str] = []
    place.quorum.owns = lambda job: job in mine
    proven = Proven(TASK, "j", f"{TASK}-0", "ann", "v1", DIGEST, TILE, SPEC)
    place.quorum.proofs.ids = lambda version: [(TASK, "j")] if version == "v1" else []
    place.quorum.proofs.read = lambda task: proven if task == TASK else None
    place.say(ev.VerifierRevoked(CIRCUIT, "v1", "", "broken", "op"))
    assert place.quorum.decide() == ([], [])
    mine.append("j")
    place.quorum.review()
    _, (examination,) = place.quorum.decide()
    assert examination.task == TASK


# -- the matchmaker ---------------------------------------------------------------------------------------------------


class Mesh:
    """A matchmaker with workers that prove, and such that do not."""

    def __init__(self, **proves_mib: int) -> None:
        self.matchmaker, self.seq = Matchmaker(allow_same_address=True), 0
        for name, mib in proves_mib.items():
            probe = ev.Probe(10.0, 1.0, 512, "wasm", gateway_ms=1.0, proves_mib=mib)
            self.say(
                ev.WorkerJoined(name, f"s-{name}", "g", "i", "::1", name, "k", probe),
                ev.WorkerTiered(name, f"s-{name}", "wasm-laptop", 64, 10.0),
            )

    def say(self, *events: ev.Event) -> None:
        for event in events:
            self.seq += 1
            self.matchmaker.fold.evolve(Recorded(self.seq, event.subject, self.seq, event))
            self.matchmaker.read_back(event)

    def lent(self) -> list[Any]:
        """What it lends now, as read back."""
        events = [item.event for item in self.matchmaker.decide(self.seq, random.Random(1))]
        made = [event for event in events if isinstance(event, ev.TaskCreated | ev.TaskAssigned)]
        self.say(*events)
        return [lease.worker for event in made for lease in event.leases]


def test_only_who_has_the_memory_for_it_is_lent_what_is_to_be_proved() -> None:
    need = kinds.proving_mib(SPEC)
    mesh = Mesh(small=need - 1, none=0)
    mesh.say(ev.JobSubmitted("j", SPEC, "me"))
    assert mesh.lent() == []
    able = Mesh(small=need - 1, none=0, able=need)
    able.say(ev.JobSubmitted("j", SPEC, "me"))
    assert set(able.lent()) == {"able"}


def test_others_work_on_while_nobody_proves() -> None:
    mesh = Mesh(one=0)
    mesh.say(ev.JobSubmitted("j", SPEC, "me"))
    mesh.say(ev.JobSubmitted("k", JobSpec("matmul", SPEC.operands, policy="audit"), "me"))
    assert mesh.lent()


@pytest.mark.parametrize("cause, state", [("late", EXPIRED), ("version", EXPIRED), ("missing", EXPIRED),
                                          ("wrong", FAILED), ("failed", FAILED)])  # fmt: skip
def test_an_unproved_task_is_lent_again(cause: str, state: str) -> None:
    """To the same worker where nobody else is there and the fault was not in what it did."""
    mesh = Mesh(ann=512)
    mesh.say(ev.JobSubmitted("j", SPEC, "me"))
    assert set(mesh.lent()) == {"ann"}
    task = next(iter(mesh.matchmaker.fold.tasks.values()))
    lease = next(iter(task.leases))
    mesh.say(ev.ResultSubmitted(task.id, "j", lease, "ann", DIGEST, 1024, 1.0, "wasm"))
    assert mesh.lent() == []
    mesh.say(ev.ProofRejected(task.id, "j", lease, "ann", DIGEST, cause))
    assert mesh.matchmaker.fold.tasks[task.id].leases[lease].state == state
    mesh.seq += 120_000  # whoever was late rests for a while
    assert mesh.lent() == (["ann"] if state == EXPIRED else [])


def test_who_gives_less_memory_than_before_does_not_get_a_task_again() -> None:
    mesh = Mesh(ann=512)
    mesh.say(ev.JobSubmitted("j", SPEC, "me"))
    assert set(mesh.lent()) == {"ann"}
    task = next(iter(mesh.matchmaker.fold.tasks.values()))
    lease = next(iter(task.leases))
    mesh.say(
        ev.ResultSubmitted(task.id, "j", lease, "ann", DIGEST, 1024, 1.0, "wasm"),
        ev.ProofRejected(task.id, "j", lease, "ann", DIGEST, "version"),
        ev.WorkerJoined("ann", "s2", "g", "i", "::1", "ann", "k", ev.Probe(10.0, 1.0, 512, "wasm", gateway_ms=1.0)),
        ev.WorkerTiered("ann", "s2", "wasm-laptop", 64, 10.0),
    )
    assert mesh.lent() == []


@pytest.mark.parametrize("cause", ["missing", "late", "wrong", "failed"])
def test_a_result_that_was_not_proved_is_no_answer_when_it_comes_again(cause: str) -> None:
    """Recorded twice, by two gateways: whoever else is there gets the task."""
    mesh = Mesh(ann=512)
    mesh.say(ev.JobSubmitted("j", SPEC, "me"))
    assert set(mesh.lent()) == {"ann"}
    task = next(iter(mesh.matchmaker.fold.tasks.values()))
    result = ev.ResultSubmitted(task.id, "j", next(iter(task.leases)), "ann", DIGEST, 1024, 1.0, "wasm")
    mesh.say(result, ev.ProofRejected(task.id, "j", result.lease, "ann", DIGEST, cause), result)
    probe = ev.Probe(10.0, 1.0, 512, "wasm", gateway_ms=1.0, proves_mib=512)
    mesh.say(
        ev.WorkerJoined("ben", "s-ben", "g", "i", "::1", "ben", "k", probe),
        ev.WorkerTiered("ben", "s-ben", "wasm-laptop", 64, 10.0),
    )
    assert mesh.lent() == ["ben"]
