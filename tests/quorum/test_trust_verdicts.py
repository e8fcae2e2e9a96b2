"""When one answer is enough, when it is not, and what a conviction does to answers that are still open."""

from __future__ import annotations

from pathlib import Path

import pytest
from mesh_events import Story, created, joined, lease, matmul, result, stream, submitted
from test_quorum_rules import TILE, Given, T

from shardy_common.log import Projection
from shardy_common.trust import Record
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec
from shardy_quorum.core import TABLES, VERSION, QuorumCore
from shardy_quorum.task import Quorum

ADAPTIVE = [matmul(policy="adaptive"), stream(policy="adaptive")]
ELSEWHERE = ev.FraudDetected("elsewhere", "j9", "a", "elsewhere-0", "ff", "audit", 0)


def lent(spec: JobSpec, worker: str = "a", trusted: bool = True) -> Given:
    """A task given to one worker on trust."""
    given = Given.__new__(Given)
    given.story, given.quorum, given.workers = Story(), Quorum(), worker
    if trusted:
        given.quorum.book.records[worker] = Record(10**6, 10**18)
    event = created(T, TILE, worker, job="j2")
    return given.then(submitted(spec, "j2"), ev.TaskCreated(T, "j2", TILE, event.leases, 1))


def answers(given: Given, digest: str, attempt: int, worker: str) -> Given:
    return given.then(result(T, attempt, worker, digest, job="j2"))


def more(given: Given, *workers: str) -> Given:
    start = len(given.quorum.tasks[T].leases)
    leases = [lease(T, start + i, worker) for i, worker in enumerate(workers)]
    return given.then(ev.TaskAssigned(T, "j2", TILE, leases, "retry"))


@pytest.mark.parametrize("spec", ADAPTIVE, ids=["matmul", "stream"])
def test_a_trusted_worker_is_believed(spec: JobSpec) -> None:
    given = answers(lent(spec), "aa", 0, "a")
    ((verified,), examinations) = given.when()
    assert (verified.method, verified.workers, verified.digest, verified.rounds) == ("trust", ["a"], "aa", 0)
    record = given.quorum.book.of("a")
    assert examinations == [] and record.exposure == verified.ops > 0 and record.lent == 0
    assert record.tasks == 10**6, "nobody checked it"


def test_need_is_not_believed_without_the_record_for_it() -> None:
    given = answers(lent(matmul(policy="adaptive"), trusted=False), "aa", 0, "a")
    assert given.when() == ([], [])
    answers(more(given, "b"), "aa", 1, "b")
    ((verified,), _) = given.when()
    assert (verified.method, verified.workers) == ("quorum", ["a", "b"])


def test_need_of_another_policy_gives_nobody_trust() -> None:
    given = lent(matmul(policy="quorum"))
    assert not given.quorum.tasks[T].lone and given.quorum.book.lone == {}


@pytest.mark.parametrize("first", ["answer", "conviction"])
def test_the_convicted_are_not_believed(first: str) -> None:
    """Folded before the verdict, in either order with the answer."""
    given = lent(matmul(policy="adaptive"))
    if first == "answer":
        answers(given, "aa", 0, "a").then(ELSEWHERE)
    else:
        answers(given.then(ELSEWHERE), "aa", 0, "a")
    assert given.when() == ([], []) and not given.quorum.tasks[T].lone
    answers(answers(more(given, "b", "c"), "bb", 1, "b"), "bb", 2, "c")
    ((verified,), examinations) = given.when()
    assert (verified.method, verified.workers) == ("quorum", ["b", "c"]) and examinations == []


@pytest.mark.parametrize(
    "end",
    [ev.TaskExpired(T, "j2", [f"{T}-0"], "deadline"), ev.ResultFailed(T, "j2", f"{T}-0", "a", "malformed", "")],
    ids=["expired", "failed"],
)
def test_after_a_lost_lease_one_answer_is_not_enough(end: ev.Event) -> None:
    given = lent(matmul(policy="adaptive")).then(end)
    answers(given, "aa", 0, "a")
    assert given.when() == ([], []), "late is a vote, not a verdict"
    answers(more(given, "b"), "aa", 1, "b")
    ((verified,), _) = given.when()
    assert verified.method == "quorum"
    given = answers(lent(matmul(policy="adaptive")), "aa", 0, "a").then(end)
    ((verified,), _) = given.when()
    assert verified.method == "trust", "its answer came first"


def test_nobody_elses_failure_takes_a_task_away() -> None:
    given = lent(matmul(policy="adaptive")).then(ev.ResultFailed(T, "j2", f"{T}-0", "b", "oom", ""))
    assert given.quorum.tasks[T].lone


@pytest.mark.parametrize("spec", ADAPTIVE, ids=["matmul", "stream"])
def test_replicas_are_judged_as_under_quorum(spec: JobSpec) -> None:
    given = Given(spec, "ab", "aa", "bb")
    appends, examinations = given.when()
    if spec.kind == "matmul":
        assert [examination.purpose for examination in examinations] == ["audit"]
    else:
        assert [type(event) for event in appends] == [ev.TaskDisputed]


def test_a_liars_other_answers_count_no_more_and_are_no_frauds() -> None:
    given = Given(matmul(), "ab", "aa", "aa").then(ELSEWHERE)
    assert given.when() == ([], []), "one voice is left"
    given.lend("c").vote("aa", start=2)
    ((verified,), _) = given.when()
    assert verified.workers == ["b", "c"] and verified.method == "quorum"


def test_a_liars_answer_no_longer_makes_a_dispute() -> None:
    given = Given(stream(), "abc", "bb", "aa", "aa").then(ELSEWHERE)
    ((verified,), examinations) = given.when()
    assert verified.workers == ["b", "c"] and examinations == []


def test_an_examination_of_answers_that_were_silenced_meanwhile_leaves_the_task_open() -> None:
    given = Given(matmul(policy="audit"), "a", "aa")
    given.when()
    given.then(ELSEWHERE)
    assert given.found(wrong={"aa": 0}) == [] and given.quorum.busy == set()
    given.lend("b").vote("bb", start=1)
    _, (examination,) = given.when()
    assert examination.digests == ("bb",)


def test_a_restart_knows_what_was_lent_on_trust(tmp_path: Path) -> None:
    given = lent(matmul(policy="adaptive"))
    given.then(joined("z"), ev.TaskVerified("t7", "j7", TILE, "aa", 1, ["b"], "audit", 2, 99))
    core = QuorumCore()
    core.quorum = given.quorum
    projection = Projection(tmp_path / "q.db", TABLES, version=VERSION)
    projection.commit(core.rows(), 1)
    again = QuorumCore()
    again.load(projection)
    assert again.quorum.book.lone == given.quorum.book.lone and T in again.quorum.book.lone
    assert again.quorum.book.of("a") == given.quorum.book.of("a") and again.quorum.book.of("b").tasks == 1
    assert again.quorum.tasks == given.quorum.tasks and again.quorum.canaries.pace.since == 1
    projection.close()
