"""The task's rules: when to look at the bytes, whom that condemns, and what never counts."""

from __future__ import annotations

from typing import Any

import pytest
from mesh_events import JOB, Story, created, joined, lease, matmul, reopened, result, stream, submitted

from shardy_common.carving import Cursor
from shardy_common.log import Append, Conflict
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Tile
from shardy_quorum.task import Examination, Findings, Quorum

TILE = Tile(0, 8, 0, 4)
T = "t1"


class Given:
    def __init__(self, spec: JobSpec | None = None, workers: str = "ab", *votes: str) -> None:
        """votes: a digest by lease, in order."""
        self.story, self.quorum = Story(), Quorum()
        self.then(submitted(spec), *(joined(w) for w in "abcde"), created(T, TILE, *workers))
        self.workers = workers
        self.vote(*votes)

    def then(self, *events: ev.Event) -> Given:
        for recorded in self.story.add(*events):
            self.quorum.evolve(recorded)
        return self

    def vote(self, *digests: str, start: int = 0) -> Given:
        return self.then(*(result(T, start + i, self.workers[start + i], d) for i, d in enumerate(digests)))

    def lend(self, worker: str) -> Given:
        n = len(self.workers)
        self.workers += worker
        return self.then(ev.TaskAssigned(T, JOB, TILE, [lease(T, n, worker)], "dispute"))

    def when(self) -> tuple[list[Any], list[Examination]]:
        """Decide, append, read back."""
        appends, examinations = self.quorum.decide()
        return self._append(appends), examinations

    def found(self, **findings: Any) -> list[Any]:
        return self._append(self.quorum.judge(Findings(T, **findings)))

    def _append(self, items: list[Append]) -> list[Any]:
        for recorded in self.story.append(items):
            self.quorum.evolve(recorded)
        return [item.event for item in items]


def test_two_equal_results_are_verified() -> None:
    given = Given(matmul(), "ab", "aa")
    assert given.when() == ([], [])
    given.vote("aa", start=1)
    ((verified,), examinations) = given.when()
    assert (verified.task, verified.digest, verified.workers, verified.method) == (T, "aa", ["a", "b"], "quorum")
    assert (verified.rounds, verified.ops, verified.size, verified.tile) == (0, 2 * 32 * 3, 128, TILE)
    assert examinations == [] and given.quorum.tasks == {} and given.when() == ([], [])


def test_a_mismatch_is_audited_and_settled_in_one_go() -> None:
    given = Given(matmul(audit_rounds=3), "ab", "aa", "bb")
    appends, (examination,) = given.when()
    assert appends == [] and examination.purpose == "audit" and examination.digests == ("aa", "bb")
    assert given.when() == ([], []), "one examination at a time"
    fraud, verified = given.found(wrong={"aa": 5}, right=["bb"])
    assert (fraud.worker, fraud.lease, fraud.digest, fraud.row, fraud.method) == ("a", f"{T}-0", "aa", 5, "audit")
    assert fraud.rounds == 3 and fraud.agent == "agent a"
    assert (verified.digest, verified.workers, verified.method, verified.rounds) == ("bb", ["b"], "arbitration", 3)


def test_both_wrong_names_both_and_waits_for_more() -> None:
    given = Given(matmul(), "ab", "aa", "bb")
    given.when()
    frauds = given.found(wrong={"aa": 1, "bb": 2})
    assert [(f.worker, f.row) for f in frauds] == [("a", 1), ("b", 2)]
    assert given.when() == ([], [])
    given.lend("c").lend("d").vote("cc", "cc", start=2)
    ((verified,), _) = given.when()
    assert (verified.workers, verified.method) == (["c", "d"], "arbitration")


def test_colluders_with_one_wrong_digest_are_all_named() -> None:
    given = Given(matmul(redundancy=3), "abc", "aa", "aa", "cc")
    _, (examination,) = given.when()
    assert examination.digests == ("aa", "cc")
    *frauds, verified = given.found(wrong={"aa": 0}, right=["cc"])
    assert [f.worker for f in frauds] == ["a", "b"] and verified.workers == ["c"]


def test_a_majority_against_somebody_is_examined_before_anybody_is_blamed() -> None:
    given = Given(matmul(), "abc", "aa", "aa", "cc")
    _, (examination,) = given.when()
    assert examination.purpose == "audit"
    *frauds, verified = given.found(wrong={"aa": 0}, right=["cc"])
    assert [f.worker for f in frauds] == ["a", "b"] and verified.digest == "cc", "bytes count, not heads"


def test_the_audit_policy_looks_at_each_result() -> None:
    given = Given(matmul(policy="audit"), "a", "aa")
    _, (examination,) = given.when()
    assert examination.purpose == "audit"
    (verified,) = given.found(right=["aa"])
    assert (verified.method, verified.rounds, verified.workers) == ("audit", 2, ["a"])
    given = Given(matmul(policy="audit"), "a", "aa")
    given.when()
    (fraud,) = given.found(wrong={"aa": 0})
    assert fraud.worker == "a"
    given.lend("b").vote("bb", start=1)
    _, (examination,) = given.when()
    assert examination.digests == ("bb",)


def test_a_stream_goes_to_a_third_and_only_proof_condemns() -> None:
    given = Given(stream(), "ab", "aa", "bb")
    ((disputed,), examinations) = given.when()
    assert examinations == [] and disputed.votes == {"aa": ["a"], "bb": ["b"]} and disputed.need == 1
    assert given.when() == ([], [])
    given.lend("c").vote("bb", start=2)
    _, (examination,) = given.when()
    assert examination.purpose == "compare" and examination.digests == ("bb", "aa")
    fraud, verified = given.found(wrong={"aa": 3}, right=["bb"])
    assert (fraud.worker, fraud.method, fraud.rounds) == ("a", "recompute", 0)
    assert (verified.workers, verified.method) == (["b", "c"], "arbitration")


def test_a_streams_minority_is_not_condemned_without_proof() -> None:
    given = Given(stream(), "abc", "aa", "aa", "cc")
    given.when()
    (disputed,) = given.found()
    assert isinstance(disputed, ev.TaskDisputed) and given.quorum.tasks[T].condemned == []


@pytest.mark.parametrize("spec", [matmul(), stream(), matmul(policy="audit")], ids=["quorum", "stream", "audit"])
def test_missing_bytes_brand_nobody(spec: JobSpec) -> None:
    given = Given(spec, "abc", "aa", "aa", "cc")
    given.when()
    events = given.found(missing=["aa", "cc"])
    assert [type(event) for event in events] == [ev.TaskDisputed]
    assert given.quorum.tasks[T].condemned == []


@pytest.mark.parametrize("spec", [matmul(), stream()], ids=["quorum", "stream"])
def test_there_is_no_dispute_where_nobody_has_a_voice(spec: JobSpec) -> None:
    """All whose bytes were examined are proven wrong elsewhere, before the findings come."""
    given = Given(spec, "ab", "aa", "bb")
    if spec.kind == "stream":
        given.when()
        given.lend("c").vote("cc", start=2)
    given.when()
    given.then(*(ev.FraudDetected("t9", JOB, worker, f"t9-{i}", "ff", "audit", 0) for i, worker in enumerate("abc")))
    assert given.found(missing=["aa", "bb", "cc"]) == []
    assert given.when() == ([], []) and given.quorum.busy == set()


def test_a_vote_during_a_dispute_is_looked_at_when_the_dispute_is_read() -> None:
    given = Given(stream(), "abc", "aa", "bb")
    appends, _ = given.quorum.decide()
    given.vote("bb", start=2)
    assert given.quorum.decide() == ([], []), "a decision is under way"
    given._append(appends)
    _, (examination,) = given.when()
    assert examination.purpose == "compare"


def test_what_is_no_vote() -> None:
    given = Given(matmul(), "ab", "aa")
    given.then(
        result(T, 0, "a", "bb"),  # a second result for the lease
        result(T, 1, "a", "aa"),  # somebody else's lease
        result(T, 7, "c", "aa"),  # no such lease
        result("t2", 0, "b", "aa"),  # no such task
    )
    given.lend("a").vote("aa", start=2)  # a second lease of the same worker
    assert list(given.quorum.tasks[T].votes) == [f"{T}-0"] and given.when() == ([], [])
    given.then(ev.TaskExpired(T, JOB, [f"{T}-1"], "deadline")).vote("aa", start=1)
    ((verified,), _) = given.when()
    assert verified.workers == ["a", "b"], "late by the clock is still a vote"
    assert given.then(result(T, 2, "a", "cc")).when() == ([], []), "late by the verdict is not"


def test_a_refused_verdict_is_decided_again() -> None:
    given = Given(matmul(), "ab", "aa", "aa")
    (item,), _ = given.quorum.decide()
    given.then(ev.TaskExpired(T, JOB, [f"{T}-9"], "deadline"))
    assert isinstance(given.story.log.append_now(item), Conflict)
    assert given.quorum.decide() == ([], []), "marked as under way"
    given.quorum.settled(item, False)
    ((verified,), _) = given.when()
    assert verified.digest == "aa"


def test_findings_for_a_task_that_has_ended_change_nothing() -> None:
    given = Given(matmul(), "ab", "aa", "bb")
    given.when()
    given.then(ev.JobCancelled(JOB, "r"))
    assert given.found(wrong={"aa": 0}) == [] and given.quorum.busy == set()


def test_duplicates_of_anything_give_nothing_new() -> None:
    given = Given(matmul(), "ab", "aa", "bb")
    given.when()
    for recorded in list(given.story.log.events):
        if not isinstance(recorded.event, (ev.JobSubmitted, ev.TaskCreated)):
            given.quorum.evolve(recorded)
    assert given.quorum.decide() == ([], [])
    given.found(wrong={"aa": 5}, right=["bb"])
    for recorded in list(given.story.log.events)[-3:]:
        given.quorum.evolve(recorded)
    assert given.quorum.decide() == ([], []) and given.quorum.tasks == {}


def test_one_right_segment_does_not_verify_a_stream_that_one_worker_vouches_for() -> None:
    """A recomputed segment proves others wrong; it does not prove the rest of this result right."""
    given = Given(stream(), "abc", "aa", "aa", "cc")
    given.when()
    events = given.found(wrong={"aa": 3}, right=["cc"])
    assert {type(event) for event in events} == {ev.FraudDetected}
    assert given.when() == ([], [])
    given.lend("d").vote("cc", start=3)
    ((verified,), _) = given.when()
    assert (verified.digest, verified.workers) == ("cc", ["c", "d"])


def test_a_reopened_jobs_task_is_judged_as_any_other() -> None:
    """It has no lease at first, and nothing of its own stands in the log: its first event expects just that."""
    given = Given(matmul(), "ab", "aa")
    given.then(ev.TaskUnresolved(T, JOB, "x"), ev.JobFailed(JOB, "x"))
    given.then(reopened(("again", TILE), cursor=Cursor(0, 4, 0)))
    assert given.quorum.tasks["again"].seq == 0 and given.when() == ([], [])
    given.then(result("again", 0, "a", "aa"))
    assert given.quorum.tasks["again"].votes == {}, "nobody has a lease of it yet"
    given.then(ev.TaskAssigned("again", JOB, TILE, [lease("again", 0, "a"), lease("again", 1, "b")], "replica"))
    given.then(result("again", 0, "a", "aa"), result("again", 1, "b", "aa"))
    ((verified,), _) = given.when()
    assert (verified.task, verified.digest, verified.workers) == ("again", "aa", ["a", "b"])
    assert given.quorum.tasks == {}


def test_an_active_job_is_not_reopened() -> None:
    given = Given(matmul(), "ab", "aa")
    given.then(reopened(("again", TILE)))
    assert list(given.quorum.tasks) == [T]
