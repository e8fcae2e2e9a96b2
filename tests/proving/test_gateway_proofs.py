"""The gateway's part in proofs: which circuit a job gets, what workers are asked, and what of theirs is taken."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blake3 import blake3
from made_keys import made_key

from shardy_common import ids, kinds
from shardy_common.errors import Refused
from shardy_common.log import Projection, Recorded
from shardy_common.proofs.needs import prover_mib
from shardy_common.proofs.signals import Circuit
from shardy_common.proofs.statement import Terms, drawn
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Operand, ProofPlan, Tile
from shardy_gateway import proving
from shardy_gateway.session import CloseSession
from shardy_gateway.views import TABLES, VERSION, Views

KEY = made_key(1)
FILES = ev.ProverFiles("f1" * 32, 100, 200, "f2" * 32, 300, 400)
ANN = ids.worker_id(b"\1" * 32)
TASK, LEASE = "j-0-0-1", "j-0-0-1-0"
CIRCUITS = {"v2-8x8x8": (8, 8, 8), "v2-32x32x32": (32, 32, 32), "v2-8x384x8": (8, 384, 8), "product": (4, 4, 4)}


def spec(rows: int = 16, k: int = 8, cols: int = 16, **more: Any) -> JobSpec:
    operands = {"a": Operand("01" * 32, "int8", rows, k), "b": Operand("02" * 32, "int8", cols, k)}
    return JobSpec("matmul", operands, **{"policy": "proof", **more})


class Folded:
    """Views of a mesh with a version of each circuit, and a job whose task Ann has."""

    def __init__(self, projection: Projection | None = None) -> None:
        self.views, self.seq = Views(), 0
        if projection is not None:
            self.views.load(projection)
            self.views.flush = lambda: projection.commit(self.views.rows(), self.seq)
        for circuit, shape in CIRCUITS.items():
            files = FILES if circuit != "product" else None
            version = f"v-{circuit}"
            self.say(
                ev.VerifierRegistered(circuit, version, shape, KEY.vk, KEY.vk_hash, True, "op", files),
                ev.VerifierRotated(circuit, version, "", 0, "op"),
            )
        self.say(
            ev.JobSubmitted("j", spec(proof=ProofPlan("v2-8x8x8", 2)), "me"),
            ev.TaskCreated(TASK, "j", Tile(0, 16, 0, 16), [ev.Lease(LEASE, ANN, "s", 9)]),
        )
        self.challenged = ev.ProofChallenged(
            TASK, "j", LEASE, ANN, "aa" * 32, "v2-8x8x8", "v-v2-8x8x8", KEY.vk_hash, "bb" * 32, "cc" * 32, 4, 2, 70_000
        )

    def say(self, *events: ev.Event) -> None:
        for event in events:
            self.seq += 1
            self.views.evolve(Recorded(self.seq, event.subject, 0, event))

    @property
    def registry(self) -> Any:
        return self.views.verifiers.registry


@pytest.fixture
def folded() -> Folded:
    return Folded()


@pytest.mark.parametrize(
    "rows, k, cols, circuit",
    [(16, 8, 16, "v2-8x8x8"), (32, 9, 32, "v2-32x32x32"), (8, 33, 8, "v2-8x384x8"), (64, 8, 64, "v2-32x32x32")],
)
def test_the_circuit_that_costs_least_is_taken(folded: Folded, rows: int, k: int, cols: int, circuit: str) -> None:
    found = proving.planned(spec(rows, k, cols), folded.registry)
    assert found.proof == ProofPlan(circuit, 4)
    asked = proving.planned(spec(rows, k, cols, proof=ProofPlan("", 9)), folded.registry)
    assert asked.proof == ProofPlan(circuit, 9)


def test_other_policies_are_left_as_they_are(folded: Folded) -> None:
    other = spec(policy="audit")
    assert proving.planned(other, folded.registry) is other


@pytest.mark.parametrize(
    "asked, words",
    [
        (spec(k=385), "no active circuit proves products with k = 385: .*v2-8x384x8.* are active"),
        (spec(k=9, proof=ProofPlan("v2-8x8x8", 1)), "circuit v2-8x8x8 proves products up to k = 8"),
        (spec(proof=ProofPlan("v2-64x64x64", 1)), "circuit v2-64x64x64 has no active version to prove with"),
        (spec(proof=ProofPlan("product", 1)), "circuit product has no active version to prove with"),
    ],
)
def test_what_cannot_be_proved_is_refused_with_what_could(folded: Folded, asked: JobSpec, words: str) -> None:
    with pytest.raises(Refused, match=words):
        proving.planned(asked, folded.registry)


def test_a_mesh_without_circuits_says_how_to_get_one() -> None:
    with pytest.raises(Refused, match=r"none is active.*shardy verifiers rotate"):
        proving.planned(spec(), Views().verifiers.registry)


@pytest.mark.parametrize(
    "more, words",
    [
        ({"policy": "quorum", "proof": ProofPlan("", 1)}, "proof is for policy proof"),
        ({"proof": ProofPlan("", 0)}, "proof.tiles is 1 to 64"),
        ({"proof": ProofPlan("", 65)}, "proof.tiles is 1 to 64"),
    ],
)
def test_plans_out_of_bounds_are_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        kinds.checked(spec(**more))


def test_floats_are_not_proved() -> None:
    operands = {name: Operand("01" * 32, "float32", 4, 4) for name in "ab"}
    pre = kinds.Pre(-1.0, 1.0)
    with pytest.raises(Refused, match="quantise first"):
        kinds.checked(JobSpec("matmul", operands, policy="proof", pre=pre))
    with pytest.raises(Refused, match="quantise first"):
        kinds.checked(JobSpec("stream", {"x": operands["a"]}, policy="proof", pre=pre))


def test_the_worker_is_told_all_that_it_needs(folded: Folded) -> None:
    folded.say(folded.challenged)
    frame = proving.prove_frame(folded.views, folded.challenged, now_ms=10_000)
    assert frame is not None
    assert frame["deadline_ms"] == 60_000 and frame["tiles"] == drawn(Terms.of(folded.challenged))
    assert (frame["rows"], frame["cols"], frame["of"], frame["p"]["k"]) == (16, 16, 4, 8)
    assert frame["zkey"] == {"d": FILES.zkey, "l": 100, "u": 200} and frame["r1cs"]["d"] == FILES.r1cs
    assert set(proving.named_blobs(frame)) == {FILES.zkey, FILES.r1cs, "01" * 32, "02" * 32}


@pytest.mark.parametrize(
    "after",
    [
        ev.ProofSubmitted(TASK, "j", LEASE, ANN, "99" * 32),
        ev.ProofRejected(TASK, "j", LEASE, ANN, "aa" * 32, "late"),
        ev.TaskVerified(TASK, "j", Tile(0, 16, 0, 16), "aa" * 32, 1024, [ANN], "proof"),
        ev.TaskUnresolved(TASK, "j", "given up"),
        ev.JobCancelled("j", "me"),
    ],
)
def test_what_is_answered_or_over_is_asked_no_more(folded: Folded, after: ev.Event) -> None:
    folded.say(folded.challenged)
    assert folded.views.proofs.asked_of(ANN) == [folded.challenged]
    folded.say(after)
    assert folded.views.proofs.asked_of(ANN) == []
    assert proving.prove_frame(folded.views, folded.challenged, 0) is None


@pytest.mark.parametrize("end", [ev.JobCancelled("j", "me"), ev.TaskUnresolved(TASK, "j", "given up")])
def test_a_challenge_that_an_end_overtook_is_asked_of_nobody(folded: Folded, end: ev.Event) -> None:
    folded.say(end, folded.challenged)
    assert folded.views.proofs.asked_of(ANN) == [] and folded.views.proofs.open == {}


def test_the_proof_that_the_verdict_rests_on_is_shown(tmp_path: Path) -> None:
    """Another worker's result was proved too, or this one's former lease was not: each receipt names its own."""
    projection = Projection(tmp_path / "views.sqlite3", TABLES, version=VERSION)
    folded = Folded(projection)
    views, terms = folded.views, Terms.of(folded.challenged)._asdict()
    other = {**terms, "lease": f"{TASK}-1", "worker": "ben", "digest": "dd" * 32}
    again = {**terms, "lease": f"{TASK}-2"}
    sig = "ab" * 64
    folded.say(
        ev.TaskAssigned(TASK, "j", Tile(0, 16, 0, 16), [ev.Lease(f"{TASK}-1", "ben", "s", 9)], "retry"),
        ev.TaskAssigned(TASK, "j", Tile(0, 16, 0, 16), [ev.Lease(f"{TASK}-2", ANN, "s", 9)], "retry"),
        ev.ResultSubmitted(TASK, "j", LEASE, ANN, "aa" * 32, 1024, 1.0, "wasm", sig=sig),
        ev.ResultSubmitted(TASK, "j", f"{TASK}-2", ANN, "aa" * 32, 1024, 1.0, "wasm", sig=sig),
        *(ev.ProofVerified(job="j", proofs="99" * 32, statements="77" * 32, **one) for one in (other, again)),
        ev.TaskVerified(TASK, "j", Tile(0, 16, 0, 16), "aa" * 32, 1024, [ANN], "proof"),
        ev.ProofVerified(job="j", proofs="98" * 32, statements="76" * 32, **{**other, "lease": f"{TASK}-3"}),
    )
    shown = views.proofs.of_task(TASK, ANN, "aa" * 32)
    assert shown is not None and (shown.lease, shown.proofs) == (f"{TASK}-2", "99" * 32)
    task = views.task(TASK)
    assert task is not None
    assert views.answers.at([task.answers[shown.lease]])[task.answers[shown.lease]][0] == f"{TASK}-2"
    projection.close()


def test_somebody_elses_proof_ends_nothing(folded: Folded) -> None:
    folded.say(folded.challenged, ev.ProofSubmitted(TASK, "j", LEASE, "somebody", "99" * 32))
    assert folded.views.proofs.asked_of(ANN) == [folded.challenged]


def read(folded: Folded, data: bytes, worker: str = ANN, **header: Any) -> Any:
    session: Any = SimpleNamespace(worker=worker)
    given = {"t": "proof", "lease": LEASE, "s": 0, "ms": 5.0, "backend": "wasm", **header}
    return proving.read_proofs(folded.views, session, given, [memoryview(data)])


def test_proofs_are_taken_as_they_are(folded: Folded) -> None:
    folded.say(folded.challenged)
    event, data, refused = read(folded, b"p" * 512)
    assert (event.lease, event.worker, event.proofs) == (LEASE, ANN, blake3(b"p" * 512).hexdigest())
    assert bytes(data) == b"p" * 512 and refused == ""


def test_what_nobody_asked_for_is_not_recorded(folded: Folded) -> None:
    assert read(folded, b"p" * 512)[2] == "late"
    folded.say(folded.challenged)
    assert read(folded, b"p" * 511)[2] == read(folded, b"")[2] == read(folded, b"p" * 768)[2] == "malformed"
    assert read(folded, b"p" * 512, worker="somebody")[2] == "late"


@pytest.mark.parametrize("header", [{"lease": 7}, {"s": 1}, {"s": -1}, {"s": None}, {"s": True}])
def test_a_frame_that_names_nothing_closes_the_socket(folded: Folded, header: dict[str, Any]) -> None:
    folded.say(folded.challenged)
    with pytest.raises(CloseSession) as caught:
        read(folded, b"p" * 512, **header)
    assert caught.value.code == 4400


@pytest.mark.parametrize("given, taken", [(float("nan"), 0.0), (-1, 0.0), ("7", 0.0), (7, 7.0)])
def test_what_a_worker_says_of_its_time_is_bounded(folded: Folded, given: Any, taken: float) -> None:
    folded.say(folded.challenged)
    event, _, _ = read(folded, b"p" * 512, ms=given, backend="x" * 99)
    assert event.ms == taken and event.backend == "x" * 16


@pytest.mark.parametrize(
    "circuit, measured", [("8x8x8", 100), ("16x16x16", 125), ("32x32x32", 200), ("64x64x64", 550), ("8x384x8", 310)]
)
def test_nobody_is_lent_what_takes_more_memory_than_it_gives(circuit: str, measured: int) -> None:
    """measured: MiB at the peak with one instance (web-worker/src/prove/needs.ts), 3 % of which may be noise."""
    need = prover_mib(Circuit.named(f"v2-{circuit}"))
    assert 0.97 * measured <= need <= 1.25 * measured
