"""Given these events, when the clock says this, then these are proposed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mesh_events import JOB, Story, created, joined, matmul, reopened, result, submitted, tiered

from shardy_common import limits
from shardy_common.carving import Cursor
from shardy_common.log import Projection
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Tile
from shardy_matchmaker.core import TABLES, VERSION, MatchmakerCore
from shardy_matchmaker.decide import GRACE_MS, LEASE_BASE_MS, Matchmaker

T0 = 1_000
TILE = Tile(0, 8, 0, 4)
TASK = f"{JOB}-0-0-000000"


class Given:
    """A story and the matchmaker that reads it."""

    def __init__(self, *events: ev.Event, same_address: bool = False) -> None:
        self.story = Story()
        self.core = MatchmakerCore(Matchmaker(allow_same_address=same_address))
        self.rng = random.Random(1)
        self.then(*events)

    @property
    def fold(self) -> Any:
        return self.core.matchmaker.fold

    def then(self, *events: ev.Event) -> Given:
        for recorded in self.story.add(*events):
            self.core.evolve(recorded)
        return self

    def when(self, now_ms: int = T0) -> list[ev.Event]:
        """Decide, append all, read back."""
        self.story.at(now_ms)
        items = self.core.matchmaker.decide(now_ms, self.rng)
        for recorded in self.story.append(items):
            self.core.evolve(recorded)
        return [item.event for item in items]

    def proposed(self, now_ms: int = T0) -> list[Any]:
        """Decide, and append nothing."""
        return self.core.matchmaker.decide(now_ms, self.rng)


def crowd(*names: str, **more: Any) -> list[ev.Event]:
    return [event for name in names for event in (joined(name, **more), tiered(name))]


def only(events: list[ev.Event], kind: type) -> Any:
    (event,) = [event for event in events if isinstance(event, kind)]
    return event


def task_given(*workers: str, spec: JobSpec | None = None, people: str = "abcd", **more: Any) -> Given:
    given = Given(submitted(spec), *crowd(*people), **more)
    return given.then(created(TASK, TILE, *workers))


# -- tiers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gops", "memory_mib", "backend", "tier", "leases"),
    [
        (1.0, 64, "wasm", "wasm-phone", 64),
        (10.0, 1024, "wasm", "wasm-laptop", 512),
        (500.0, 1024, "wasm", "wasm-desktop", 512),
        (500.0, 1024, "gpu", "gpu-integrated", 512),
        (1.0, 8, "wasm", "too-small", 0),
    ],
)
def test_who_joins_gets_a_tier(gops: float, memory_mib: int, backend: str, tier: str, leases: int) -> None:
    given = Given(joined("a", gops=gops, memory_mib=memory_mib, backend=backend))
    event = only(given.when(), ev.WorkerTiered)
    assert (event.worker, event.session, event.tier, event.max_leases) == ("a", "s-a", tier, leases)
    assert given.when() == [], "once"


def test_the_banned_get_nothing() -> None:
    given = task_given("a", "b").then(ev.FraudDetected(TASK, JOB, "a", f"{TASK}-0", "aa", "audit", 0))
    assert {lease.worker for lease in only(given.when(), ev.TaskAssigned).leases} <= {"c", "d"}
    given.then(joined("a", "s2-a"))
    event = only(given.when(), ev.WorkerTiered)
    assert (event.tier, event.max_leases) == ("banned", 0)
    given.then(submitted(matmul(50, 50), "j2"))
    lent = [lease.worker for e in given.when() if isinstance(e, ev.TaskCreated) for lease in e.leases]
    assert lent and "a" not in lent


def test_the_banned_lose_the_leases_they_have() -> None:
    other = f"{JOB}-0-4-000000"
    given = Given(submitted(matmul(8, 4)), *crowd("a", "b", "c"))
    given.then(created(TASK, Tile(0, 4, 0, 4), "a", "b"), created(other, Tile(4, 4, 0, 4), "a", "c"))
    given.then(ev.FraudDetected(TASK, JOB, "a", f"{TASK}-0", "aa", "audit", 0))
    expired = only(given.when(), ev.TaskExpired)
    assert (expired.task, expired.leases, expired.cause) == (other, [f"{other}-0"], "banned")


# -- replicas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("redundancy", [2, 3])
def test_replicas_go_to_different_workers_at_different_addresses(redundancy: int) -> None:
    spec = matmul(40, 4, redundancy=redundancy, task_rows=1)
    given = Given(submitted(spec), *crowd("a", "b", address="one"), *crowd("c", "d", address="two"), *crowd("e"))
    tasks = [event for event in given.when() if isinstance(event, ev.TaskCreated)]
    assert len(tasks) == 40
    home = {"a": 1, "b": 1, "c": 2, "d": 2, "e": 3}
    for task in tasks:
        assert len(task.leases) == redundancy == len({home[lease.worker] for lease in task.leases})


def test_one_address_serves_as_one_replica() -> None:
    given = Given(submitted(), *crowd("a", "b", "c", address="one"))
    task = only(given.when(), ev.TaskCreated)
    assert len(task.leases) == 1
    assert given.when() == [], "the others there are no second opinion"
    given.then(*crowd("z"))
    assigned = only(given.when(), ev.TaskAssigned)
    assert [lease.worker for lease in assigned.leases] == ["z"] and assigned.cause == "replica"


def test_one_address_serves_for_all_with_the_switch_on() -> None:
    given = Given(submitted(), *crowd("a", "b", "c", address="one"), same_address=True)
    workers = [lease.worker for lease in only(given.when(), ev.TaskCreated).leases]
    assert len(set(workers)) == 2, "the switch is for addresses, never for keys"


def test_an_audited_job_takes_one_replica() -> None:
    given = Given(submitted(matmul(policy="audit")), *crowd("a", "b", "c"))
    assert len(only(given.when(), ev.TaskCreated).leases) == 1


def test_a_task_waits_while_enough_devices_are_merely_busy() -> None:
    given = Given(*crowd("a"), joined("b"), tiered("b", max_leases=0), submitted())
    assert given.when() == []


def test_queues_are_filled_ahead_and_topped_up() -> None:
    given = Given(submitted(matmul(4000, 2, 2, task_rows=1)), *crowd("a", "b"))
    first = [e for e in given.when() if isinstance(e, ev.TaskCreated)]
    held = Counter(lease.worker for event in first for lease in event.leases)
    assert held == {"a": 512, "b": 512}, "as many as a tier may hold"
    assert given.when() == []
    for event in first[:100]:
        for i, lease in enumerate(event.leases):
            given.then(result(event.task, i, lease.worker))
        given.then(ev.TaskVerified(event.task, JOB, event.tile, "aa", 8, ["a", "b"], "quorum"))
    more = [e for e in given.when() if isinstance(e, ev.TaskCreated)]
    assert len(more) == 100
    assert given.fold.workers["a"].queued_ops == sum(t.ops for t in given.fold.tasks.values())


def test_a_slow_queue_is_full_by_time_and_not_by_count() -> None:
    spec = matmul(4096, 512, 1024, task_rows=64)  # 67 Mop a task: 6.7 ms at 10 GOPS
    given = Given(submitted(spec), *crowd("a", "b", gops=10.0))
    tasks = [e for e in given.when() if isinstance(e, ev.TaskCreated)]
    assert len(tasks) == 64
    given.then(submitted(matmul(60_000, 512, 8192, task_rows=64), "j2"))
    more = [e for e in given.when() if isinstance(e, ev.TaskCreated)]
    queue_ms = sum(t.ops for t in given.fold.tasks.values()) / 10e6
    assert 3_000 <= queue_ms < 3_200 and len(more) < 100, "laptops queue three seconds"


# -- deadlines, losses, returns ---------------------------------------------------------------------------------------


def test_a_deadline_passes_and_somebody_else_is_asked() -> None:
    given = task_given("a", "b")
    assert given.when(60_000) == []
    events = given.when(60_201)
    expired = only(events, ev.TaskExpired)
    assert expired.leases == [f"{TASK}-0", f"{TASK}-1"] and expired.cause == "deadline"
    assigned = only(given.when(60_500), ev.TaskAssigned)
    assert {lease.worker for lease in assigned.leases} == {"c", "d"} and assigned.cause == "retry"
    assert all(lease.deadline_ms >= 60_500 + LEASE_BASE_MS for lease in assigned.leases)
    assert len({lease.id for lease in assigned.leases} | set(expired.leases)) == 4


def test_who_let_it_expire_gets_it_again_only_if_nobody_else_can() -> None:
    given = task_given("a", "b", people="ab")
    given.then(result(TASK, 1, "b"))
    given.when(60_201)
    assigned = only(given.when(60_500), ev.TaskAssigned)
    assert [lease.worker for lease in assigned.leases] == ["a"]


def test_a_result_that_overtook_its_expiry_stands() -> None:
    given = task_given("a", "b").then(result(TASK, 0, "a"), ev.TaskExpired(TASK, JOB, [f"{TASK}-0"], "deadline"))
    assert given.fold.tasks[TASK].counting == 2 and given.when() == []


def test_a_late_result_counts_again() -> None:
    given = task_given("a", "b").then(ev.TaskExpired(TASK, JOB, [f"{TASK}-0"], "deadline"), result(TASK, 0, "a"))
    assert given.fold.tasks[TASK].counting == 2 and given.when() == []


def test_a_worker_with_two_leases_of_a_task_has_one_voice() -> None:
    given = task_given("a", "b", people="abc").then(ev.TaskExpired(TASK, JOB, [f"{TASK}-0"], "deadline"))
    given.then(ev.TaskAssigned(TASK, JOB, TILE, [ev.Lease(f"{TASK}-2", "a", "s-a", 60_000)], "retry"))
    given.then(result(TASK, 0, "a"), result(TASK, 2, "a"), ev.TaskExpired(TASK, JOB, [f"{TASK}-1"], "lost"))
    assigned = only(given.when(), ev.TaskAssigned)
    assert [lease.worker for lease in assigned.leases] == ["c"]


def test_a_dropped_worker_has_its_grace() -> None:
    given = task_given("a", "b").then(ev.WorkerLeft("a", "s-a", "dropped"))
    assert given.when(T0 + GRACE_MS) == []
    expired = only(given.when(T0 + GRACE_MS + 201), ev.TaskExpired)
    assert (expired.leases, expired.cause) == ([f"{TASK}-0"], "lost")


def test_a_worker_that_left_is_not_waited_for() -> None:
    given = task_given("a", "b").then(ev.WorkerLeft("a", "s-a", "left"))
    assert only(given.when(20_000), ev.TaskExpired).leases == [f"{TASK}-0"]


def test_an_old_sessions_farewell_is_ignored() -> None:
    given = task_given("a", "b").then(joined("a", "s2-a", held=[f"{TASK}-0"]), ev.WorkerLeft("a", "s-a", "left"))
    assert given.fold.workers["a"].present


@pytest.mark.parametrize("held", [[], [f"{TASK}-0"]])
def test_a_worker_that_comes_back_keeps_what_it_holds(held: list[str]) -> None:
    given = task_given("a", "b").then(ev.WorkerLeft("a", "s-a", "dropped"), joined("a", "s2-a", held=held))
    expired = [event for event in given.when(T0 + 300) if isinstance(event, ev.TaskExpired)]
    assert [event.leases for event in expired] == ([] if held else [[f"{TASK}-0"]])
    assert [event for event in given.when(T0 + 2 * GRACE_MS) if isinstance(event, ev.TaskExpired)] == []


def test_a_gateway_that_restarts_loses_its_sessions() -> None:
    given = task_given("a", "b").then(ev.GatewayStarted("g", "i2"))
    assert not given.fold.workers["a"].present
    assert only(given.when(T0 + GRACE_MS + 201), ev.TaskExpired).cause == "lost"
    assert task_given("a").then(ev.GatewayStarted("other", "i2")).fold.workers["a"].present


def test_a_lease_given_back_goes_to_another_and_never_there_again() -> None:
    given = task_given("a", "b", people="ab").then(ev.ResultFailed(TASK, JOB, f"{TASK}-0", "a", "oom", ""))
    assert given.when() == []
    given.then(*crowd("c"))
    assert [lease.worker for lease in only(given.when(), ev.TaskAssigned).leases] == ["c"]


@pytest.mark.parametrize("worker", ["b", "zz"])
def test_nobody_gives_back_anothers_lease(worker: str) -> None:
    given = task_given("a", "b").then(ev.ResultFailed(TASK, JOB, f"{TASK}-0", worker, "oom", ""))
    assert given.fold.tasks[TASK].counting == 2


def test_a_dispute_asks_for_one_more() -> None:
    given = task_given("a", "b").then(result(TASK, 0, "a"), result(TASK, 1, "b", "bb"))
    given.then(ev.TaskDisputed(TASK, JOB, {"aa": ["a"], "bb": ["b"]}, 1))
    assert len(only(given.when(), ev.TaskAssigned).leases) == 1
    assert given.when() == []


def test_a_task_is_given_up_after_its_attempts_and_its_job_fails() -> None:
    given = task_given("a", "b")
    now = T0
    for _ in range(40):
        now += 100_000
        events = given.when(now)
        if any(isinstance(event, ev.TaskUnresolved) for event in events):
            break
    assert len(given.story.log.events) < 60
    lent = [
        lease.id
        for r in given.story.log.events
        if isinstance(r.event, (ev.TaskCreated, ev.TaskAssigned))
        for lease in r.event.leases
    ]
    assert len(lent) == len(set(lent)) == limits.ATTEMPTS_MAX
    failed = only(given.when(now + 300), ev.JobFailed)
    assert "12 leases" in failed.cause
    assert given.when(now + 600) == [] and given.fold.tasks == {} and given.fold.jobs == {}
    assert all(not worker.leases and not worker.queued_ops for worker in given.fold.workers.values())


def test_a_job_is_completed_when_all_cells_are_verified() -> None:
    given = task_given("a", "b").then(ev.TaskVerified(TASK, JOB, TILE, "aa", 128, ["a", "b"], "quorum"))
    assert given.when() == [ev.JobCompleted(JOB, 32, 1)]
    assert given.when() == []


def test_a_cancelled_job_is_forgotten() -> None:
    given = task_given("a", "b").then(ev.JobCancelled(JOB, "requester"))
    assert given.when(100_000) == [] and not given.fold.workers["a"].leases


def test_speed_is_learned_in_small_steps() -> None:
    given = task_given("a", "b", spec=matmul(8, 4, 60_000))
    ops = given.fold.tasks[TASK].ops
    given.then(result(TASK, 0, "a", ms=25.0), result(TASK, 1, "b", ms=19.9))
    assert given.fold.workers["a"].gops == pytest.approx(0.7 * 10 + 0.3 * ops / 25e6)
    assert given.fold.workers["b"].gops == 10.0, "too short to say anything"
    given.fold.workers["c"].gops = 0.001
    given.then(ev.TaskAssigned(TASK, JOB, TILE, [ev.Lease(f"{TASK}-2", "c", "s-c", 60_000)], "replica"))
    given.then(result(TASK, 2, "c", ms=20.0))
    assert given.fold.workers["c"].gops <= 0.01, "one odd timing moves the belief by a factor of two at most"


# -- proposals and duplicates -----------------------------------------------------------------------------------------


def test_nothing_is_proposed_twice_before_it_is_read_back() -> None:
    given = Given(submitted(matmul(40, 4, task_rows=4)), *crowd("a", "b"), joined("c"))
    first = given.proposed()
    assert len(first) == 11
    assert given.proposed() == []
    for item in first:
        given.core.matchmaker.settled(item, False)
    assert [type(item.event) for item in given.proposed()] == [type(item.event) for item in first]


def test_a_lost_first_append_voids_the_rest_and_carving_goes_on() -> None:
    given = Given(submitted(matmul(40, 4, task_rows=4)), *crowd("a", "b"))
    first = given.proposed()
    given.core.matchmaker.settled(first[0], False)
    for recorded in given.story.append(first[1:]):
        given.core.evolve(recorded)
    assert given.fold.tasks == {}
    for _ in range(3):
        given.when()
    assert len(given.fold.tasks) == 10 and given.fold.jobs[JOB].cursor.done((40, 4))


def test_events_read_twice_change_nothing() -> None:
    """A log never repeats, but a fold that would mind could not be trusted after a crash."""
    given = task_given("a", "b").then(result(TASK, 0, "a", ms=50.0))
    before = given.fold.workers["a"].gops, given.fold.tasks[TASK].counting
    given.core.evolve(given.story.log.events[-1])
    assert (given.fold.workers["a"].gops, given.fold.tasks[TASK].counting) == before


def test_a_restart_continues_from_its_rows(tmp_path: Path) -> None:
    given = task_given("a", "b").then(result(TASK, 0, "a"), result(TASK, 1, "b", "bb"))
    given.then(ev.TaskDisputed(TASK, JOB, {"aa": ["a"], "bb": ["b"]}, 1), joined("e"))
    projection = Projection(tmp_path / "m.db", TABLES, version=VERSION)
    projection.commit(given.core.rows(), len(given.story.log.events))
    again = MatchmakerCore(Matchmaker())
    again.load(projection)
    one, two = given.core.matchmaker, again.matchmaker
    assert two.fold.tasks == one.fold.tasks and two.fold.jobs == one.fold.jobs and two.fold.workers == one.fold.workers
    assert (two.fold.wanting, two.fold.untiered, two.fold.tasks_of) == (
        one.fold.wanting,
        one.fold.untiered,
        one.fold.tasks_of,
    )
    live, loaded = one.decide(T0, random.Random(5)), two.decide(T0, random.Random(5))
    assert [(i.msg_id, i.expect) for i in live] == [(i.msg_id, i.expect) for i in loaded] and len(live) == 2
    projection.close()


def test_one_address_never_has_two_voices_by_being_late() -> None:
    """One person with two keys: let the first lease run out, get the second, then answer both."""
    given = Given(submitted(), *crowd("a", "a2", address="one"), *crowd("b"))
    given.then(created(TASK, TILE, "a", "b"), ev.TaskExpired(TASK, JOB, [f"{TASK}-0", f"{TASK}-1"], "deadline"))
    given.then(ev.WorkerLeft("b", "s-b", "left"))
    assigned = only(given.when(), ev.TaskAssigned)
    assert [lease.worker for lease in assigned.leases] == ["a"], "only the first key of an address may have it again"


# -- jobs that go on --------------------------------------------------------------------------------------------------


def given_up(**more: Any) -> Given:
    """A job of two tasks, one verified, whose second was given up."""
    given = Given(submitted(**more), *crowd(*"abcd"))
    given.then(created("t0", Tile(0, 4, 0, 4), "a", "b"), created("t4", Tile(4, 4, 0, 4), "a", "b"))
    given.then(ev.TaskVerified("t0", JOB, Tile(0, 4, 0, 4), "aa", 1, ["a", "b"], "quorum"))
    given.then(ev.TaskUnresolved("t4", JOB, "given up"))
    only(given.when(), ev.JobFailed)
    return given


def goes_on(*tasks: tuple[str, Tile], cursor: Cursor = Cursor(0, 4, 0), **more: Any) -> ev.JobReopened:
    return reopened(*tasks, cells_done=16, tasks_verified=1, cursor=cursor, **more)


def test_a_reopened_job_is_lent_and_completes() -> None:
    given = given_up().then(goes_on(("again", Tile(4, 4, 0, 4))))
    assigned = only(given.when(), ev.TaskAssigned)
    assert assigned.task == "again" and assigned.cause == "replica" and len(assigned.leases) == 2
    assert [lease.id for lease in assigned.leases] == ["again-0", "again-1"]
    given.then(ev.TaskVerified("again", JOB, Tile(4, 4, 0, 4), "aa", 1, ["a", "b"], "quorum"))
    completed = only(given.when(), ev.JobCompleted)
    assert (completed.cells, completed.tasks) == (32, 2), "also within the log's window: this end is not that end"


def test_the_first_event_of_a_reopened_task_expects_that_there_is_none() -> None:
    given = given_up().then(goes_on(("again", Tile(4, 4, 0, 4))))
    (item,) = given.proposed()
    assert item.expect == 0 and item.expect_filter == "task.*.again"
    assert given.proposed() == [], "proposed once"


def test_a_reopened_job_with_nothing_but_an_uncarved_rest() -> None:
    given = Given(submitted(matmul(task_rows=4)), *crowd(*"abcd"))
    given.then(created("t0", Tile(0, 4, 0, 4), "a", "b"), ev.TaskUnresolved("t0", JOB, "x"))
    only(given.when(), ev.JobFailed)
    given.then(goes_on(spec=matmul(task_rows=4), cursor=Cursor(4, 0, 4)))
    rest = only(given.when(), ev.TaskCreated)
    assert rest.tile == Tile(4, 4, 0, 4)


def test_a_reopened_job_can_fail_again_and_be_cancelled() -> None:
    given = given_up().then(goes_on(("again", Tile(4, 4, 0, 4))))
    given.then(ev.TaskUnresolved("again", JOB, "given up again"))
    assert only(given.when(), ev.JobFailed).cause == "given up again"
    given.then(goes_on(("more", Tile(4, 4, 0, 4)))).then(ev.JobCancelled(JOB, "requester"))
    assert given.fold.jobs == {} and given.fold.tasks == {} and given.when() == []


def test_a_restart_knows_a_reopened_job(tmp_path: Path) -> None:
    """Also when the job failed and went on between two commits: the row of its end must not win."""
    given = given_up().then(goes_on(("again", Tile(4, 4, 0, 4))))
    projection = Projection(tmp_path / "m.db", TABLES, version=VERSION)
    projection.commit(given.core.rows(), 9)
    again = MatchmakerCore(Matchmaker())
    again.load(projection)
    assert again.matchmaker.fold.jobs == given.fold.jobs and again.matchmaker.fold.tasks == given.fold.tasks
    assert list(again.matchmaker.fold.wanting) == ["again"]
    projection.close()


def test_what_was_lost_is_written_alike_before_and_after_a_restart(tmp_path: Path) -> None:
    given = Given(submitted(matmul(16)), *crowd("a", "b"), created("t9", TILE, "a", "b"))
    given.then(created("t1", Tile(8, 8, 0, 4), "a", "b"))
    projection = Projection(tmp_path / "m.db", TABLES, version=VERSION)
    projection.commit(given.core.rows(), 9)
    restarted = MatchmakerCore(Matchmaker())
    restarted.load(projection)
    for recorded in given.story.add(joined("a", "s2")):
        given.core.evolve(recorded)
        restarted.evolve(recorded)
    assert given.core.rows() == restarted.rows()
    projection.close()


def test_a_restart_knows_which_leases_were_lost(tmp_path: Path) -> None:
    """A worker came back without its lease, and the matchmaker was killed before it had said so."""
    given = task_given("a", "b").then(joined("a", "s2"))
    projection = Projection(tmp_path / "m.db", TABLES, version=VERSION)
    projection.commit(given.core.rows(), 9)
    core = MatchmakerCore(Matchmaker())
    core.load(projection)
    expired = only([item.event for item in core.matchmaker.decide(T0, random.Random(1))], ev.TaskExpired)
    assert (expired.leases, expired.cause) == ([f"{TASK}-0"], "lost")
    projection.close()
