"""The same log in memory: for simulation, and to hold both stores to one test suite."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence

from shardy_common.log.packs import pack, spread, unpack
from shardy_common.log.types import Append, Appended, Conflict, Full, LogState, Outcome, Recorded, Taken
from shardy_common.wire.events import Event, decode, encode


class MemoryLog:
    """now_ms: the log's clock. Events pass through their codec, so what can't be encoded fails here too. events_max:
    how many it takes, 0 for any number; it may be changed at any time."""

    def __init__(self, now_ms: Callable[[], int], events_max: int = 0) -> None:
        self._now_ms = now_ms
        self.events_max = events_max
        self.events: list[Recorded] = []
        # (entity.*, id), (entity.*, *), (exact subject, "") and (entity.event.*, "") → last sequence
        self._last: dict[tuple[str, str], int] = {}
        self._ids: dict[str, int] = {}
        self._grown = asyncio.Event()
        self.identity = secrets.token_hex(8)
        self.on_break: list[Callable[[], None]] = []

    def append_now(self, item: Append) -> Outcome:
        subject = item.event.subject
        known = self._ids.get(item.msg_id)
        if known is not None:
            return Appended(known, duplicate=True)
        if item.expect is not None and self._last.get(_key(item.expect_filter or subject), 0) != item.expect:
            return Conflict("wrong last sequence")
        seq = len(self.events) + 1
        if 0 < self.events_max < seq:
            return Full("maximum messages exceeded")
        event: Event = decode(encode(item.event))
        self.events.append(Recorded(seq, subject, self._now_ms(), event, item.trace))
        entity, _, identity = subject.split(".")
        self._last[_key(subject)] = seq
        self._last[_key(f"{entity}.*.{identity}")] = seq
        self._last[_key(f"{entity}.*.*")] = seq
        self._last[_key(subject.removesuffix(identity) + "*")] = seq
        self._ids[item.msg_id] = seq
        self._grown.set()
        return Appended(seq)

    async def append(self, items: Sequence[Append]) -> list[Outcome]:
        messages, which = pack(items)
        return spread([self.append_now(message) for message in messages], which)

    def read(self, filters: Sequence[str], after: int) -> MemoryReader:
        return MemoryReader(self, filters, after)

    async def last_seq(self) -> int:
        return len(self.events)

    async def state(self) -> LogState:
        return LogState(self.identity, 1, len(self.events), self.events[0].at_ms if self.events else 0)

    async def last(self, subject: str) -> Recorded | None:
        pattern = subject.split(".")
        return next((event for event in reversed(self.events) if _matches(pattern, event.subject)), None)

    async def get(self, seq: int) -> Recorded | None:
        return self.events[seq - 1] if 0 < seq <= len(self.events) else None

    async def find(self, subject: str, after: int, msg_id: str) -> int | None:
        seq = self._ids.get(msg_id, 0)
        return seq if seq > after and self.events[seq - 1].subject == subject else None

    async def close(self) -> None:
        pass


class MemoryReader:
    def __init__(self, log: MemoryLog, filters: Sequence[str], after: int) -> None:
        self._log, self._filters, self._at = log, [f.split(".") for f in filters], after

    @property
    def caught_up(self) -> bool:
        return self._at >= len(self._log.events)

    @property
    def taken(self) -> Taken | None:
        last = self._log.events[self._at - 1] if 0 < self._at <= len(self._log.events) else None
        return Taken(last.seq, last.subject, last.at_ms) if last is not None else None

    @property
    def behind(self) -> int:
        return max(len(self._log.events) - self._at, 0)

    def take(self, max_events: int) -> list[Recorded]:
        out: list[Recorded] = []
        while self._at < len(self._log.events) and len(out) < max_events:
            event = self._log.events[self._at]
            self._at += 1
            if not self._filters or any(_matches(f, event.subject) for f in self._filters):
                out += unpack(event)
        return out

    async def batch(self, max_events: int, timeout_s: float) -> list[Recorded]:
        out = self.take(max_events)
        if not out:
            self._log._grown.clear()
            try:
                await asyncio.wait_for(self._log._grown.wait(), timeout_s)
            except TimeoutError:
                return []
            out = self.take(max_events)
        return out

    def wake(self) -> None:
        self._log._grown.set()

    async def close(self) -> None:
        pass


def _key(subject: str) -> tuple[str, str]:
    entity, event, identity = subject.split(".")
    return (f"{entity}.*", identity) if event == "*" else (subject, "")


def _matches(pattern: list[str], subject: str) -> bool:
    tokens = subject.split(".")
    for i, part in enumerate(pattern):
        if part == ">":
            return True
        if i >= len(tokens) or (part not in ("*", tokens[i])):
            return False
    return len(tokens) == len(pattern)
