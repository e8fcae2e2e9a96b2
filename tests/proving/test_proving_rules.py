"""The prover-verifier's rules, without bytes: what is asked for, what comes of it, and what counts when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_keys import made_key

from shardy_common.log import Append, Appended, Conflict, MemoryLog, Projection, Recorded
from shardy_common.proofs.statement import Terms, drawn
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Operand, ProofPlan, Tile
from shardy_prover_verifier.core import answer_ms
from shardy_prover_verifier.fold import TABLES, VERSION, ProverCore
from shardy_prover_verifier.state import Check, Checked, Draw, Drawn

ANN, BEN = (f"12D3Koo{name}" for name in ("ann", "ben"))
CIRCUIT = "v2-8x8x8"
KEY = made_key(1)
DIGEST, OTHER = "aa" * 32, "bb" * 32
SPEC = JobSpec(
    "matmul",
    {"a": Operand("01" * 32, "int8", 16, 8), "b": Operand("02" * 32, "int8", 16, 8)},
    policy="proof",
    proof=ProofPlan(CIRCUIT, 3),
)
TILE = Tile(0, 16, 0, 16)


class World:
    """A log in memory and a prover-verifier that reads it."""

    def __init__(self, development: bool = True) -> None:
        self.log = MemoryLog(lambda: 0)
        self.core = ProverCore(development=development)
        self.proving = self.core.proving
        self.core.verifiers.key_of = lambda version: f"key of {version}"  # type: ignore[method-assign]
        self.proving.vk_of = self.core.verifiers.key_of
        self.read = 0

    def say(self, *events: ev.Event, expect: bool = True) -> list[Any]:
        return self.append([Append(event, f"m{len(self.log.events)}/{i}") for i, event in enumerate(events)])

    def append(self, items: list[Append]) -> list[Any]:
        outcomes = [self.log.append_now(item) for item in items]
        for item, outcome in zip(items, outcomes, strict=True):
            self.proving.settled(item, isinstance(outcome, Appended))
        self.fold()
        return outcomes

    def fold(self) -> None:
        for recorded in self.log.events[self.read :]:
            self.core.evolve(recorded)
        self.read = len(self.log.events)

    def decide(self, now_ms: int = 0) -> tuple[list[ev.Event], list[Any]]:
        appends, work = self.proving.decide(now_ms)
        self.append(appends)
        return [item.event for item in appends], work

    def begin(self) -> None:
        """A version is active, and a task of a job is lent to Ann."""
        self.say(
            ev.VerifierRegistered(CIRCUIT, "v1", (8, 8, 8), KEY.vk, KEY.vk_hash, True, "op"),
            ev.VerifierRegistered(CIRCUIT, "v2", (8, 8, 8), KEY.vk, KEY.vk_hash, True, "op"),
            ev.VerifierRotated(CIRCUIT, "v1", "", 0, "op"),
            ev.JobSubmitted("j", SPEC, "me"),
            ev.TaskCreated("j-0-0-1", "j", TILE, [ev.Lease("j-0-0-1-0", ANN, "s", 9)]),
        )

    def answer(self, digest: str = DIGEST) -> None:
        self.say(ev.ResultSubmitted("j-0-0-1", "j", "j-0-0-1-0", ANN, digest, 1024, 1.0, "wasm"))

    def challenge(self, now_ms: int = 0) -> ev.ProofChallenged:
        events, (draw,) = self.decide(now_ms)
        assert events == [] and isinstance(draw, Draw)
        (item,) = self.proving.drawn(Drawn(draw, "cd" * 32, "ef" * 32, 4), now_ms)
        assert isinstance(self.append([item])[0], Appended)
        assert isinstance(item.event, ev.ProofChallenged)
        return item.event

    def prove(self, worker: str = ANN) -> None:
        self.say(ev.ProofSubmitted("j-0-0-1", "j", "j-0-0-1-0", worker, "99" * 32))


@pytest.fixture
def world() -> World:
    world = World()
    world.begin()
    return world


def test_a_result_is_challenged_once_and_its_proof_is_checked(world: World) -> None:
    assert world.decide() == ([], []), "nothing is asked before there is a result"
    world.answer()
    asked = world.challenge(now_ms=1_000)
    assert (asked.lease, asked.worker, asked.digest, asked.version) == ("j-0-0-1-0", ANN, DIGEST, "v1")
    assert (asked.tiles, asked.checked, asked.vk_hash, asked.circuit) == (4, 3, KEY.vk_hash, CIRCUIT)
    assert asked.deadline_ms > 60_000 and len(drawn(Terms.of(asked))) == 3
    assert world.decide() == ([], []), "it waits for the proof"
    world.prove()
    events, (check,) = world.decide()
    assert events == [] and isinstance(check, Check) and check.proofs == "99" * 32 and check.vk == "key of v1"
    assert world.decide() == ([], []), "it is being checked"
    (item,) = world.proving.checked(Checked(check, statements="77" * 32))
    world.append([item])
    verified = item.event
    assert isinstance(verified, ev.ProofVerified) and verified.statements == "77" * 32
    assert Terms.of(verified) == Terms.of(asked)
    assert world.decide() == ([], []), "a lease is proved once"


def test_a_wrong_proof_is_told(world: World) -> None:
    world.answer()
    world.challenge()
    world.prove()
    _, (check,) = world.decide()
    (item,) = world.proving.checked(Checked(check, cause="wrong", detail="no proof of tile 2 of 4"))
    assert isinstance(item.event, ev.ProofRejected) and item.event.cause == "wrong"
    world.append([item])
    assert world.decide() == ([], []) and world.proving.tasks["j-0-0-1"].open is None


def test_who_does_not_prove_in_time_is_late_by_the_logs_clock(world: World) -> None:
    world.answer()
    asked = world.challenge()
    assert world.decide(asked.deadline_ms) == ([], [])
    (event,), work = world.decide(asked.deadline_ms + 1)
    assert isinstance(event, ev.ProofRejected) and event.cause == "late" and work == []


def test_who_gives_it_back_is_asked_no_more(world: World) -> None:
    world.answer()
    world.challenge()
    world.say(ev.ResultFailed("j-0-0-1", "j", "j-0-0-1-0", ANN, "oom", "out of memory"))
    (event,), _ = world.decide()
    assert isinstance(event, ev.ProofRejected) and (event.cause, event.detail) == ("failed", "oom: out of memory")


def test_somebody_elses_proof_is_no_answer(world: World) -> None:
    world.answer()
    world.challenge()
    world.prove(worker=BEN)
    assert world.decide() == ([], []) and world.proving.tasks["j-0-0-1"].open.proofs == ""  # type: ignore[union-attr]


def test_bytes_that_are_gone_are_nobodys_fault(world: World) -> None:
    world.answer()
    _, (draw,) = world.decide()
    (item,) = world.proving.drawn(Drawn(draw, missing="it is not stored"), 0)
    assert isinstance(item.event, ev.ProofRejected) and item.event.cause == "missing"


def test_the_second_replica_says_nothing(world: World) -> None:
    """Two that decide the same: the log takes one of them, and both read that."""
    world.answer()
    _, (draw,) = world.decide()
    first, second = (world.proving.drawn(Drawn(draw, "cd" * 32, nonce * 32, 4), 0)[0] for nonce in ("01", "02"))
    assert world.append([first])[0] == Appended(7) and world.append([second])[0] == Appended(7, duplicate=True)
    late = Append(second.event, "another", second.expect, second.expect_filter)
    assert isinstance(world.append([late])[0], Conflict)
    assert world.proving.tasks["j-0-0-1"].open.terms.nonce == "01" * 32  # type: ignore[union-attr]


def test_a_lease_is_held_to_the_version_at_its_place_until_the_grace_ends(world: World) -> None:
    world.say(ev.VerifierRotated(CIRCUIT, "v2", "v1", 50_000, "op"))
    world.answer()
    assert world.challenge(now_ms=49_000).version == "v1"
    world.prove()
    (event,), work = world.decide(now_ms=50_001)
    assert isinstance(event, ev.ProofRejected) and (event.cause, work) == ("version", [])


def test_nothing_counts_behind_a_revocation(world: World) -> None:
    """Whenever it comes: before the challenge, while the worker proves, while the proof is checked, or between the
    check and its verdict."""
    revoked = ev.VerifierRevoked(CIRCUIT, "v1", "v2", "broken", "op")
    world.answer()
    world.challenge()
    world.prove()
    _, (check,) = world.decide()
    world.say(revoked)
    (item,) = world.proving.checked(Checked(check, statements="77" * 32))
    assert isinstance(item.event, ev.ProofRejected) and item.event.cause == "version"
    # a verdict that was on its way already stands in the log, and changes nothing
    terms = check.terms._asdict()
    late = ev.ProofVerified(job="j", proofs="99" * 32, statements="77" * 32, **terms)
    world.say(late)
    assert world.proving.tasks["j-0-0-1"].settled == []
    (event,), _ = world.decide()
    assert isinstance(event, ev.ProofRejected) and event.cause == "version"


def test_what_waits_for_a_proof_is_given_up_when_its_version_is_revoked(world: World) -> None:
    world.answer()
    world.challenge()
    world.say(ev.VerifierRevoked(CIRCUIT, "v1", "", "broken", "op"))
    (event,), _ = world.decide()
    assert isinstance(event, ev.ProofRejected) and event.cause == "version"


def test_a_development_key_counts_in_development_only() -> None:
    world = World(development=False)
    world.begin()
    world.answer()
    (event,), work = world.decide()
    assert isinstance(event, ev.ProofRejected) and event.cause == "version" and "development" in event.detail
    assert work == []


def test_void_tasks_and_other_policies_are_left_alone(world: World) -> None:
    other = JobSpec("matmul", SPEC.operands, policy="audit")
    world.say(
        ev.TaskCreated("j-0-0-2", "j", TILE, [ev.Lease("j-0-0-2-0", BEN, "s", 9)]),
        ev.ResultSubmitted("j-0-0-2", "j", "j-0-0-2-0", BEN, OTHER, 1024, 1.0, "wasm"),
        ev.JobSubmitted("k", other, "me"),
        ev.TaskCreated("k-0-0-1", "k", TILE, [ev.Lease("k-0-0-1-0", BEN, "s", 9)]),
        ev.ResultSubmitted("k-0-0-1", "k", "k-0-0-1-0", BEN, OTHER, 1024, 1.0, "wasm"),
    )
    assert world.decide() == ([], []) and set(world.proving.tasks) == {"j-0-0-1"}


def test_a_fold_that_begins_again_asks_the_same(world: World) -> None:
    world.answer()
    world.challenge()
    again = ProverCore(development=True)
    for recorded in world.log.events:
        again.evolve(recorded)
    assert again.proving.tasks == world.proving.tasks and again.proving.waiting == world.proving.waiting
    rows, fresh = world.core.rows(), again.rows()
    assert {name: sorted(rows[name]) for name in rows} == {name: sorted(fresh[name]) for name in fresh}


def test_a_restart_asks_in_the_same_order(world: World, tmp_path: Path) -> None:
    """The log's, in which a later lease may be answered before an earlier one: replicas must agree what is open."""
    world.say(
        ev.TaskAssigned("j-0-0-1", "j", TILE, [ev.Lease("j-0-0-1-1", BEN, "s", 9)], "retry"),
        ev.ResultSubmitted("j-0-0-1", "j", "j-0-0-1-1", BEN, OTHER, 1024, 1.0, "wasm"),
    )
    world.answer()
    projection = Projection(tmp_path / "rows.sqlite3", TABLES, version=VERSION)
    projection.commit(world.core.rows(), len(world.log.events))
    again = ProverCore(development=True)
    again.load(projection)
    asked = [core.proving.decide(0)[1][0].lease for core in (world.core, again)]  # type: ignore[union-attr]
    assert asked == ["j-0-0-1-1", "j-0-0-1-1"]
    projection.close()


def test_time_to_answer_grows_with_circuit_and_tiles() -> None:
    from shardy_common.proofs.signals import Circuit

    small, large = Circuit.named("v2-8x8x8"), Circuit.named("v2-64x64x64")
    assert 60_000 <= answer_ms(small, 1) < answer_ms(large, 1) < answer_ms(large, 64) < 4_000_000


def test_an_ended_job_is_forgotten(world: World) -> None:
    world.answer()
    world.challenge()
    world.say(ev.JobCancelled("j", "me"))
    assert world.decide() == ([], [])
    rows = world.core.rows()
    assert "jobs" not in rows and not world.proving.waiting
    assert isinstance(world.log.events[-1], Recorded)
