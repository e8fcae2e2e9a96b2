"""What every log must do, asked of the one in memory and of JetStream alike."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from shardy_common.log import (
    Append,
    Appended,
    Conflict,
    EventLog,
    Full,
    MemoryLog,
    Recorded,
    StreamLimits,
    Unknown,
    read_all,
)
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_common.wire.job import Tile

TILE = Tile(0, 1, 0, 1)


def failed(job: str, cause: str = "x") -> ev.JobFailed:
    return ev.JobFailed(job, cause)


def created(task: str) -> ev.TaskCreated:
    return ev.TaskCreated(task, "j", TILE, [])


def assigned(task: str) -> ev.TaskAssigned:
    return ev.TaskAssigned(task, "j", TILE, [], "retry")


def of_task(task: str) -> str:
    return subjects.of_entity("task", task)


async def everything(log: EventLog, filters: list[str] | None = None, after: int = 0) -> list[Recorded]:
    reader = log.read(filters or [">"], after)
    found = [recorded async for recorded in read_all(reader)]
    await reader.close()
    return found


def seqs(outcomes: list[Any]) -> list[int]:
    assert all(isinstance(outcome, Appended) for outcome in outcomes), outcomes
    return [outcome.seq for outcome in outcomes]


async def test_appends_are_recorded_in_order(log: Any) -> None:
    events = [failed(f"j{i}", f"cause {i}") for i in range(20)]
    trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    outcomes = await log.append([Append(event, f"m{i}", trace=trace) for i, event in enumerate(events)])
    assert seqs(outcomes) == list(range(1, 21))
    found = await everything(log)
    assert [r.event for r in found] == events
    assert [r.seq for r in found] == list(range(1, 21))
    assert {r.trace for r in found} == {trace}
    assert [r.subject for r in found] == [event.subject for event in events]
    assert all(a.at_ms <= b.at_ms for a, b in itertools.pairwise(found)) and found[0].at_ms > 0
    assert await log.last_seq() == 20


async def test_an_empty_append_and_an_empty_log(log: Any) -> None:
    assert await log.append([]) == []
    assert await everything(log) == []
    assert await log.last_seq() == 0


async def test_expecting_zero_writes_once(log: Any) -> None:
    first, second = await log.append([Append(failed("j"), "a", 0), Append(failed("j", "again"), "b", 0)])
    assert isinstance(first, Appended) and isinstance(second, Conflict)
    assert isinstance((await log.append([Append(ev.JobCancelled("j", "x"), "c", 0)]))[0], Appended), "another subject"
    assert [r.event for r in await everything(log)] == [failed("j"), ev.JobCancelled("j", "x")]


async def test_the_last_event_of_an_entity_is_expected_across_event_names(log: Any) -> None:
    (seq,) = seqs(await log.append([Append(created("t"), "a", 0, of_task("t"))]))
    await log.append([Append(created("u"), "other", 0, of_task("u"))])
    (later,) = seqs(await log.append([Append(assigned("t"), "b", seq, of_task("t"))]))
    unresolved = ev.TaskUnresolved("t", "j", "x")
    stale, zero, right = await log.append(
        [
            Append(unresolved, "c", seq, of_task("t")),
            Append(unresolved, "d", 0, of_task("t")),
            Append(unresolved, "e", later, of_task("t")),
        ]
    )
    assert isinstance(stale, Conflict) and isinstance(zero, Conflict) and isinstance(right, Appended)
    # the exact subject has a count of its own
    assert isinstance((await log.append([Append(assigned("t"), "f", later)]))[0], Appended)


async def test_the_last_event_of_a_name_is_expected_across_entities(log: Any) -> None:
    """Of several that would append the next event of a chain, one does."""
    prepared = subjects.of_kind("canary.prepared")
    chain = [Append(ev.CanaryPrepared(f"j{i}", "aa", "q"), f"m{i}", 0, prepared) for i in range(2)]
    first, second = await log.append(chain)
    assert isinstance(first, Appended) and isinstance(second, Conflict)
    await log.append([Append(failed("j0"), "other")])
    (third,) = await log.append([Append(ev.CanaryPrepared("j1", "aa", "q"), "m1", first.seq, prepared)])
    assert isinstance(third, Appended)


async def test_the_last_event_of_all_of_a_kind_is_expected(log: Any) -> None:
    """Changes of keys are decided one after the other: `key.*.*`."""
    every = subjects.of_entity("key", "*")
    issued = [Append(ev.KeyIssued(f"k{i}", "h", "o", ["submit"], "", "by"), f"m{i}", 0, every) for i in range(2)]
    first, second = await log.append(issued)
    assert isinstance(first, Appended) and isinstance(second, Conflict)
    await log.append([Append(failed("j0"), "other")])
    revoked = ev.KeyRevoked("k0", "by", 5)
    stale, right = await log.append([Append(revoked, "s", 0, every), Append(revoked, "r", first.seq, every)])
    assert isinstance(stale, Conflict) and isinstance(right, Appended)


async def test_a_repeated_message_id_is_recorded_once(log: Any) -> None:
    first, second = await log.append([Append(failed("j"), "same"), Append(failed("j"), "same")])
    assert (first.seq, first.duplicate) == (1, False) and (second.seq, second.duplicate) == (1, True)
    (third,) = await log.append([Append(failed("other"), "same")])
    assert third.duplicate, "the id alone counts, whatever the subject"
    assert len(await everything(log)) == 1


async def test_a_conflict_does_not_use_up_its_message_id(log: Any) -> None:
    await log.append([Append(failed("j"), "a")])
    (refused,) = await log.append([Append(failed("j"), "b", 0)])
    assert isinstance(refused, Conflict)
    (accepted,) = await log.append([Append(failed("j"), "b", 1)])
    assert isinstance(accepted, Appended) and not accepted.duplicate


async def test_filters_and_position(log: Any) -> None:
    events: list[ev.Event] = [created("t"), failed("j"), assigned("t"), created("u"), ev.JobCancelled("j", "x")]
    for i, event in enumerate(events):  # one at a time: two tasks of a job would be one message
        await log.append([Append(event, f"m{i}")])

    async def read(filters: list[str], after: int = 0) -> list[int]:
        return [r.seq for r in await everything(log, filters, after)]

    assert await read(["task.*.*"]) == [1, 3, 4]
    assert await read(["task.created.*"]) == [1, 4]
    assert await read(["task.*.t"]) == [1, 3]
    assert await read(["task.*.*", "job.cancelled.*"], 1) == [3, 4, 5]
    assert await read(["job.>"], 2) == [5]
    assert await read(["worker.*.*"]) == []
    assert await read(["task.*.*"], 5) == []


async def test_caught_up_only_at_the_end(log: Any) -> None:
    await log.append([Append(failed(f"j{i}"), f"m{i}") for i in range(10)])
    reader = log.read(["job.*.*"], 0)
    got: list[Recorded] = []
    while len(got) < 10:
        assert not reader.caught_up
        batch = await reader.batch(3, 2.0)
        assert 1 <= len(batch) <= 3
        got += batch
    assert reader.caught_up
    assert await reader.batch(3, 0.05) == []
    await log.append([Append(failed("late"), "late")])
    assert [r.subject for r in await reader.batch(3, 2.0)] == ["job.failed.late"]
    await reader.close()


async def test_a_waiting_reader_hears_of_an_append_at_once(log: Any) -> None:
    reader = log.read(["job.*.*"], 0)
    while not reader.caught_up:
        await reader.batch(1, 0.1)
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(reader.batch(10, 5.0))
    await asyncio.sleep(0.05)
    started = loop.time()
    await log.append([Append(failed("j"), "m")])
    assert [r.event for r in await waiting] == [failed("j")]
    assert loop.time() - started < 3.0, "well before the time that it would have waited"
    waiting = asyncio.create_task(reader.batch(10, 5.0))
    await asyncio.sleep(0.05)
    reader.wake()
    assert await asyncio.wait_for(waiting, 3.0) == []
    await reader.close()


async def test_racing_appenders_have_exactly_one_winner_each(log: Any) -> None:
    rivals, tasks = 6, 60

    async def race(rival: int) -> list[Any]:
        items = [
            Append(ev.TaskUnresolved(f"t{t}", "j", f"rival {rival}"), f"{rival}/{t}", 0, of_task(f"t{t}"))
            for t in range(tasks)
        ]
        outcomes = []
        for start in range(0, tasks, 10):
            outcomes += await log.append(items[start : start + 10])
            await asyncio.sleep(0)
        return outcomes

    results = await asyncio.gather(*(race(rival) for rival in range(rivals)))
    for t in range(tasks):
        kinds = [type(outcomes[t]) for outcomes in results]
        assert kinds.count(Appended) == 1 and kinds.count(Conflict) == rivals - 1
    recorded = {r.event.task: r.event.cause for r in await everything(log)}  # type: ignore[union-attr]
    winners = {f"t{t}": f"rival {rival}" for rival in range(rivals) for t in range(tasks)
               if isinstance(results[rival][t], Appended)}  # fmt: skip
    assert recorded == winners and len(await everything(log)) == tasks


async def test_a_pipeline_of_five_thousand(log: Any) -> None:
    items = [Append(created(f"t{i}"), f"m{i}", 0, of_task(f"t{i}")) for i in range(5_000)]
    items[2_500:2_500] = [Append(created("t0"), "again", 0, of_task("t0"))]
    outcomes = await log.append(items)
    assert isinstance(outcomes.pop(2_500), Conflict)
    assert seqs(outcomes) == list(range(1, 5_001))
    assert [r.event.task for r in await everything(log)] == [f"t{i}" for i in range(5_000)]  # type: ignore[union-attr]
    assert not any(isinstance(outcome, Unknown) for outcome in outcomes)


async def test_two_readers_do_not_disturb_each_other(log: Any) -> None:
    first, second = log.read(["job.*.*"], 0), log.read(["task.*.*"], 0)
    await log.append([Append(failed("j"), "a"), Append(created("t"), "b")])
    one, two = await asyncio.gather(first.batch(10, 2.0), second.batch(10, 2.0))
    assert [r.subject for r in one] == ["job.failed.j"]
    assert [r.subject for r in two] == ["task.created.t"]
    await first.close()
    (third,) = await log.append([Append(assigned("t"), "c")])
    assert [r.seq for r in await second.batch(10, 2.0)] == [third.seq]
    await second.close()


@pytest.mark.parametrize("many", [1, 7])
async def test_readers_see_the_same_order(log: Any, many: int) -> None:
    await asyncio.gather(
        *(log.append([Append(failed(f"j{i}-{n}"), f"m{i}/{n}") for n in range(20)]) for i in range(many))
    )
    orders = [[r.subject for r in await everything(log)] for _ in range(3)]
    assert orders[0] == orders[1] == orders[2] and len(orders[0]) == 20 * many


async def test_an_append_is_found_by_its_message_id(log: Any) -> None:
    """However long ago: the window for repeats has nothing to do with it."""
    await log.append([Append(failed("j1"), "a"), Append(failed("j2"), "b"), Append(failed("j1", "y"), "c")])
    subject = failed("j1").subject
    assert await log.find(subject, 0, "a") == 1 and await log.find(subject, 0, "c") == 3
    assert await log.find(subject, 1, "c") == 3 and await log.find(subject, 1, "a") is None
    assert await log.find(subject, 0, "b") is None and await log.find("job.failed.j9", 0, "a") is None


async def test_the_last_event_of_one_thing_is_found_under_any_name(log: Any) -> None:
    await log.append([Append(assigned("a"), "1"), Append(created("a"), "2"), Append(assigned("ab"), "3")])
    assert (await log.last("task.assigned.a")).seq == 1
    assert (await log.last(of_task("a"))).seq == 2
    assert await log.last(of_task("b")) is None and await log.last("task.expired.a") is None


async def test_a_full_log_says_so_takes_nothing_and_goes_on_when_there_is_room(log: Any) -> None:
    """Nothing that was acknowledged is dropped for what comes, and a try that met a full log is no duplicate later."""
    seqs(await log.append([Append(failed(f"j{i}"), f"m{i}") for i in range(5)]))
    await limited(log, 7)
    outcomes = await log.append([Append(failed(f"k{i}"), f"k{i}") for i in range(4)])
    assert [type(outcome) for outcome in outcomes] == [Appended, Appended, Full, Full]
    assert "maximum messages exceeded" in outcomes[-1].detail
    again = await log.append([Append(failed("k3"), "k3"), Append(failed("j0"), "new", 0), Append(failed("j0"), "m0")])
    assert [type(outcome) for outcome in again] == [Full, Conflict, Appended], "each refusal has its own reason"
    assert again[2].duplicate
    assert [r.event.job for r in await everything(log)] == ["j0", "j1", "j2", "j3", "j4", "k0", "k1"]
    await limited(log, 0)
    (outcome,) = await log.append([Append(failed("k3"), "k3")])
    assert outcome == Appended(8)


async def limited(log: Any, events_max: int) -> None:
    if isinstance(log, MemoryLog):
        log.events_max = events_max
    else:
        await log.limit(StreamLimits(1 << 30, events_max))
