"""Canaries: when, by whom, made of what, and that each of them ends."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from mesh_events import Story, created, joined, matmul, result, stream, submitted
from test_auditor import Bench

from shardy_common import kinds, limits
from shardy_common.engine import Engine
from shardy_common.errors import Refused
from shardy_common.log import Append, Appended, Conflict
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Pre, Tile
from shardy_quorum.canary import BYTES_MAX, LIFE_MS, OPS_MAX, REQUESTER, Draft, Pacing
from shardy_quorum.prepare import Preparer, sizes
from shardy_quorum.state import Examination, Findings
from shardy_quorum.task import Quorum

C, T = "jcanary", "tc"
TILE = Tile(0, 8, 0, 4)
GAP = 5_000


class Given:
    """A quorum that has seen a job completed and some verdicts, at second ten."""

    def __init__(self, verdicts: int = 2, pacing: Pacing | None = None, spec: JobSpec | None = None) -> None:
        self.story = Story().at(10_000)
        self.quorum = Quorum(pacing=pacing or Pacing(2, GAP), name="q")
        self.then(submitted(spec, "j1"), *(joined(w) for w in "abc"))
        for i in range(verdicts):
            self.then(ev.TaskVerified(f"t{i}", "j1", TILE, "aa", 1, ["a", "b"], "quorum", 0, 5))
        self.then(ev.JobCompleted("j1", 32, 1))

    def then(self, *events: ev.Event) -> Given:
        for recorded in self.story.add(*events):
            self.quorum.evolve(recorded)
        return self

    def append(self, items: list[Append]) -> list[Any]:
        for recorded in self.story.append(items):
            self.quorum.evolve(recorded)
        return [item.event for item in items]

    def when(self) -> tuple[list[Any], list[Examination]]:
        appends, examinations = self.quorum.decide(self.story.now_ms)
        return self.append(appends), examinations

    def lent(self, spec: JobSpec | None = None) -> Given:
        """A canary prepared, submitted and lent to a."""
        assert self.quorum.canaries.wanted(self.story.now_ms) is not None
        self.append(self.quorum.canaries.drafted(Draft(C, spec or matmul(policy=kinds.CANARY), "right")))
        self.when()
        return self.then(created(T, TILE, "a", job=C))

    def answer(self, digest: str) -> Given:
        return self.then(result(T, 0, "a", digest, job=C))


# -- when -------------------------------------------------------------------------------------------------------------


def wanted(given: Given, now_ms: int = 10_000) -> bool:
    return given.quorum.canaries.wanted(now_ms) is not None


def test_one_for_so_many_verdicts() -> None:
    assert wanted(Given(2)) and not wanted(Given(1)) and not wanted(Given(50, Pacing(0, 0)))


def test_no_canary_is_made_of_a_canary_or_counts_for_one() -> None:
    given = Given(1).then(submitted(matmul(policy=kinds.CANARY), C))
    given.then(ev.TaskVerified("t9", C, TILE, "aa", 1, ["a"], "canary", 0, 5), ev.JobCompleted(C, 32, 1))
    assert not wanted(given) and [spec.policy for spec in given.quorum.canaries.pace.recent] == ["quorum"]


def test_not_more_often_than_the_gap_allows_and_one_at_a_time() -> None:
    given = Given().lent()
    verdicts = [ev.TaskVerified(f"u{i}", "j1", TILE, "aa", 1, ["a", "b"], "quorum", 0, 5) for i in range(9)]
    given.then(*verdicts)
    assert not wanted(given, 10_000 + 2 * GAP), "one is open"
    given.answer("right").when()
    given.then(ev.JobCompleted(C, 32, 1))
    assert not wanted(given, 10_000 + GAP - 1) and wanted(given, 10_000 + GAP)
    assert not wanted(given, 10_000 + GAP), "nor asked for twice while one is being made"


def test_of_two_quorums_one_gets_it() -> None:
    one, two = Given(), Quorum(pacing=Pacing(2, GAP), name="other")
    for recorded in one.story.log.events:
        two.evolve(recorded)
    drafts = [Draft(C, matmul(policy=kinds.CANARY), "x"), Draft("jother", matmul(policy=kinds.CANARY), "y")]
    proposals = []
    for quorum, draft in zip((one.quorum, two), drafts, strict=True):
        assert quorum.canaries.wanted(10_000) is not None
        proposals += quorum.canaries.drafted(draft)
    outcomes = [one.story.log.append_now(item) for item in proposals]
    assert isinstance(outcomes[0], Appended) and isinstance(outcomes[1], Conflict)
    two.settled(proposals[1], False)
    for quorum in (one.quorum, two):
        quorum.evolve(one.story.log.events[-1])
    (submit,), _ = one.quorum.decide(10_000)
    assert isinstance(submit.event, ev.JobSubmitted) and submit.expect == 0
    assert (submit.event.requester, submit.event.job, submit.event.spec.policy) == (REQUESTER, C, kinds.CANARY)
    assert two.decide(10_000) == ([], []), "what another prepared is not submitted here"


def test_a_draft_that_fell_behind_is_refused() -> None:
    """Another canary was prepared while this one was being made."""
    given = Given()
    assert wanted(given)
    given.then(ev.CanaryPrepared("jother", "yy", "other"))
    (item,) = given.quorum.canaries.drafted(Draft(C, matmul(policy=kinds.CANARY), "x"))
    assert isinstance(given.story.log.append_now(item), Conflict)


# -- verdicts and ends ------------------------------------------------------------------------------------------------


def test_the_right_answer_is_verified_like_any_checked_one() -> None:
    given = Given().lent().answer("right")
    ((verified,), examinations) = given.when()
    assert (verified.method, verified.workers, verified.digest) == ("canary", ["a"], "right") and not examinations
    assert given.quorum.book.of("a").tasks == 3


@pytest.mark.parametrize(
    ("spec", "purpose", "method"),
    [(matmul(policy=kinds.CANARY), "audit", "audit"), (stream(policy=kinds.CANARY), "recompute", "recompute")],
    ids=["matmul", "stream"],
)
def test_a_wrong_answer_is_examined_named_and_the_canary_ended(spec: JobSpec, purpose: str, method: str) -> None:
    given = Given().lent(spec).answer("wrong")
    appends, (examination,) = given.when()
    assert appends == [] and (examination.purpose, examination.digests) == (purpose, ("wrong",))
    (fraud,) = given.append(given.quorum.judge(Findings(T, wrong={"wrong": 5})))
    assert (fraud.worker, fraud.method, fraud.row, fraud.digest, fraud.expected) == ("a", method, 5, "wrong", "right")
    ((cancelled,), _) = given.when()
    assert cancelled == ev.JobCancelled(C, REQUESTER) and given.quorum.canaries.open == {}
    assert given.when() == ([], []) and given.quorum.book.convicted("a")


@pytest.mark.parametrize(
    "findings", [Findings(T, right=["wrong"]), Findings(T, missing=["wrong"])], ids=["ours", "gone"]
)
def test_what_is_not_proven_brands_nobody_and_ends_the_canary(findings: Findings) -> None:
    given = Given().lent().answer("wrong")
    given.when()
    assert given.append(given.quorum.judge(findings)) == [ev.JobCancelled(C, REQUESTER)]
    assert not given.quorum.book.convicted("a")


@pytest.mark.parametrize(
    "missed",
    [ev.TaskExpired(T, C, [f"{T}-0"], "deadline"), ev.ResultFailed(T, C, f"{T}-0", "a", "oom", "")],
    ids=["expired", "failed"],
)
def test_a_canary_without_an_answer_is_over(missed: ev.Event) -> None:
    given = Given().lent().then(missed)
    assert given.when()[0] == [ev.JobCancelled(C, REQUESTER)] and given.when() == ([], [])
    assert given.quorum.book.of("a").faults == 0


def test_a_canary_that_nobody_takes_is_over_after_a_while() -> None:
    given = Given()
    wanted(given)
    given.append(given.quorum.canaries.drafted(Draft(C, matmul(policy=kinds.CANARY), "right")))
    given.when()
    assert given.when() == ([], [])
    given.story.at(10_000 + LIFE_MS + 1)
    assert given.when()[0] == [ev.JobCancelled(C, REQUESTER)]


def test_one_that_was_submitted_after_it_was_given_up_ends_at_once() -> None:
    """Its maker could not reach the log for long; another canary was prepared meanwhile."""
    given = Given().then(ev.CanaryPrepared(C, "right", "q"), ev.CanaryPrepared("jother", "yy", "other"))
    given.then(submitted(matmul(policy=kinds.CANARY), C))
    given.story.at(10_000 + LIFE_MS)
    assert ev.JobCancelled(C, REQUESTER) in given.when()[0]


def test_a_draft_that_grew_old_is_not_submitted() -> None:
    given = Given()
    wanted(given)
    given.append(given.quorum.canaries.drafted(Draft(C, matmul(policy=kinds.CANARY), "right")))
    given.story.at(10_000 + LIFE_MS + 1)
    assert given.when() == ([], [])


def test_a_refused_end_is_tried_again() -> None:
    given = Given().lent().then(ev.ResultFailed(T, C, f"{T}-0", "a", "oom", ""))
    (item,), _ = given.quorum.decide(10_000)
    assert given.quorum.decide(10_000) == ([], [])
    given.quorum.settled(item, False)
    assert given.when()[0] == [ev.JobCancelled(C, REQUESTER)]


def test_no_requester_may_ask_for_a_canary() -> None:
    with pytest.raises(Refused, match="canary"):
        kinds.checked(matmul(policy=kinds.CANARY))
    assert kinds.CANARY not in kinds.POLICIES


# -- making one -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    bench = Bench(tmp_path_factory.mktemp("blobs"))
    yield bench
    bench.store.close()


PRES = [None, Pre(-1.5, 1.5), Pre(-1.5, 2.0, scale="tensor"), Pre(-1.0, 1.0, 1, 0.25), Pre(-1.0, 1.0, 0, 0.9, 4)]


@pytest.mark.parametrize("pre", PRES, ids=["int8", "float", "tensor", "along rows", "down rows"])
@pytest.mark.parametrize("kind", ["matmul", "stream"])
def test_a_prepared_canary_is_right_by_another_way_of_computing(bench: Bench, kind: str, pre: Pre | None) -> None:
    if kind == "stream" and pre is None:
        return
    source = bench.matmul(40, 30, 17, pre) if kind == "matmul" else bench.stream(40, 9, pre)
    preparer = Preparer(bench.store, Engine(), random.Random(3))
    for _ in range(4):
        draft = preparer.prepare(source)
        assert draft is not None and draft.spec.policy == kinds.CANARY and draft.spec.pre == source.pre
        for name, operand in draft.spec.operands.items():
            assert operand.digest not in {known.digest for known in source.operands.values()}
            shape, kind_of = (operand.rows, operand.cols), "<f4" if operand.dtype == "float32" else "i1"
            bench.arrays[operand.digest] = copy = np.array(bench.store.array(operand.digest, kind_of, shape))
            originals = {row.tobytes() for row in bench.arrays[source.operands[name].digest]}
            assert {row.tobytes() for row in copy} <= originals, "real rows"
        rows, cols = kinds.KINDS[kind].shape(draft.spec)
        right = bench.right(draft.spec, Tile(0, rows, 0, cols))
        assert blake3(right).hexdigest() == draft.digest
        assert bench.store.size(draft.digest) is None, "the answer lies nowhere"


@pytest.mark.parametrize("row", [0, 4, 8])
def test_a_recomputation_names_the_wrong_row(bench: Bench, row: int) -> None:
    spec = bench.stream(9, 5, Pre(-1.0, 1.0, 0, 0.9, 4))
    tile = Tile(0, 9, 0, 5)
    data = bytearray(bench.right(spec, tile))
    right = bench.put(bytes(data))
    data[4 * 9 + 5 * row + 4] ^= 1
    wrong, short = bench.put(bytes(data)), bench.put(bytes(data[1:]))
    request = bench.ask(spec, tile, right, wrong, short, "77" * 32, purpose="recompute")
    (found,) = bench.auditor.examine([request])
    assert (found.right, found.wrong, found.missing) == ([right], {wrong: row, short: 0}, ["77" * 32])


def test_canaries_differ_from_each_other(bench: Bench) -> None:
    preparer = Preparer(bench.store, Engine(), random.Random(4))
    source = bench.matmul(60, 50, 8)
    drafts = [preparer.prepare(source) for _ in range(8)]
    assert len({draft.job for draft in drafts if draft}) == 8
    assert len({kinds.KINDS["matmul"].shape(draft.spec) for draft in drafts if draft}) > 4


def test_no_canary_without_the_operands(bench: Bench) -> None:
    assert Preparer(bench.store, Engine()).prepare(matmul()) is None


@pytest.mark.parametrize(
    "spec",
    [
        matmul(1, 1, 1),
        matmul(limits.SIDE_MAX, limits.SIDE_MAX, 1),
        matmul(limits.SIDE_MAX, 16, limits.K_MAX),
        stream(limits.SIDE_MAX, 256),
        stream(limits.SIDE_MAX, 256, Pre(-1.0, 1.0, 0, 0.01, 4096, warm_rows=1725)),
    ],
)
def test_what_a_canary_costs_is_bounded(spec: JobSpec) -> None:
    kind = kinds.KINDS[spec.kind]
    for seed in range(20):
        found = sizes(spec, kind.shape(spec), random.Random(seed))
        if found is None:
            continue
        assert kind.ops(spec, *found) <= OPS_MAX and min(found) >= 1
        assert kind.input_bytes(spec, *found) + kind.result_bytes(spec, *found) <= BYTES_MAX


def test_rows_that_are_too_long_make_no_canary() -> None:
    spec = stream(4, limits.SIDE_MAX)
    assert sizes(spec, (4, limits.SIDE_MAX), random.Random(1)) is None
