"""Many events of one job in one message of the log.

A task that a job is carved into, and a result that came in, expect nothing of the log: whether they count is decided
by where they stand. So those of one job that are appended together travel as one message (`task.created/2`,
`result.submitted/2`), which the server stores, numbers and delivers once. Folds never see it: a reader gives the events
one by one, in their order. Events of one message share its sequence and time; `part` numbers them. A message holds at
most one event of each task, so of one task no two events stand in the same place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blake3 import blake3

from shardy_common.log.types import Append, Outcome, Recorded
from shardy_common.wire import events as ev

EVENTS_MAX = 64  # past that, a message's own cost is a small part of its events'
_Packable = ev.TaskCreated | ev.ResultSubmitted


class _Open:
    """A message that is being filled."""

    __slots__ = ("items", "places", "tasks")

    def __init__(self) -> None:
        self.items: list[Append] = []
        self.places: list[int] = []
        self.tasks: set[str] = set()


def pack(items: Sequence[Append]) -> tuple[list[Append], list[int]]:
    """The appends to make for these, and for each of these, which of those it is in. An event by itself stays as it is.

    What is packed stands where the first of its message stood; all else keeps its order. Results go by worker, for two
    of a task are of two workers. Whoever appends again what was not answered has to append the same messages, not to
    pack again: a message is known by what is in it.
    """
    if len(items) < 2:
        return list(items), list(range(len(items)))
    opened: dict[tuple[str, str, str], _Open] = {}
    groups: list[_Open] = []
    for place, item in enumerate(items):
        event = item.event
        if item.expect is None and isinstance(event, _Packable):
            worker = event.worker if isinstance(event, ev.ResultSubmitted) else ""
            key = (event.job, item.trace, worker)  # what is created has no worker
            group = opened.get(key)
            if group is None or len(group.items) == EVENTS_MAX or event.task in group.tasks:
                group = opened[key] = _Open()
                groups.append(group)
            group.tasks.add(event.task)
        else:
            group = _Open()
            groups.append(group)
        group.items.append(item)
        group.places.append(place)
    which = [0] * len(items)
    for number, group in enumerate(groups):
        for place in group.places:
            which[place] = number
    return [group.items[0] if len(group.items) == 1 else _one(group.items) for group in groups], which


def spread(outcomes: Sequence[Outcome], which: Sequence[int]) -> list[Outcome]:
    """The outcome of each event, from those of the messages that they were in."""
    return [outcomes[number] for number in which]


def _one(items: Sequence[Append]) -> Append:
    first = items[0].event
    event: ev.TasksCreated | ev.ResultsSubmitted
    if isinstance(first, ev.TaskCreated):
        created: list[ev.TaskCreated] = [item.event for item in items]  # type: ignore[misc]
        event = ev.TasksCreated(first.job, [ev.Carved(e.task, e.tile, e.leases, e.need) for e in created])
    else:
        frames: list[ev.HandedIn] = []
        for item in items:
            result = item.event
            assert isinstance(result, ev.ResultSubmitted)
            signed = (result.worker, result.sig, result.batch)
            if not frames or (frames[-1].worker, frames[-1].sig, frames[-1].batch) != signed:
                frames.append(ev.HandedIn(*signed, []))
            frames[-1].results.append(
                ev.Answered(
                    result.task, result.lease, result.digest, result.size, result.ms, result.backend, result.index,
                    result.spans,
                )
            )  # fmt: skip
        event = ev.ResultsSubmitted(first.job, frames)  # type: ignore[attr-defined]
    # of all that is inside, so that the same message is known again, and no other is taken for it
    digest = blake3("\n".join(item.msg_id for item in items).encode()).hexdigest(length=16)
    return Append(event, f"pack/{digest}", trace=items[0].trace)


def unpack(recorded: Recorded) -> Iterator[Recorded]:
    """The events of a message, each as if it stood in the log by itself; seq and subject are the message's."""
    event = recorded.event
    if isinstance(event, (ev.TasksCreated, ev.ResultsSubmitted)):
        for part, single in enumerate(_singles(event), 1):
            yield Recorded(recorded.seq, recorded.subject, recorded.at_ms, single, recorded.trace, part=part)
    else:
        yield recorded


def _singles(event: ev.TasksCreated | ev.ResultsSubmitted) -> Iterator[ev.TaskCreated | ev.ResultSubmitted]:
    if isinstance(event, ev.TasksCreated):
        for task in event.tasks:
            yield ev.TaskCreated(task.task, event.job, task.tile, task.leases, task.need)
    else:
        for frame in event.frames:
            for r in frame.results:
                yield ev.ResultSubmitted(
                    r.task, event.job, r.lease, frame.worker, r.digest, r.size, r.ms, r.backend, r.spans, frame.sig,
                    frame.batch, r.index,
                )  # fmt: skip
