"""Who lets leases run out gets fewer, then rests; and a device that lies about its speed delays its own tasks only."""

from __future__ import annotations

import pytest
from mesh_events import JOB, created, joined, matmul, result, submitted, tiered
from test_matchmaker_decisions import T0, TASK, TILE, Given, crowd, only

from shardy_common.wire import events as ev
from shardy_matchmaker.reliability import (
    LATE_FACTOR,
    REJOIN_FACTOR,
    answered,
    leases_allowed,
    ran_out,
    rests_until_ms,
    speed_at_join,
)
from shardy_matchmaker.state import WorkerState
from shardy_matchmaker.tiers import BY_NAME, tier_shown

ROWS = 600_000  # of a job that keeps five devices busy for some minutes


def worker(**more: object) -> WorkerState:
    return WorkerState("w", "s", "g", "i", "at", "", "wasm", 1024, 10.0, 10.0, "wasm-laptop", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("strikes", "most", "allowed"),
    [(0, 512, 512), (1, 512, 256), (3, 512, 64), (9, 512, 1), (50, 512, 1), (2, 1, 1), (2, 0, 0)],
)
def test_strikes_halve_what_may_be_held(strikes: int, most: int, allowed: int) -> None:
    assert leases_allowed(worker(strikes=strikes, max_leases=most)) == allowed


@pytest.mark.parametrize(
    ("strikes", "rest_ms"),
    [(0, None), (2, None), (3, 10_000), (4, 20_000), (8, 320_000), (9, 600_000), (10**6, 600_000)],
)
def test_from_the_third_strike_it_rests(strikes: int, rest_ms: int | None) -> None:
    assert rests_until_ms(strikes, 5_000) == (0 if rest_ms is None else 5_000 + rest_ms)


def test_what_was_queued_at_a_stall_is_one_strike() -> None:
    it = worker()
    for at_ms in (100, 101, 102):
        ran_out(it, 50, at_ms)
    assert (it.strikes, it.late_ms, it.gops) == (1, 102, 10.0 / LATE_FACTOR)
    ran_out(it, 100, 300)
    assert it.strikes == 2
    answered(it)
    assert it.strikes == 0


def test_joining_anew_washes_nothing_off() -> None:
    assert speed_at_join(500.0, None) == 500.0
    assert speed_at_join(500.0, worker()) == REJOIN_FACTOR * 10.0
    assert speed_at_join(500.0, worker(strikes=1)) == 10.0
    assert speed_at_join(2.0, worker()) == 2.0


@pytest.mark.parametrize(
    ("gops", "tier"), [(20_000.0, "gpu-large"), (2_500.0, "gpu-large"), (2_499.0, "gpu-discrete"), (5.0, "wasm-phone")]
)
def test_a_tier_that_was_claimed_is_not_worked_in(gops: float, tier: str) -> None:
    assert tier_shown(BY_NAME["gpu-large"], gops, 16_384).name == tier


def let_expire(given: Given, times: int, now_ms: int = T0) -> int:
    """The one device takes a task and says nothing, again and again; the clock afterwards."""
    for _ in range(times):
        for _ in range(10_000):
            now_ms += 1_000
            if any(isinstance(event, ev.TaskExpired) for event in given.when(now_ms)):
                break
        else:
            raise AssertionError("nothing expired")
    return now_ms


def test_a_silent_device_gets_less_and_less() -> None:
    given = Given(submitted(matmul(8, 4, policy="audit")), joined("a"), tiered("a", max_leases=8))
    given.when()
    now = let_expire(given, 3)
    it = given.fold.workers["a"]
    assert it.strikes == 3 and leases_allowed(it) == 1
    assert given.when(it.late_ms + 9_999) == [] and now
    assert only(given.when(it.late_ms + 10_001), ev.TaskAssigned)
    given.then(result(TASK, 9, "b"))
    lease = next(iter(it.leases))
    task = it.leases[lease]
    given.then(ev.ResultSubmitted(task, JOB, lease, "a", "aa", 128, 1.0, "wasm"))
    assert it.strikes == 0 and not it.banned


def test_strikes_outlive_a_reload() -> None:
    given = Given(submitted(), *crowd("a", "b")).then(created(TASK, TILE, "a", "b"))
    given.then(ev.TaskExpired(TASK, JOB, [f"{TASK}-0"], "deadline"), joined("a", "s2", gops=1000.0))
    assert given.fold.workers["a"].strikes == 1 and given.fold.workers["a"].gops == 10.0 / LATE_FACTOR


@pytest.mark.parametrize("cause", ["lost", "banned"])
def test_only_a_deadline_is_a_strike(cause: str) -> None:
    given = Given(submitted(), *crowd("a", "b")).then(created(TASK, TILE, "a", "b"))
    given.then(ev.TaskExpired(TASK, JOB, [f"{TASK}-0"], cause))
    assert given.fold.workers["a"].strikes == 0


def test_an_expiry_has_one_cause_for_all_of_its_leases() -> None:
    """One worker is gone, another is late: each is judged by what it did, one event after the other."""
    given = Given(submitted(), *crowd("a", "b", "c"), created(TASK, TILE, "a", "b"))
    given.then(ev.WorkerLeft("b", "s-b", "left"))
    first, second = (only(given.when(now_ms), ev.TaskExpired) for now_ms in (60_201, 60_500))
    assert {(event.cause, *event.leases) for event in (first, second)} == {
        ("deadline", f"{TASK}-0"),
        ("lost", f"{TASK}-1"),
    }
    assert (given.fold.workers["a"].strikes, given.fold.workers["b"].strikes) == (1, 0)


def test_a_clock_that_was_set_back_delays_no_deadline() -> None:
    given = Given(*crowd("a", "b"), submitted())
    given.proposed(900_000)
    given.then(created(TASK, TILE, "a", "b"))
    assert only([item.event for item in given.proposed(60_201)], ev.TaskExpired).cause == "deadline"


def test_a_boaster_delays_its_own_tasks_and_is_found_out() -> None:
    """It claims a large GPU and 20,000 GOPS and does 20, in the order in which work is lent; others are as they say."""
    given = Given(submitted(matmul(ROWS, 4_096, 8_192, policy="audit")))
    given.then(joined("boaster", gops=20_000.0, memory_mib=16_384, backend="gpu", gateway_ms=0.1))
    given.then(*(joined(f"w{i}", gops=20.0) for i in range(4)))
    true_gops, free_ms, due = 20.0, dict.fromkeys(given.fold.workers, 0.0), []
    now = T0
    while given.fold.jobs and now < T0 + 3_600_000:
        now += 500
        for event in given.when(now):
            if isinstance(event, (ev.TaskCreated, ev.TaskAssigned)):
                task = given.fold.tasks[event.task]
                for lease in event.leases:
                    took = task.ops / true_gops / 1e6
                    free_ms[lease.worker] = max(free_ms[lease.worker], float(now)) + took
                    due.append((free_ms[lease.worker], lease, event, took))
        for _, lease, event, took in [entry for entry in due if entry[0] <= now]:
            task = given.fold.tasks.get(event.task)
            if task is not None and task.leases[lease.id].state == "live":
                given.then(ev.ResultSubmitted(event.task, JOB, lease.id, lease.worker, "aa", 4, took, "gpu"))
                tile, ops = event.tile, task.ops
                given.then(ev.TaskVerified(event.task, JOB, tile, "aa", 4, [lease.worker], "audit", 2, ops))
        due = [entry for entry in due if entry[0] > now]
        # a device drops what ran out: it is told so
        for name in free_ms:
            if not given.fold.workers[name].leases:
                free_ms[name] = min(free_ms[name], float(now))
    boaster = given.fold.workers["boaster"]
    events = [recorded for recorded in given.story.log.events if isinstance(recorded.event, ev.TaskExpired)]
    assert not given.fold.jobs, "the job ends"
    assert boaster.gops < 200.0 and 1 <= len(events) < 40
    late = {lease.rpartition("-")[0] for recorded in events for lease in recorded.event.leases}
    lenders = {
        lease.worker
        for recorded in given.story.log.events
        if isinstance(recorded.event, ev.TaskCreated) and recorded.event.task in late
        for lease in recorded.event.leases
    }
    assert lenders == {"boaster"}, "nobody else's tasks were late"
    ideal_ms = 2 * ROWS * 4_096 * 8_192 / (5 * true_gops * 1e6)
    assert now - T0 < ideal_ms + 120_000
