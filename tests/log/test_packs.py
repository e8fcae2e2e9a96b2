"""Events of one job in one message: what goes in comes out, in order, once, and nothing else is changed by it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardy_common.log import Append, Appended, Conflict, Full, JetStreamLog, MemoryLog, Outcome, Recorded, read_all
from shardy_common.log.packs import EVENTS_MAX, pack, spread, unpack
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_common.wire.job import Tile
from shardy_gateway.evidence import PARTS

SIGS = ("", "ab" * 64, "cd" * 64)
JOBS, WORKERS, TASKS = st.integers(0, 2), st.integers(0, 2), st.integers(0, 90)


def created(job: int, task: int) -> Append:
    lease = ev.Lease(f"j{job}-0-{task}-00000a-0", f"w{task % 3}", "s", 1_000 + task)
    event = ev.TaskCreated(f"j{job}-0-{task}-00000a", f"j{job}", Tile(task, 1, 0, 4), [lease], task % 2)
    return Append(event, f"create/{event.task}", trace=f"00-{job:032x}-{1:016x}-01")


def result(job: int, task: int, worker: int, sig: int = 0) -> Append:
    name = f"j{job}-0-{task}-00000a"
    event = ev.ResultSubmitted(
        name, f"j{job}", f"{name}-{worker}", f"w{worker}", f"{task:064x}", 16, 1.5, "wasm", {"run": 0.5} if sig else {},
        SIGS[sig], "ee" * 32 if sig else "", task,
    )  # fmt: skip
    return Append(event, f"result/{event.lease}", trace=f"00-{job:032x}-{1:016x}-01")


def other(job: int, task: int) -> Append:
    event = ev.TaskExpired(f"j{job}-0-{task}-00000a", f"j{job}", ["x"], "deadline")
    return Append(event, f"expire/{event.task}", 0, subjects.of_entity("task", event.task))


anything = st.one_of(
    st.builds(created, JOBS, TASKS),
    st.builds(result, JOBS, TASKS, WORKERS, st.integers(0, 2)),
    st.builds(other, JOBS, TASKS),
)


def said(item: Append) -> tuple[ev.Event, str]:
    return item.event, item.trace


@given(st.lists(anything, max_size=300))
def test_what_goes_in_comes_out(items: list[Append]) -> None:
    messages, which = pack(items)
    stream = [Recorded(seq, m.event.subject, 7, m.event, m.trace) for seq, m in enumerate(messages, 1)]
    out = [one for recorded in stream for one in unpack(recorded)]
    assert Counter(map(repr, map(said, items))) == Counter(repr((one.event, one.trace)) for one in out)
    for kept in (ev.TaskCreated, ev.ResultSubmitted, ev.TaskExpired):  # of each job and worker, in their order
        lanes: dict[Any, list[Any]] = defaultdict(list)
        again: dict[Any, list[Any]] = defaultdict(list)
        for item in items:
            if isinstance(item.event, kept):
                lanes[item.event.job, getattr(item.event, "worker", "")].append(item.event)
        for one in out:
            if isinstance(one.event, kept):
                again[one.event.job, getattr(one.event, "worker", "")].append(one.event)
        assert lanes == again
    assert [m for m in messages if m.expect is not None] == [item for item in items if item.expect is not None]
    for seq in range(1, len(messages) + 1):
        inside = [one for one in out if one.seq == seq]
        assert len(inside) <= EVENTS_MAX and len({one.event.task for one in inside}) == len(inside)  # type: ignore[union-attr]
        assert [one.part for one in inside] == ([0] if len(inside) == 1 else list(range(1, len(inside) + 1)))
        assert {place + 1 for place, number in enumerate(which) if number == seq - 1}, "no message is empty"
        assert sum(number == seq - 1 for number in which) == len(inside)


@given(st.lists(anything, max_size=200), st.data())
def test_what_is_appended_again_is_the_same_messages(items: list[Append], data: Any) -> None:
    messages, _ = pack(items)
    ids = [message.msg_id for message in messages]
    if len({item.msg_id for item in items}) == len(items):
        assert len(set(ids)) == len(ids), "each message has a name of its own"
    assert pack(messages)[0] == pack(pack(messages)[0])[0]
    again = data.draw(st.sampled_from(range(len(messages) + 1)))
    assert [m.msg_id for m in pack(items)[0][again:]] == ids[again:]


def test_outcomes_reach_each_event() -> None:
    items = [created(0, 1), result(1, 1, 0), created(0, 2), other(0, 9), result(1, 2, 0), result(1, 2, 1)]
    messages, which = pack(items)
    assert len(messages) == 4 and which == [0, 1, 0, 2, 1, 3]
    outcomes: list[Outcome] = [Appended(1), Full(), Conflict(), Appended(2)]
    assert spread(outcomes, which) == [Appended(1), Full(), Appended(1), Conflict(), Full(), Appended(2)]


async def everything(log: Any, filters: list[str]) -> list[Recorded]:
    reader = log.read(filters, 0)
    found = [recorded async for recorded in read_all(reader)]
    await reader.close()
    return found


async def test_the_log_holds_few_messages_and_tells_of_each_event(log: MemoryLog | JetStreamLog) -> None:
    items = [created(0, task) for task in range(200)] + [result(0, task, w, 1) for task in range(100) for w in (0, 1)]
    outcomes = await log.append(items)
    assert all(isinstance(outcome, Appended) and not outcome.duplicate for outcome in outcomes)
    assert (await log.state()).last_seq == 4 + 2 * 2
    found = await everything(log, [">"])
    assert sorted(map(repr, (r.event for r in found))) == sorted(repr(item.event) for item in items)
    assert {r.trace for r in found} == {items[0].trace} and all(r.at_ms for r in found)
    of_results = await everything(log, [subjects.of_kind("result.submitted")])
    assert [r.event for r in of_results] == [r.event for r in found if isinstance(r.event, ev.ResultSubmitted)]
    assert {r.subject for r in found} == {f"{name}.j0" for name in ("task.created", "result.submitted")}


async def test_a_packed_task_expects_to_be_untouched(log: MemoryLog | JetStreamLog) -> None:
    """Its creation stands on the job's subject, so its own subjects begin at 0: of two who decide, one wins."""
    await log.append([created(0, 1), created(0, 2)])
    first, *_ = await everything(log, [">"])
    assert first.part == 1 and first.own_seq == 0
    event = ev.TaskExpired("j0-0-1-00000a", "j0", ["x"], "deadline")
    only = subjects.of_entity("task", event.task)
    won, lost = await log.append([Append(event, "one", 0, only), Append(event, "other", 0, only)])
    assert isinstance(won, Appended) and isinstance(lost, Conflict)


async def test_a_message_that_is_appended_again_is_known(log: MemoryLog | JetStreamLog) -> None:
    items = [created(0, task) for task in range(5)]
    await log.append(items)
    assert all(isinstance(o, Appended) and o.duplicate for o in await log.append(items))
    assert len(await everything(log, [">"])) == 5
    await log.append(items[:4])  # no such message is there yet, whatever is in it
    assert len(await everything(log, [">"])) == 9


def test_a_place_in_the_gateways_rows_holds_all_of_a_message() -> None:
    assert EVENTS_MAX < PARTS


def test_one_alone_stays_as_it_is() -> None:
    assert pack([created(0, 1)]) == ([created(0, 1)], [0])
    assert pack([created(0, 1), created(1, 1)])[0] == [created(0, 1), created(1, 1)]


@pytest.mark.parametrize("count", [EVENTS_MAX - 1, EVENTS_MAX, EVENTS_MAX + 1])
def test_a_message_is_full_at_its_limit(count: int) -> None:
    messages, which = pack([created(0, task) for task in range(count)])
    assert len(messages) == 1 + (count > EVENTS_MAX) and which.count(0) == min(count, EVENTS_MAX)
