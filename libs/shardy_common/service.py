"""The loop that every folding service runs: read a micro-batch, fold it, commit rows and checkpoint, propose.

Nothing here decides anything. Proposals are appended in the background while the next batch is read; a core marks
what it has proposed, so nothing is proposed twice at once. A commit may lag the fold a little: after a crash the loop
starts from the checkpoint, folds again what was lost, and what was proposed but not recorded is simply proposed
again. An event whose bytes no version explains is recorded as a dead letter and skipped: it never stops a service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from shardy_common.log import Append, Appended, Conflict, Full, Outcome, Projection, Recorded
from shardy_common.presence import Presence
from shardy_common.wire import subjects
from shardy_common.wire.events import DlqRecorded

BATCH_MAX = 2_000
COMMIT_S = 0.05  # rows wait so long for more changes of the same task before they are written
COMMIT_EVENTS = 5_000
BUSY_EVENTS = 12  # a step that brought more than this is followed by a short rest, so that the next brings more still
REST_S = 0.003
POISON_BYTES_MAX = 512  # of the undecodable bytes, kept as evidence; all of them stay in the log
POISON_ERROR_CHARS_MAX = 500
IN_FLIGHT_APPENDS_MAX = 16_000
CONFLICT_S = 0.02
FULL_S, FULL_S_MAX = 0.25, 8.0  # how long nothing is proposed to a full log: twice as long each time
log = logging.getLogger("shardy.service")


class Core(Protocol):
    """A service's folded state."""

    filters: Sequence[str]

    def load(self, projection: Projection) -> None:
        """Take over the active rows of the projection."""

    def evolve(self, recorded: Recorded) -> None: ...

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        """Rows that changed since the last call, by table."""
        ...


class FoldLoop:
    """react: called after each batch once the log has been caught up with, and every tick_s; may propose().

    observe: called with each batch after it is folded; seen_before: in its place for what a rebuild repeats.
    beside: reads what else the core folds, up to its end; called before react, and at the end of a rebuild.
    make_core builds an empty core: used at start, and again by rebuild(). presence: where the work is shared among
    replicas; the shell gives the others one.
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
    ) -> None:
        self.name, self.log, self.projection = name, event_log, projection
        self.make_core = make_core
        self.core = make_core()
        self._react, self._settled, self._observe, self._tick_s = react, settled, observe, tick_s
        self._seen_before, self._beside = seen_before, beside
        self.presence = presence
        self.live = asyncio.Event()
        self.folded = 0
        self.appended = 0
        self.conflicts = 0
        self.poisoned = 0
        self._in_flight = 0
        self._background: set[asyncio.Task[None]] = set()
        self._rebuild: asyncio.Future[dict[str, Any]] | None = None
        self._reader: Any = None
        self._stopping = False
        self._letters: set[str] = set()
        self._uncommitted = 0
        self._last_seq = projection.checkpoint
        self._commit_at = 0.0
        self._fulls = 0  # times in a row that the log was full
        self._held_until = 0.0

    @property
    def lag(self) -> int:
        """Events that are in the log, as far as was heard, and not folded yet."""
        return self._reader.lag if self._reader is not None else 0

    async def run(self) -> None:
        self.core.load(self.projection)
        self._reader = self.log.read(self.core.filters, self.projection.checkpoint)
        try:
            while not self._stopping:
                if self._rebuild is not None:
                    await self._refold()
                await self._step()
        finally:
            self.flush()
            with contextlib.suppress(Exception):
                await self._reader.close()
            for task in self._background:
                task.cancel()

    async def _step(self) -> None:
        left = max(self._commit_at - time.monotonic(), 0.0) if self._uncommitted else self._tick_s
        events = await self._reader.batch(BATCH_MAX, min(left, self._tick_s))
        if events:
            self.fold(events)
            if self._observe is not None:
                await self._observe(events)
        if self._uncommitted >= COMMIT_EVENTS or (self._uncommitted and time.monotonic() >= self._commit_at):
            self.flush()
        if self._reader.caught_up:
            self.live.set()
        if self._beside is not None and self.live.is_set():
            await self._beside()
        may_propose = self._in_flight < IN_FLIGHT_APPENDS_MAX and time.monotonic() >= self._held_until
        if self._react is not None and self.live.is_set() and may_propose:
            await self._react()
        if len(events) > BUSY_EVENTS:
            await asyncio.sleep(REST_S)

    def fold(self, events: list[Recorded]) -> None:
        """Fold a batch in memory. Rows and checkpoint follow within COMMIT_S: a crash before that folds it again."""
        evolve = self.core.evolve
        for recorded in events:
            if recorded.event is None:
                self._poison(recorded)
            else:
                evolve(recorded)
        if not self._uncommitted:
            self._commit_at = time.monotonic() + COMMIT_S
        self._uncommitted += len(events)
        self._last_seq = events[-1].seq
        self.folded += len(events)

    def changed(self) -> None:
        """Rows changed by what was read beside the log: write them with the next commit, at the same checkpoint."""
        if not self._uncommitted:
            self._commit_at = time.monotonic() + COMMIT_S
        self._uncommitted += 1

    def flush(self) -> None:
        """Write what has been folded: one row for each thing that changed, and the checkpoint, in one transaction.

        Not while a dead letter is on its way: the checkpoint must not pass an undecodable event before its letter is
        in the log, or a crash would lose it.
        """
        if self._uncommitted and not self._letters:
            self.projection.commit(self.core.rows(), self._last_seq)
            self._uncommitted = 0

    def propose(self, items: list[Append]) -> None:
        """Append in the background; `settled` hears of each outcome."""
        if not items:
            return
        self._in_flight += len(items)
        task = asyncio.get_running_loop().create_task(self._append(items))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _append(self, items: list[Append]) -> None:
        try:
            outcomes: list[Outcome] = await self.log.append(items)
        finally:
            self._in_flight -= len(items)
        refused = 0
        again: list[Append] = []
        delay_s = self._look_for_room(outcomes)
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
        if refused:
            self.conflicts += refused
            await asyncio.sleep(delay_s)  # let the events that won be read before deciding again
            self.propose(again)
            self.wake()

    def _look_for_room(self, outcomes: list[Outcome]) -> float:
        """Seconds to wait before what was refused is decided again: longer each time that the log is full."""
        if not any(isinstance(outcome, Full) for outcome in outcomes):
            if any(isinstance(outcome, Appended) for outcome in outcomes):
                self._fulls = 0
            return CONFLICT_S
        now = time.monotonic()
        if now >= self._held_until:  # several batches may hear of it at once
            self._fulls += 1
            self._held_until = now + min(FULL_S * 2 ** (self._fulls - 1), FULL_S_MAX)
            if self._fulls == 1:
                log.error("%s: the log is full; waiting for room (SHARDY_LOG_BYTES_MAX, docs/operate.md)", self.name)
        return self._held_until - now

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
        evidence = {
            "reader": self.name,
            "bytes": recorded.payload[:POISON_BYTES_MAX].hex(),
            "size": str(len(recorded.payload)),
            "subject": recorded.subject,
            "error": recorded.error[:POISON_ERROR_CHARS_MAX],
            "trace": recorded.trace,
        }
        event = DlqRecorded(f"poison-{recorded.seq}", "poison", recorded.subject, recorded.seq, evidence)
        self._letters.add(event.entry)
        # once, whoever meets it and however often: a rebuild must not open a letter that somebody has closed
        only = subjects.of_entity("dlq", event.entry)
        self.propose([Append(event, f"poison/{recorded.seq}", 0, only, recorded.trace)])

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
        self.projection.reset()
        self.core = self.make_core()
        self.core.load(self.projection)
        self._reader = self.log.read(self.core.filters, 0)
        count = 0
        while True:
            events = await self._reader.batch(BATCH_MAX, 1.0)
            if events:
                self.fold(events)
                count += len(events)
                if events[-1].seq > before and self._observe is not None:
                    await self._observe(events)  # what came meanwhile is news; what was seen before is not
                elif self._seen_before is not None:
                    self._seen_before()
            if self._uncommitted >= COMMIT_EVENTS:
                self.flush()
            if self._reader.caught_up:
                break
        if self._beside is not None:
            await self._beside()
        self.flush()
        done, self._rebuild = self._rebuild, None
        done.set_result(
            {
                "service": self.name,
                "instance": self.presence.replicas.me if self.presence else "",
                "events": count,
                "seconds": round(time.monotonic() - started, 3),
                "checkpoint": self.projection.checkpoint,
                "checksum": self.projection.checksum(),
            }
        )

    async def status(self) -> dict[str, Any]:
        self.flush()
        last = await self.log.last_seq()
        return {
            "service": self.name,
            "instance": self.presence.replicas.me if self.presence else "",
            "replicas": list(self.presence.replicas.names) if self.presence else [],
            "host": socket.gethostname(),
            "live": self.live.is_set(),
            "checkpoint": self.projection.checkpoint,
            "log_last": last,
            "folded": self.folded,
            "appended": self.appended,
            "conflicts": self.conflicts,
            "poisoned": self.poisoned,
            "in_flight": self._in_flight,
            "log_full": self._fulls,
        }
