"""What a fold loop does when its core or its log is not what it should be.

An event that the core cannot fold is tried again a few times, with growing delays, each time from the state before it:
a half applied event never stays. Then the fold goes on without it. It is skipped by this service alone; its dead letter
stands in the log and the projection remembers it, so neither a restart nor another replica tries for ever.

A projection that was folded from another log, or from events that this log has lost, is thrown away.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from nats.errors import Error as NatsError

from shardy_common import letters
from shardy_common.log import LogState, Recorded
from shardy_common.log.types import Taken
from shardy_common.wire.events import DlqRecorded

if TYPE_CHECKING:
    from shardy_common.service import FoldLoop

TRIES = 5  # of an event, before the fold goes on without it
FIRST_S = 0.1  # before the second try, and doubled before each further one
SKIPPED_MAX = 100  # events that a projection may miss: more say that the program is broken, not the events
STILL_S = 30.0  # longest pause between two tries of a service that stands still at the next one
ASK_S, ASK_S_MAX = 0.1, 5.0  # pauses before the log is asked again for its state, doubled
CONFIRM_S = 1.0  # before a log that seems to have lost its end is believed: a new leader may still be reading its own
log = logging.getLogger("shardy.service")
Seen = Callable[[list[Recorded]], Awaitable[None]]


class Failed(NamedTuple):
    """A core could not fold an event of a batch."""

    recorded: Recorded
    error: Exception


class Standing(NamedTuple):
    """An event that is being tried again: status shows it."""

    seq: int
    subject: str
    tries: int
    error: str


def is_handlers(error: Exception) -> bool:
    """Whether a core's exception is about the event: a machine without memory or disk is not, and ends the process."""
    return not isinstance(error, (MemoryError, OSError, sqlite3.Error))


class Mender:
    """Folds a batch in which the core failed. standing: what it is trying; unread: events that wait behind that."""

    def __init__(self, loop: FoldLoop) -> None:
        self._loop = loop
        self.standing: Standing | None = None
        self.unread = 0

    async def mend(self, events: list[Recorded], failed: Failed | None, seen: Seen | None) -> None:
        """Fold all of the batch but what cannot be folded. seen: told of what was folded, in order, piece by piece."""
        loop = self._loop
        while failed is not None:
            seq = failed.recorded.seq  # many events of one message are folded together, or none of them
            at = next(i for i, recorded in enumerate(events) if recorded.seq == seq)
            end = next((i for i in range(at, len(events)) if events[i].seq != seq), len(events))
            self.unread = len(events) - at
            loop.begin_again()
            before, whole, events = events[:at], events[at:end], events[end:]
            if before:
                await self._again(before, seen)
            loop.flush()  # so that the state before the event need not be made of so much again
            if await self._tried(failed, whole) and seen is not None:
                await seen(whole)
            self.standing, self.unread = None, len(events)
            if loop.interrupted:
                return
            failed = loop.fold(events) if events else None
        self.unread = 0
        if events and seen is not None:
            await seen(events)

    async def _again(self, events: list[Recorded], seen: Seen | None) -> None:
        """What was folded before the event that failed, once more: a core that throws now is no function of its log."""
        failed = self._loop.fold(events)
        if failed is not None:
            raise failed.error
        if seen is not None:
            await seen(events)

    async def _tried(self, failed: Failed, whole: list[Recorded]) -> bool:
        """Whether the event, with the others of its message, could be folded after all. The core stands before it, and
        stands before or behind it in the end: whoever reads meanwhile sees no half of it."""
        loop, recorded, error = self._loop, failed.recorded, failed.error
        tries, known = 1, await self._known(recorded)
        while not loop.interrupted:
            entry = letters.handler_entry(loop.name, recorded.seq)
            if known or tries >= TRIES:
                if len(loop.skipped()) < SKIPPED_MAX:
                    log.error("%s goes on without event %d (%s)", loop.name, recorded.seq, entry, exc_info=error)
                    loop.skip(recorded, error, tries, known)
                    return False
                if tries <= TRIES or known:
                    log.error("%s skipped %d events and stands still at %d", loop.name, SKIPPED_MAX, recorded.seq)
                known = False
            words = f"{type(error).__name__} at {letters.place_of(error.__traceback__)}: {letters.one_line(str(error))}"
            self.standing = Standing(recorded.seq, recorded.subject, tries, words)
            await loop.pause(min(FIRST_S * 2 ** min(tries - 1, 20), STILL_S))
            again = loop.fold(whole)
            if again is None:
                return True
            loop.begin_again()
            error, tries = again.error, tries + 1
        return False

    async def _known(self, recorded: Recorded) -> bool:
        """Whether this version of the program has failed at the event before, so that its letter is in the log."""
        subject = f"{DlqRecorded.name}.{letters.handler_entry(self._loop.name, recorded.seq)}"
        try:
            letter = await self._loop.log.last(subject)
        except (NatsError, TimeoutError, OSError):
            return False  # asked for nothing but speed: the letter's append tells too
        event = letter.event if letter is not None else None
        return isinstance(event, DlqRecorded) and event.evidence.get("version") == letters.package_version()


# -- the log that a projection is of ----------------------------------------------------------------------------------


def anchor_of(recorded: Recorded | Taken) -> str:
    """An event in few words: in another history of the log another one stands in its place."""
    return f"{recorded.at_ms} {recorded.subject}"


async def log_state(loop: FoldLoop) -> LogState:
    """Of the loop's log, asked until it answers."""
    pause_s = ASK_S
    while True:
        try:
            state: LogState = await loop.log.state()
            return state
        except (NatsError, TimeoutError, OSError):
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, ASK_S_MAX)


async def fits(loop: FoldLoop) -> LogState:
    """Throw the projection away, and snapshot after snapshot, until what is left is of the loop's log."""
    while True:
        _, seq, anchor = loop.projection.origin
        state, why = await _compared(loop, seq, anchor)
        if not why:
            loop.projection.adopt(state.identity)
            return state
        log.warning("%s: the projection is thrown away and folded anew: %s", loop.name, why)
        loop.projection.discard()


async def _compared(loop: FoldLoop, seq: int, anchor: str) -> tuple[LogState, str]:
    """The log's state, and why what was folded up to seq is not of this log; empty when it is."""
    while True:
        state = await log_state(loop)
        if seq > state.last_seq:
            await asyncio.sleep(CONFIRM_S)
            state = await log_state(loop)
        try:
            return state, await _another(loop, state, seq, anchor)
        except (NatsError, TimeoutError, OSError):
            await asyncio.sleep(ASK_S)


async def _another(loop: FoldLoop, state: LogState, seq: int, anchor: str) -> str:
    """Why what was folded up to seq is not of the log as it is now; empty when it is."""
    known = loop.projection.origin.log
    if known and known != state.identity:
        return f"it is of a log that was made at {known}, and this one was made at {state.identity}"
    if seq > state.last_seq:
        return f"it has event {seq}, and the log ends at {state.last_seq}: the log was restored, or lost its end"
    if anchor and seq >= state.first_seq:
        found = await loop.log.get(seq)
        if found is not None and anchor_of(found) != anchor:
            return f"its event {seq} is another one than the log's: the log was restored, and went on differently"
    return ""


class LogWatch:
    """Whether the log is still the one that was folded: looked at whenever the connection to it is back, since it may
    have been replaced meanwhile. another: why it is not; then the loop is to begin anew."""

    def __init__(self, loop: FoldLoop) -> None:
        self._loop = loop
        self._looking: asyncio.Task[None] | None = None
        self.another = ""

    def begin(self) -> None:
        self._loop.log.on_break.append(self._broke)

    def end(self) -> None:
        if self._broke in self._loop.log.on_break:
            self._loop.log.on_break.remove(self._broke)
        if self._looking is not None:
            self._looking.cancel()

    async def same(self) -> bool:
        """Before what was read is folded: it may stand behind a break, so whether it is of the same log comes first.
        False when it is not, or the loop is interrupted."""
        while self._looking is not None and not self._looking.done() and not self._loop.interrupted:
            await asyncio.wait({self._looking}, timeout=ASK_S)
        return not self.another and (self._looking is None or self._looking.done())

    def insist(self) -> None:
        """RuntimeError when the log is another one: the process ends, and its next life throws the rows away."""
        if self.another:
            raise RuntimeError(f"{self._loop.name} starts anew: {self.another}")

    def _broke(self) -> None:
        """What was taken from the log so far is remembered at once: what the reader takes next may be another log's."""
        if self._looking is None or self._looking.done():
            taken = self._loop.reader.taken if self._loop.reader is not None else None
            _, seq, anchor = self._loop.projection.origin
            if taken is not None:
                seq, anchor = taken.seq, anchor_of(taken)
            self._looking = asyncio.get_running_loop().create_task(self._look(seq, anchor))

    async def _look(self, seq: int, anchor: str) -> None:
        _, self.another = await _compared(self._loop, seq, anchor)
        if self.another:
            self._loop.wake()
