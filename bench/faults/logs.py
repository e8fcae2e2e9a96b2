"""Reading the log of a mesh from outside, and nats-server's files."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from shardy_common.log import JetStreamLog, Recorded, read_all
from shardy_common.permissions import OPERATOR
from shardy_common.stack import Stack
from shardy_common.wire import events as ev
from shardy_common.wire import subjects


@contextlib.asynccontextmanager
async def opened_log(stack: Stack, role: str = OPERATOR) -> AsyncIterator[JetStreamLog]:
    """The log of a stack, with the right to read all of it. role: a service, to append what only that one may."""
    log = await stack.open_log("observer", role)
    try:
        yield log
    finally:
        await log.close()


async def read_log(stack: Stack) -> list[Recorded]:
    """Every event up to now."""
    async with opened_log(stack) as log:
        reader = log.read(subjects.STREAM_SUBJECTS, 0)
        events = [recorded async for recorded in read_all(reader)]
        await reader.close()
    return events


class Follower:
    """Reads the log as it grows, through every fault: events with the steady time at which they came."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.came: list[tuple[float, Recorded]] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._read())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        async with opened_log(self._stack) as log:
            reader = log.read(subjects.STREAM_SUBJECTS, 0)
            while True:
                self.came += [(time.monotonic(), r) for r in await reader.batch(1_000, 1.0)]

    def verdicts(self, since_s: float = 0.0) -> list[tuple[float, Recorded]]:
        """Verified tasks that came after a time. What ended the reading, if it ended."""
        if self._task is not None and self._task.done():
            self._task.result()
        return [(at, r) for at, r in self.came if at > since_s and isinstance(r.event, ev.TaskVerified)]


async def last_seq(stack: Stack) -> int:
    async with opened_log(stack) as log:
        return await log.last_seq()


def newest_block(data_dir: Path) -> Path:
    """The file that the log's newest events are in."""
    return max((data_dir / "nats").glob("jetstream/*/streams/EVENTS/msgs/*.blk"), key=lambda path: int(path.stem))
