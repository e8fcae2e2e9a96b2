"""Looking into the log: pages of events by what they are about, with bounded work, from stream and archive alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec

from shardy_common import ids
from shardy_common.errors import Refused, Transient
from shardy_common.log import ArchiveError, JetStreamLog, Recorded
from shardy_common.log.archive import Extent, extent_of
from shardy_common.log.archive_file import Message
from shardy_common.log.direct import BATCH_MAX, direct
from shardy_common.log.packs import unpack
from shardy_common.log.reader import recorded, takes
from shardy_common.wire import events as ev
from shardy_common.wire import subjects

SCAN_MAX = 20_000  # sequences looked at by one call
WINDOW = 1_000  # of these, fetched at a time
PAGE_BYTES = 1 << 20  # a page ends with the message that passes this: many events in one take some 30 KB
PATTERN_CHARS_MAX = 200
BYTES_SHOWN_MAX = 512  # of a payload that is no event
STORY_EVENTS_MAX = 2_000
STORY_ARCHIVED_MAX = 2_000_000  # archived events that are looked through for one task
PACKS_MAX = 100_000  # messages with many events of a job that are looked through for one task
PACKS_AT_ONCE = 100
LOOKBACK = 100_000  # events before a task began, in which its devices' sessions are looked for
NAMES = frozenset(kind.name for kind in ev.EVENT_TYPES)


class Wanted(msgspec.Struct, frozen=True):
    """What a page shows; empty: anything. job, task, worker: events that name it."""

    subject: str = ""
    event: str = ""
    job: str = ""
    task: str = ""
    worker: str = ""

    def checked(self) -> Wanted:
        """Refused for what can match nothing, saying what is expected."""
        if self.subject:
            _check_pattern(self.subject)
        if self.event and self.event not in NAMES:
            raise _bad(f"event {self.event[:80]!r} is none of the log's: {', '.join(sorted(NAMES))}")
        for name, value in (("job", self.job), ("task", self.task), ("worker", self.worker)):
            if value and not ids.is_token(value):
                raise _bad(f"{name} {value[:80]!r} is no id of a {name}")
        return self

    def takes(self, message: Message) -> bool:
        """Cheap tests first: most messages are turned away by their subject."""
        subject = message.subject.decode("utf-8", "replace")
        if self.subject and not takes(self.subject, subject):
            return False
        if self.event and not subject.startswith(self.event + "."):
            return False
        identity = subject.rpartition(".")[2]
        if self.task and identity != self.task and self.task.encode() not in message.payload:
            return False
        if self.job and identity != self.job and self.job.encode() not in message.payload:
            return False
        return not self.worker or identity == self.worker or self.worker.encode() in message.payload


def _check_pattern(pattern: str) -> None:
    words = pattern.split(".")
    odd = any(not word or (set(word) & set("*>") and len(word) > 1) for word in words)
    if len(pattern) > PATTERN_CHARS_MAX or odd or ">" in words[:-1] or not pattern.isprintable() or " " in pattern:
        raise _bad(
            f"subject {pattern[:80]!r} is no pattern: words with dots between, `*` for one of them, `>` at the end for"
            " all that follow, as in task.*.ID"
        )
    if words[0] not in (*subjects.ENTITIES, "*", ">"):
        raise _bad(f"no subject begins with {words[0][:40]!r}: the log has {', '.join(subjects.ENTITIES)}")


def _bad(detail: str) -> Refused:
    return Refused(detail, status=422, title="Bad parameter")


class Page(msgspec.Struct):
    """events in the order asked for. next: where to go on, in the same direction; None at the end."""

    events: list[Message]
    next: int | None
    scanned: int


async def forward(log: JetStreamLog, wanted: Wanted, after: int, until: int, limit: int) -> Page:
    """Events after a sequence, the oldest first."""
    extent, last = await bounds(log)
    last = min(last, until)
    found: list[Message] = []
    at, scanned, size = after, 0, 0
    while at < last and scanned < SCAN_MAX:
        stop = min(at + WINDOW, last)
        for message in await span(log, extent, at + 1, stop):
            if wanted.takes(message):
                found.append(message)
                size += len(message.payload)
                if len(found) == limit or size > PAGE_BYTES:
                    return Page(found, message.seq if message.seq < last else None, scanned + message.seq - at)
        scanned += stop - at
        at = stop
    return Page(found, at if at < last else None, scanned)


async def backward(log: JetStreamLog, wanted: Wanted, before: int | None, since: int, limit: int) -> Page:
    """Events before a sequence, the newest first."""
    extent, last = await bounds(log)
    at = last + 1 if before is None else min(before, last + 1)
    found: list[Message] = []
    scanned = size = 0
    while at > since and scanned < SCAN_MAX:
        first = max(at - WINDOW, since)
        for message in reversed(await span(log, extent, first, at - 1)):
            if wanted.takes(message):
                found.append(message)
                size += len(message.payload)
                if len(found) == limit or size > PAGE_BYTES:
                    return Page(found, message.seq if message.seq > since else None, scanned + at - message.seq)
        scanned += at - first
        at = first
    return Page(found, at if at > since else None, scanned)


async def bounds(log: JetStreamLog) -> tuple[Extent, int]:
    info = await log.info()
    return extent_of(info), int(info["state"]["last_seq"])


async def span(log: JetStreamLog, extent: Extent, first: int, last: int) -> list[Message]:
    """All events of a range, in order. Archived ones come from the archive, whatever the stream still has of them."""
    found: list[Message] = []
    if first <= extent.through and log.archive is not None:
        found += await asyncio.to_thread(_archived, log, extent, first, min(last, extent.through))
    at = max(first, extent.through + 1) - 1
    while at < last:
        messages = await direct(log, {"seq": at + 1, "batch": min(BATCH_MAX, last - at), "next_by_subj": ">"})
        inside = [message for message in messages if message.seq <= last]
        found += inside
        if not messages or len(inside) < len(messages):
            break
        at = messages[-1].seq
    return found


def _archived(log: JetStreamLog, extent: Extent, first: int, last: int) -> list[Message]:
    assert log.archive is not None
    try:
        return list(log.archive.between(extent, first, last))
    except ArchiveError as error:
        raise Refused(str(error), status=503, title="Archive missing") from None


async def of_subject(log: JetStreamLog, pattern: str, after: int = 0, most: int = STORY_EVENTS_MAX) -> list[Message]:
    """Events of one subject pattern that the stream still has, the oldest first."""
    found: list[Message] = []
    at = after
    while len(found) < most:
        messages = await direct(log, {"seq": at + 1, "batch": BATCH_MAX, "next_by_subj": pattern})
        found += messages
        if len(messages) < BATCH_MAX:
            break
        at = messages[-1].seq
    return found[:most]


async def packed_with(log: JetStreamLog, event: str, task: str, job: str, after: int, most: int) -> list[Message]:
    """Messages with many events of the job, of which one is the task's; at most so many, the oldest first."""
    found: list[Message] = []
    at, needle = after, task.encode()
    for _ in range(PACKS_MAX // PACKS_AT_ONCE):
        wanted = {"seq": at + 1, "batch": PACKS_AT_ONCE, "next_by_subj": subjects.subject(event, job)}
        messages = await direct(log, wanted)
        found += [message for message in messages if needle in message.payload]
        if len(messages) < PACKS_AT_ONCE or len(found) >= most:
            break
        at = messages[-1].seq
    return found[:most]


async def of_task(log: JetStreamLog, task: str, job: str, ended: bool) -> list[Recorded]:
    """What a task's story is told of. The job's own events stay in the stream: between them, and to the end of the log
    while the job is active, archived events are looked through."""
    extent, last = await bounds(log)
    patterns = [subjects.of_entity(entity, task) for entity in ("task", "result", "fraud", "proof")]
    patterns += [subjects.of_entity(entity, job) for entity in ("job", "canary")]
    found = {m.seq: m for pattern in patterns for m in await of_subject(log, pattern)}
    job_seqs = [seq for seq, m in found.items() if m.subject.startswith(b"job.")] or [1]
    created = await packed_with(log, ev.TaskCreated.name, task, job, min(job_seqs), 1)
    results = await packed_with(
        log, ev.ResultSubmitted.name, task, job, created[0].seq if created else min(job_seqs), STORY_EVENTS_MAX
    )
    found |= {m.seq: m for m in created + results}
    first, end = min(job_seqs), min(max(job_seqs) if ended else last, extent.through)
    if end - first >= STORY_ARCHIVED_MAX:
        raise Refused(
            f"job {job} spans {end - first} archived events, too many to look through for one task: list them by parts,"
            f" as in shardy log --task {task} --since {first} --until {first + STORY_ARCHIVED_MAX}",
            limit=f"{STORY_ARCHIVED_MAX} events",
        )
    if first <= end and log.archive is not None:
        old = await asyncio.to_thread(_old_of, log, extent, first, end, Wanted(task=task))
        found |= {m.seq: m for m in old}
    letters = [f"task-{task}"] + [f"fraud-{lease}" for lease in _leases(found.values())]
    letters += [f"poison-{seq}" for seq, m in found.items() if recorded(m).event is None]
    for entry in letters[:STORY_EVENTS_MAX]:
        found |= {m.seq: m for m in await of_subject(log, subjects.of_entity("dlq", entry))}
    own = [r for m in found.values() for r in unpack(recorded(m))]
    return [r for r in own if r.event is None or _about(r.event, task, job)]


def _about(event: Any, task: str, job: str) -> bool:
    return getattr(event, "task", task) == task and getattr(event, "job", job) == job


def _old_of(log: JetStreamLog, extent: Extent, first: int, last: int, wanted: Wanted) -> list[Message]:
    try:
        assert log.archive is not None
        messages: Iterator[Message] = log.archive.between(extent, first, last)
        found = []
        for message in messages:
            if wanted.takes(message):
                found.append(message)
                if len(found) >= STORY_EVENTS_MAX:
                    break
        return found
    except ArchiveError as error:
        raise Refused(str(error), status=503, title="Archive missing") from None


def _leases(messages: Any) -> list[str]:
    """Leases that were proven wrong."""
    events = (recorded(m).event for m in messages)
    return [event.lease for event in events if isinstance(event, ev.FraudDetected)]


def workers_of(own: list[Recorded]) -> set[str]:
    """Who had the task."""
    return {x.worker for r in own if isinstance(r.event, (ev.TaskCreated, ev.TaskAssigned)) for x in r.event.leases}


async def around(log: JetStreamLog, own: list[Recorded], convictions: list[int]) -> list[Recorded]:
    """What became of the devices that had the task, from a while before it until its end: sessions, gateways, frauds.
    convictions: where they were proven wrong elsewhere."""
    workers = workers_of(own)
    end = max((r.seq for r in own), default=0)
    extent, _ = await bounds(log)
    patterns = [subjects.of_entity("worker", worker) for worker in sorted(workers)] + ["gateway.started.*"]
    begun = min((r.seq for r in own if isinstance(r.event, ev.TaskCreated)), default=end)
    after = max(begun - LOOKBACK, 0)
    found = {m.seq: m for pattern in patterns for m in await of_subject(log, pattern, after) if m.seq <= end}
    if begun <= extent.through and log.archive is not None:
        old = await asyncio.to_thread(_archived, log, extent, begun, min(end, extent.through, begun + SCAN_MAX))
        keep = [pattern.rpartition(".")[2] for pattern in patterns]
        found |= {
            m.seq: m
            for m in old
            if m.subject.startswith(b"gateway.started.")
            or (m.subject.startswith(b"worker.") and m.subject.rpartition(b".")[2].decode() in keep)
        }
    out = [recorded(m) for m in found.values()]
    for seq in convictions:
        event = await log.get(seq)
        if event is not None and seq <= end:
            out.append(event)
    return out


def shown(message: Message) -> dict[str, Any]:
    """An event as the API shows it. data: its payload as it stands in the log."""
    at = recorded(message)
    data: Any = None
    if at.event is not None:
        data = msgspec.json.decode(message.payload)
    return {
        "seq": at.seq,
        "at_ms": at.at_ms,
        "subject": at.subject,
        "event": at.event.name if at.event is not None else None,
        "trace": at.trace,
        "data": data,
        "error": at.error or None,
        "bytes": None if at.event is not None else message.payload[:BYTES_SHOWN_MAX].hex(),
    }


def lost() -> Transient:
    return Transient("the event log does not answer; try again")
