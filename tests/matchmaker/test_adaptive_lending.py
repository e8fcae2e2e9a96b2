"""Policy adaptive and canaries in the matchmaker: who gets a task alone, and what follows when that fails."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from mesh_events import JOB, created, joined, matmul, result, stream, submitted
from test_matchmaker_decisions import T0, TASK, TILE, Given, crowd, only

from shardy_common import kinds, trust
from shardy_common.log import Projection
from shardy_common.trust import Record
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Tile
from shardy_matchmaker.core import TABLES, VERSION, MatchmakerCore
from shardy_matchmaker.decide import Matchmaker

ADAPTIVE = matmul(policy="adaptive")
LONG = Record(tasks=10**6, ops=10**18)


def known(given: Given, *workers: str, record: Record = LONG) -> Given:
    for worker in workers:
        given.fold.book.records[worker] = Record(record.tasks, record.ops, T0)
    return given


def lone(given: Given, worker: str = "a", task: str = TASK, tile: Tile = TILE) -> Given:
    event = created(task, tile, worker)
    return given.then(ev.TaskCreated(event.task, event.job, event.tile, event.leases, 1))


@pytest.mark.parametrize("spec", [ADAPTIVE, stream(policy="adaptive"), matmul(policy="adaptive", redundancy=3)])
def test_new_devices_are_replicated(spec: JobSpec) -> None:
    event = only(Given(submitted(spec), *crowd("a", "b", "c")).when(), ev.TaskCreated)
    assert event.need == len(event.leases) == spec.redundancy


def test_a_trusted_device_works_alone_but_for_a_share_of_checks() -> None:
    given = Given(submitted(matmul(400, 4, policy="adaptive", task_rows=1)), *crowd("a", "b", "c"))
    tasks = [e for e in known(given, "a", "b", "c").when() if isinstance(e, ev.TaskCreated)]
    assert len(tasks) == 400 and all(task.need == len(task.leases) for task in tasks)
    assert {task.need for task in tasks} == {1, 2}
    assert 5 < sum(task.need == 2 for task in tasks) < 45, "about one in twenty"


@pytest.mark.parametrize(("draw", "need"), [(0.049, 2), (0.051, 1)])
def test_chance_decides_and_the_draw_is_in_the_event(draw: float, need: int) -> None:
    class Fixed(random.Random):
        def random(self) -> float:
            return draw

    given = known(Given(submitted(ADAPTIVE), *crowd("a", "b")), "a", "b")
    given.rng = Fixed(1)
    event = only(given.when(), ev.TaskCreated)
    assert (event.need, len(event.leases)) == (need, need)
    assert given.fold.tasks[event.task].need == need and given.fold.tasks[event.task].lone == (need == 1)
    assert given.when() == [], "nothing more is wanted"


def test_what_is_on_its_way_counts_against_the_budget() -> None:
    """One task fits the budget; the second of the same round is replicated before the first is read back."""
    spec = matmul(2, 4, policy="adaptive", task_rows=1)
    ops = kinds.KINDS["matmul"].ops(spec, 1, 4)
    given = known(Given(submitted(spec), *crowd("a")), "a", record=Record(10**6, trust.PROBATION_OPS))
    given.fold.book.records["a"].exposure = trust.PROBATION_OPS // trust.VALUE_SHARE - ops
    given.rng = type("Never", (random.Random,), {"random": lambda _self: 0.999})()
    tasks = [item.event for item in given.proposed()]
    # a record of this length is replicated at random, too: probability one, as operations are just enough
    assert [task.need for task in tasks] == [2, 2]
    given = known(Given(submitted(spec), *crowd("a")), "a", record=Record(10**6, 100 * trust.PROBATION_OPS))
    given.fold.book.records["a"].exposure = 5 * trust.PROBATION_OPS - ops
    given.rng = type("Never", (random.Random,), {"random": lambda _self: 0.999})()
    tasks = [item.event for item in given.proposed()]
    assert [task.need for task in tasks] == [1, 2]


def test_a_loan_that_does_not_fit_where_it_stands_in_the_log_is_replicated() -> None:
    """As when two matchmakers each lend the last of a budget."""
    given = Given(submitted(matmul(16, 4, policy="adaptive")), *crowd("a", "b", "c"))
    known(given, "a", record=Record(10**6, trust.PROBATION_OPS))
    task = f"{JOB}-0-8-000000"
    given.fold.book.records["a"].exposure = trust.PROBATION_OPS // trust.VALUE_SHARE - 2 * 8 * 4 * 3
    lone(lone(given), "a", task, Tile(8, 8, 0, 4))
    assert (given.fold.tasks[TASK].lone, given.fold.tasks[TASK].need) == (True, 1)
    assert (given.fold.tasks[task].lone, given.fold.tasks[task].need) == (False, 2)
    assigned = only(given.when(), ev.TaskAssigned)
    assert assigned.task == task and assigned.cause == "replica"


ENDS = {
    "expired": ev.TaskExpired(TASK, JOB, [f"{TASK}-0"], "deadline"),
    "failed": ev.ResultFailed(TASK, JOB, f"{TASK}-0", "a", "malformed", ""),
    "convicted": ev.FraudDetected("elsewhere", JOB, "a", "elsewhere-0", "aa", "audit", 0),
    "disputed": ev.TaskDisputed(TASK, JOB, {}, 1),
}


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_a_lone_task_that_went_wrong_is_replicated(end: str, answered: bool) -> None:
    given = lone(known(Given(submitted(ADAPTIVE), *crowd("a", "b", "c")), "a", "b", "c"))
    if answered and end in ("expired", "failed"):
        given.then(result(TASK, 0, "a"), ENDS[end])
        assert given.fold.tasks[TASK].lone and given.when() == [], "its answer came first"
        return
    given.then(*([result(TASK, 0, "a")] if answered else []), ENDS[end])
    task = given.fold.tasks[TASK]
    assert not task.lone and given.fold.book.lone == {} and given.fold.book.of("a").lent == 0
    assert task.need == 2
    while any(isinstance(event, ev.TaskExpired) for event in given.when()):
        pass
    assert task.counting == 2
    if end != "disputed":
        assert {lease.worker for lease in task.leases.values()} >= {"b", "c"}, "its own word is not one of them"


def test_an_answer_of_the_convicted_has_no_voice_anywhere() -> None:
    given = Given(submitted(), *crowd("a", "b", "c")).then(created(TASK, TILE, "a", "b"))
    given.then(result(TASK, 0, "a"), ENDS["convicted"])
    assert given.fold.tasks[TASK].counting == 1
    assert [lease.worker for lease in only(given.when(), ev.TaskAssigned).leases] == ["c"]
    given.then(created("t9", TILE, "a"))
    given.then(result(TASK, 0, "a"))
    assert given.fold.tasks[TASK].answered == 0, "nor has a late one"


def test_the_end_of_a_job_gives_loans_back() -> None:
    given = lone(known(Given(submitted(ADAPTIVE), *crowd("a")), "a"))
    assert given.fold.book.of("a").lent > 0
    given.then(ev.JobCancelled(JOB, "requester"))
    assert given.fold.book.of("a").lent == 0 and given.fold.book.lone == {}
    given.then(ev.TaskVerified(TASK, JOB, TILE, "aa", 128, ["a"], "trust", 0, 192))
    assert given.fold.book.of("a").exposure == 0


def test_a_restart_knows_whom_to_trust(tmp_path: Path) -> None:
    given = lone(known(Given(submitted(matmul(16, 4, policy="adaptive")), *crowd("a", "b")), "a"))
    given.then(ev.TaskVerified("t7", "j7", TILE, "aa", 128, ["b"], "audit", 2, 192))
    given.then(ev.TaskExpired(TASK, JOB, [f"{TASK}-0"], "deadline")).then(joined("a", "s2"))
    lone(given, "a", f"{JOB}-0-8-000000", Tile(8, 8, 0, 4))
    given.fold.book.touched.add("a")
    projection = Projection(tmp_path / "m.db", TABLES, version=VERSION)
    projection.commit(given.core.rows(), len(given.story.log.events))
    again = MatchmakerCore(Matchmaker())
    again.load(projection)
    live, loaded = given.core.matchmaker.fold, again.matchmaker.fold
    assert {worker: loaded.book.of(worker) for worker in live.book.records} == live.book.records
    assert loaded.book.lone == live.book.lone != {}
    assert loaded.workers == live.workers and loaded.workers["a"].strikes == 1
    projection.close()


# -- canaries ---------------------------------------------------------------------------------------------------------


def canary(m: int = 8, **more: Any) -> JobSpec:
    return matmul(m, policy=kinds.CANARY, **more)


def test_a_canary_goes_whole_to_one_device() -> None:
    given = Given(submitted(canary(4_000)), *crowd("a", "b", "c"))
    event = only(given.when(), ev.TaskCreated)
    assert event.tile == Tile(0, 4_000, 0, 4) and len(event.leases) == 1 and event.need == 0
    assert given.fold.tasks[event.task].need == 1 and given.when() == []


@pytest.mark.parametrize(
    ("records", "chosen"),
    [
        ({"a": Record(1000, 10**15, T0), "b": Record()}, "b"),
        ({"a": Record(5, 10**9, T0), "b": Record()}, "b"),
        ({"a": Record(1000, 10**15, T0 - 3 * trust.UNCHECKED_MS), "b": Record()}, "a"),
        ({"a": Record(1000, 10**15, T0), "b": Record(1000, 10**15, T0, exposure=10**12)}, "b"),
    ],
    ids=["new before known", "newer before new", "long unchecked before new", "much on trust before none"],
)
def test_a_canary_goes_where_it_tells_most(records: dict[str, Record], chosen: str) -> None:
    given = Given(submitted(canary()), *crowd(*records))
    given.fold.book.records.update(records)
    (lease,) = only(given.when(), ev.TaskCreated).leases
    assert lease.worker == chosen


def test_a_banned_device_gets_no_canary() -> None:
    given = Given(*crowd("a"), ENDS["convicted"], submitted(canary()))
    assert [event for event in given.when() if isinstance(event, ev.TaskCreated)] == []


def test_a_lease_of_a_canary_looks_like_any_other() -> None:
    real = kinds.KINDS["matmul"].lease_params(matmul(), TILE)
    assert kinds.KINDS["matmul"].lease_params(canary(), TILE) == real
    given = Given(submitted(canary()), *crowd("a"))
    (lease,) = only(given.when(), ev.TaskCreated).leases
    other = Given(submitted(matmul(policy="audit")), *crowd("a"))
    (ordinary,) = only(other.when(), ev.TaskCreated).leases
    assert lease.deadline_ms == ordinary.deadline_ms
