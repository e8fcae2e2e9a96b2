"""The loop that every folding service runs: read a micro-batch, fold it, commit rows and checkpoint, propose.

Nothing here decides anything. Proposals are appended in the background while the next batch is read; a core marks
what it has proposed, so nothing is proposed twice at once. A commit may lag the fold a little: after a crash the loop
starts from the checkpoint, folds again what was lost, and what was proposed but not recorded is simply proposed
again. An event whose bytes no version explains is recorded as a dead letter and skipped, and so is one that the core
cannot fold (mending.py): neither stops a service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import Any

from shardy_common import letters
from shardy_common.core import Core, Unwritten
from shardy_common.fold_status import Building, built, status
from shardy_common.log import Append, Appended, Conflict, Outcome, Projection, Recorded, Skipped
from shardy_common.log.snapshots import Snapshots
from shardy_common.mending import Failed, LogWatch, Mender, anchor_of, fits, is_handlers, log_state
from shardy_common.pace import AGAIN_S, Pace
from shardy_common.presence import Presence

BATCH_MAX = 2_000
COMMIT_S = 0.05  # of quiet: rows wait for more changes of the same task before they are written
COMMIT_BUSY_S = 1.0  # at most so long, however busy it is: most tasks are then written once, with their verdict
COMMIT_EVENTS = 5_000
BUSY_EVENTS = 12  # a step that brought more than this is followed by a short rest, so that the next brings more still
REST_S = 0.003
NO_ROOM_S = 1.0
NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
IN_FLIGHT_APPENDS_MAX = 16_000
HELD_EVENTS_MAX = 20_000  # folded and not committed, while a dead letter is on its way: then nothing more is read
log = logging.getLogger("shardy.service")


class FoldLoop:
    """react: called after each batch once the log has been caught up with, and every tick_s; may propose().

    observe: called with each batch after it is folded; seen_before: in its place for what a rebuild repeats.
    beside: reads what else the core folds, up to its end; called before react, and at the end of a rebuild.
    make_core builds an empty core: used at start, and again by rebuild(). presence: where the work is shared among
    replicas; the shell gives the others one. rest_s: at least so long a rest after each step that brought events, for
    folds that nobody waits for.
    """

    def __init__(
        self,
        name: str,
        event_log: Any,
        projection: Projection,
        make_core: Callable[[], Core],
        *,
        react: Callable[[], Awaitable[None]] | None = None,
        settled: Callable[[Append, bool], None] | None = None,
        observe: Callable[[list[Recorded]], Awaitable[None]] | None = None,
        seen_before: Callable[[], None] | None = None,
        beside: Callable[[], Awaitable[None]] | None = None,
        presence: Presence | None = None,
        tick_s: float = 0.2,
        rest_s: float = 0.0,
    ) -> None:
        self.name, self.log, self.projection = name, event_log, projection
        self.make_core = make_core
        self.core = make_core()
        self._react, self._settled, self._observe, self._tick_s = react, settled, observe, tick_s
        self._seen_before, self._beside, self._rest_s = seen_before, beside, rest_s
        self.presence = presence
        self.live = asyncio.Event()
        self.folded = 0
        self.appended = 0
        self.conflicts = 0
        self.poisoned = 0
        self.in_flight = 0
        self._background: set[asyncio.Task[None]] = set()
        self._rebuild: asyncio.Future[dict[str, Any]] | None = None
        self._refolding = False
        self._reader: Any = None
        self._stopping = False
        self._letters: set[str] = set()
        self._uncommitted = 0
        self._last_seq = projection.checkpoint
        self._last: Recorded | None = None  # folded last, since this process started
        self._commit_at = self._commit_by = 0.0
        self._held: list[list[Recorded]] = []  # batches folded since the last commit
        self._skips: dict[int, Skipped] = {}  # of them, events passed over
        self._unwritten: Unwritten | None = None  # given up by the core, and taken by no transaction yet
        self.pace = Pace(self.name)
        self.mender = Mender(self)
        self.snapshots = Snapshots(projection.path)
        self.building: Building | None = None
        self.watch = LogWatch(self)

    @property
    def lag(self) -> int:
        """Events that are in the log, as far as was heard, and not folded yet."""
        return (self._reader.behind or 0) if self._reader is not None else 0

    async def run(self) -> None:
        """Until stop(), or an exception: then the process is to be started again."""
        state = await fits(self)
        self._last_seq = self.projection.checkpoint
        self.core.load(self.projection)
        self._reader = self.log.read(self.core.filters, self._last_seq)
        self.building = Building(self._last_seq, state.last_seq)
        self.watch.begin()
        try:
            while not self._stopping:
                if self._rebuild is not None:
                    self._refolding = True
                    await self._refold()
                    self._refolding = False
                await self._step()
                self.watch.insist()
            self.flush()
            await self.snapshots.stop(self._last_seq)
        finally:
            self.watch.end()
            self.flush()
            with contextlib.suppress(Exception):
                await self._reader.close()
            for task in self._background:
                task.cancel()

    async def _step(self) -> None:
        if self._unwritten is not None:  # nothing more is folded until it is: the log waits, and memory stays bounded
            await asyncio.sleep(NO_ROOM_S)
            self.flush()
            return
        left = max(self._commit_at - time.monotonic(), 0.0) if self._uncommitted else self._tick_s
        if self._letters and self._uncommitted > HELD_EVENTS_MAX:
            events = []
            await asyncio.sleep(min(left, self._tick_s) or AGAIN_S)
        else:
            events = await self._reader.batch(BATCH_MAX, min(left, self._tick_s))
        if not await self.watch.same():
            return
        if events:
            failed = self.fold(events)
            if failed is not None:
                await self.mender.mend(events, failed, self._observe)
            elif self._observe is not None:
                await self._observe(events)
        if self._uncommitted >= COMMIT_EVENTS or (self._uncommitted and time.monotonic() >= self._commit_at):
            self.flush()
        if self._reader.caught_up:
            self.live.set()
            if self.building is not None:
                self.building = None
                self._snapshot()
        if self._beside is not None and self.live.is_set():
            await self._beside()
        if (
            self._react is not None
            and self.live.is_set()
            and self.in_flight < IN_FLIGHT_APPENDS_MAX
            and time.monotonic() >= self.pace.held_until
        ):
            await self._react()
        if events and self._rest_s and self._reader.caught_up:
            await asyncio.sleep(self._rest_s)
        elif len(events) > BUSY_EVENTS:
            await asyncio.sleep(REST_S)

    def fold(self, events: list[Recorded]) -> Failed | None:
        """Fold a batch in memory. Rows and checkpoint follow soon (COMMIT_S): a crash before that folds it again.

        None, or the event that the core could not fold: then nothing counts as folded, and the core may be anything.
        """
        evolve = self.core.evolve
        try:
            for recorded in events:
                if recorded.event is None:
                    self._poison(recorded)
                else:
                    evolve(recorded)
        except Exception as error:
            if not is_handlers(error):
                raise
            return Failed(recorded, error)
        self.count(events)
        return None

    def count(self, events: list[Recorded]) -> None:
        """These events are folded, and follow with the next commit."""
        self._commit_soon()
        self._held.append(events)
        self._uncommitted += len(events)
        self._last = events[-1]
        self._last_seq = self._last.seq
        self.folded += len(events)

    def changed(self) -> None:
        """Rows changed by what was read beside the log: write them with the next commit, at the same checkpoint."""
        self._commit_soon()
        self._uncommitted += 1

    def _commit_soon(self) -> None:
        now = time.monotonic()
        if not self._uncommitted:
            self._commit_by = now + COMMIT_BUSY_S
        self._commit_at = min(now + COMMIT_S, self._commit_by)

    def flush(self) -> None:
        """Write what has been folded: one row for each thing that changed, and the checkpoint, in one transaction.

        Not while a dead letter is on its way: the checkpoint must not pass an event that was skipped before its letter
        is in the log, or a crash would lose it. A core gives each row once, so rows that no transaction took are kept:
        whoever flushes next, be it the end of the process, must not write the checkpoint without them.
        """
        if not self._uncommitted or self._letters:
            return
        if self._unwritten is None:
            anchor = anchor_of(self._last) if self._last is not None else self.projection.origin.anchor
            self._unwritten = Unwritten(self.core.rows(), self._last_seq, anchor, list(self._skips.values()))
        seq = self._unwritten.checkpoint
        try:
            self.projection.commit(*self._unwritten)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) not in NO_ROOM:
                raise
            log.error("%s: no room for its projection (%s); waiting for some", self.name, self.projection.path)
            return
        self._unwritten = None
        self._held = [batch for batch in self._held if batch[-1].seq > seq]
        self._skips = {at: skipped for at, skipped in self._skips.items() if at > seq}
        if seq < self._last_seq:
            self.flush()
            return
        self._uncommitted = 0
        if self._last_seq >= self.snapshots.due:
            self._snapshot()

    def _snapshot(self) -> None:
        """Make one if it is due. Not in the middle of a build: one at its end does."""
        if self.building is None and self.projection.checkpoint >= self.snapshots.due:
            self.snapshots.begin(self.projection.checkpoint)

    @property
    def last_seq(self) -> int:
        """Last sequence folded, committed or not."""
        return self._last_seq

    @property
    def last(self) -> Recorded | None:
        """The event folded last, since this process started."""
        return self._last

    @property
    def reader(self) -> Any:
        return self._reader

    @property
    def interrupted(self) -> bool:
        """Whether whatever is being tried is wanted no more: the loop stops, or is to begin anew."""
        return self._stopping or (self._rebuild is not None and not self._refolding)

    def skipped(self) -> list[Skipped]:
        """Events that this fold does without, committed or not."""
        return [*self.projection.skipped, *self._skips.values()]

    async def pause(self, seconds: float) -> None:
        """Wait, unless interrupted."""
        deadline = time.monotonic() + seconds
        while not self.interrupted and (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._tick_s))

    def begin_again(self) -> None:
        """Make the core anew: the rows of the last commit, and what was folded since. What it proposed is forgotten,
        as in a restart; what was observed is not observed again."""
        self.core = self.make_core()
        self.core.load(self.projection)
        for batch in self._held:
            for recorded in batch:
                if recorded.event is not None and recorded.seq not in self._skips:
                    self.core.evolve(recorded)
        if self._seen_before is not None:
            self._seen_before()

    def skip(self, recorded: Recorded, error: Exception, tries: int, known: bool) -> None:
        """Go on without an event that the core cannot fold. known: its letter is in the log."""
        letter, self._skips[recorded.seq] = letters.handler(self.name, recorded, error, tries)
        self.count([recorded])
        if not known:
            self._letters.add(letter.event.entity_id)
            self.propose([letter])

    def propose(self, items: list[Append]) -> None:
        """Append in the background; `settled` hears of each outcome."""
        if not items:
            return
        self.in_flight += len(items)
        task = asyncio.get_running_loop().create_task(self._append(items))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _append(self, items: list[Append]) -> None:
        try:
            outcomes: list[Outcome] = await self.log.append(items)
        finally:
            self.in_flight -= len(items)
        refused = 0
        again: list[Append] = []
        for item, outcome in zip(items, outcomes, strict=True):
            accepted = isinstance(outcome, Appended)
            refused += not accepted
            if item.event.entity_id in self._letters:
                if accepted or isinstance(outcome, Conflict):  # somebody else met the same bytes, or we did long ago
                    self._letters.discard(item.event.entity_id)
                else:
                    again.append(item)
            if self._settled is not None:
                self._settled(item, accepted)
        self.appended += len(items) - refused
        wait_s = self.pace.heard(outcomes, time.monotonic())
        if refused:
            self.conflicts += refused
            await asyncio.sleep(wait_s)
            self.propose(again)
            self.wake()

    def wake(self) -> None:
        """React soon, without waiting for the next event or tick."""
        if self._reader is not None:
            self._reader.wake()

    def stop(self) -> None:
        self._stopping = True
        self.wake()

    def _poison(self, recorded: Recorded) -> None:
        self.poisoned += 1
        log.error("%s: event %d on %s cannot be decoded; dead-lettered", self.name, recorded.seq, recorded.subject)
        letter = letters.poison(self.name, recorded)
        self._letters.add(letter.event.entity_id)
        self.propose([letter])

    # -- rebuild --------------------------------------------------------------------------------------------------

    async def rebuild(self) -> dict[str, Any]:
        """Throw the projection away and fold the whole log anew. Returns events, seconds, checksum."""
        if self._rebuild is None:
            self._rebuild = asyncio.get_running_loop().create_future()
            self.wake()
        return await self._rebuild

    async def _refold(self) -> None:
        assert self._rebuild is not None
        started = time.monotonic()
        await self._reader.close()
        self.flush()
        before = self._last_seq
        self.live.clear()
        await self.snapshots.forget()
        identity = self.projection.origin.log
        self.projection.reset()
        self.projection.adopt(identity)
        self._held.clear()
        self._skips.clear()
        self._unwritten = None
        self._uncommitted, self._last, self._last_seq = 0, None, 0
        self.core = self.make_core()
        self.core.load(self.projection)
        self.building = Building(0, (await log_state(self)).last_seq)
        self._reader = self.log.read(self.core.filters, 0)
        count = 0

        async def seen(events: list[Recorded]) -> None:
            if events[-1].seq > before and self._observe is not None:
                await self._observe(events)  # what came meanwhile is news; what was seen before is not
            elif self._seen_before is not None:
                self._seen_before()

        while not self._stopping:
            events = await self._reader.batch(BATCH_MAX, 1.0)
            if not await self.watch.same():
                break
            if events:
                count += len(events)
                failed = self.fold(events)
                if failed is not None:
                    await self.mender.mend(events, failed, seen)
                else:
                    await seen(events)
            if self._uncommitted >= COMMIT_EVENTS:
                self.flush()
            if self._reader.caught_up:
                break
        if self._beside is not None:
            await self._beside()
        while self._letters and not self._stopping:  # what this fold skipped counts once its letters are there
            await asyncio.sleep(AGAIN_S)
        self.flush()
        self.building = None
        self._snapshot()
        done, self._rebuild = self._rebuild, None
        if self._stopping or self.watch.another:
            done.set_exception(RuntimeError(f"{self.name} was stopped while it folded the log anew"))
            return
        done.set_result(await built(self, count, time.monotonic() - started))

    async def status(self) -> dict[str, Any]:
        """See fold_status.py."""
        self.flush()
        return await status(self)
