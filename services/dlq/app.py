"""The dead letter queue as a service: fold the log and the advisories, complete the evidence, propose.

The order that makes this safe to kill anywhere: rows with what is wanted are written in the transaction that moves the
checkpoint past its cause; evidence is gathered only when the letter is proposed, from events that stand in the log and
never change; the letter is appended write-once; and it is wanted until it is read back. So a letter is proposed again
after any crash, and recorded once.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import msgspec
from nats.errors import Error as NatsError

from shardy_common.config import Settings
from shardy_common.log import Append, JetStreamLog, Projection, Recorded, read_all, streams
from shardy_common.service import FoldLoop
from shardy_common.wire import events as ev
from shardy_common.wire.subjects import ADVISORIES
from shardy_dlq import evidence
from shardy_dlq.letters import TABLES, VERSION, Letters, key

log = logging.getLogger("shardy.dlq")
COMPLETED_MAX = 50  # letters whose evidence is gathered in one round, so that the log is read between
ADVISORIES_BATCH = 1_000


class Beside:
    """Reads the stream of advisories into whatever core the loop has: a rebuild makes a new one, which begins anew."""

    def __init__(self, event_log: JetStreamLog) -> None:
        self.stream = JetStreamLog(event_log.client, ADVISORIES)
        self.loop: FoldLoop
        self._core: Letters | None = None
        self._reader: Any = None

    async def read(self) -> None:
        core: Letters = self.loop.core  # type: ignore[assignment]
        if core is not self._core:
            if self._reader is not None:
                await self._reader.close()
            self._core, self._reader = core, self.stream.read([], await self._after(core))
        events = await self._reader.batch(ADVISORIES_BATCH, 0.0)
        while True:
            for recorded in events:
                core.evolve_advisory(recorded)
            if events:
                self.loop.changed()
            if self._reader.caught_up:
                return
            events = await self._reader.batch(ADVISORIES_BATCH, 1.0)
            if not events:
                return  # the server is away: the next round goes on from here

    async def _after(self, core: Letters) -> int:
        """Where to read on: from the beginning if the stream was made anew since, for its sequences are new then."""
        with contextlib.suppress(NatsError, TimeoutError, OSError):
            if await self.stream.last_seq() < core.advisories_seq:
                return 0
        return core.advisories_seq


async def history_of(event_log: Any, task: str) -> list[Recorded]:
    """The events of a task; those that were told in messages of many are in the messages of its job."""
    found: list[Recorded] = []
    for filtered in evidence.history_filters(task):
        reader = event_log.read([filtered], 0)
        try:
            async for recorded in read_all(reader):
                if getattr(recorded.event, "task", task) == task:
                    found.append(recorded)
                if len(found) >= evidence.EVENTS_MAX:
                    break
        finally:
            await reader.close()
    return found


async def completed(event_log: Any, item: Append) -> Append:
    """The proposal with all of its evidence. What is read here stands in the log for ever, so it is found after any
    restart, and is the same then."""
    event = item.event
    if not isinstance(event, ev.DlqRecorded):
        return item
    if event.cause == "unresolved":
        history = await history_of(event_log, event.evidence["task"])
        more = evidence.of_task(history, event.seq_of)
        event = msgspec.structs.replace(event, evidence={**event.evidence, **more})
    elif event.cause == "max-deliveries":
        message = await event_log.get(event.seq_of)
        subject, trace = (message.subject, message.trace) if message is not None else ("", "")
        more = {"subject": subject, "trace": trace}
        event = msgspec.structs.replace(event, subject_of=subject, evidence={**event.evidence, **more})
        return Append(event, item.msg_id, item.expect, item.expect_filter, trace)
    return Append(event, item.msg_id, item.expect, item.expect_filter, item.trace)


async def build(settings: Settings, event_log: JetStreamLog) -> FoldLoop:
    await event_log.ensure_stream(streams.advisories(settings.stream_replicas))
    projection = Projection(settings.projection_path("dlq"), TABLES, version=VERSION)
    beside = Beside(event_log)
    proposed: set[str] = set()

    async def react() -> None:
        wanted: dict[str, Append] = loop.core.wanted  # type: ignore[attr-defined]
        proposed.intersection_update(wanted)
        fresh = [name for name in wanted if name not in proposed][:COMPLETED_MAX]
        ready = []
        for name in fresh:
            try:
                ready.append(await completed(event_log, wanted[name]))
            except (NatsError, TimeoutError, OSError) as error:  # the log is away: it stays wanted
                log.warning("the evidence of %s cannot be read just now: %s", name, error)
                break
            proposed.add(name)
        loop.propose(ready)

    def settled(item: Append, accepted: bool) -> None:
        if not accepted:
            proposed.discard(key(item.event))

    loop = FoldLoop("dlq", event_log, projection, Letters, react=react, settled=settled, beside=beside.read, tick_s=0.5)
    beside.loop = loop
    return loop
