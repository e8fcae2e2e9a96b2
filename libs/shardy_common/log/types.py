"""What every log implementation speaks: appends, their outcomes, recorded events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from shardy_common.wire.events import Event


@dataclass(slots=True, frozen=True)
class Append:
    """One event to append, if the log still agrees with what its decider saw.

    msg_id: deterministic; a repeat within the log's window is recognised. expect: last sequence of
    `expect_filter` (default: the event's exact subject); None: append whatever happened; 0 with no filter: write once.
    trace: W3C traceparent.
    """

    event: Event
    msg_id: str
    expect: int | None = None
    expect_filter: str = ""
    trace: str = ""


@dataclass(slots=True, frozen=True)
class Appended:
    seq: int
    duplicate: bool = False


@dataclass(slots=True, frozen=True)
class Conflict:
    """Somebody else wrote first. Fold what they wrote, and decide again."""

    detail: str = ""


@dataclass(slots=True, frozen=True)
class Unknown:
    """No answer in time, or an error: the event may or may not be in the log. Read on, and decide again."""

    detail: str = ""


@dataclass(slots=True, frozen=True)
class Full:
    """The log has no room, and took nothing. Wait longer each time: it goes on when the limit is raised, or the log is
    archived."""

    detail: str = ""


Outcome = Appended | Conflict | Unknown | Full


@dataclass(slots=True)
class Recorded:
    """One event as it stands in the log. at_ms: the log's own clock. event is None for bytes that do not decode; error
    says why, in the decoder's words."""

    seq: int
    subject: str
    at_ms: int
    event: Event | None
    trace: str = ""
    payload: bytes = b""
    error: str = ""


class EventLog(Protocol):
    async def append(self, items: Sequence[Append]) -> list[Outcome]:
        """Pipelined; outcomes in the order of items. Never raises for a conflict or a lost connection."""
        ...

    def read(self, filters: Sequence[str], after: int) -> Reader: ...

    async def get(self, seq: int) -> Recorded | None:
        """One event by its sequence; None when there is none."""
        ...

    async def find(self, subject: str, after: int, msg_id: str) -> int | None:
        """Sequence of the message on this subject, later than `after`, that was appended under msg_id. For appends that
        are repeated long after the log's window has closed."""
        ...


class Reader(Protocol):
    async def batch(self, max_events: int, timeout_s: float) -> list[Recorded]:
        """The next events in order, at least one unless the time runs out (then none)."""
        ...

    @property
    def caught_up(self) -> bool:
        """Nothing that was in the log when last heard is still unread."""
        ...

    async def close(self) -> None: ...


async def read_all(reader: Reader) -> AsyncIterator[Recorded]:
    """Every event up to the end of the log as it is now."""
    while True:
        events = await reader.batch(1000, 0.5)
        for event in events:
            yield event
        if reader.caught_up:
            return
