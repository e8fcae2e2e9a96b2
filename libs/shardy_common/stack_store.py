"""What the supervisor of an embedded nats-server does for its store.

A nats-server whose disk was full takes nothing more, even when there is room again, until it is started anew: version
2.15 keeps the first write error of a stream's newest block for as long as it lives, and answers no append to it. It
says so in its log, so its supervisor reads that. One that comes back without its store needs its streams made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

log = logging.getLogger("shardy.stack")
SAYS = "failed to store a msg on stream"
ROOM_BYTES_MIN = 8 * 1024 * 1024  # room for the server's own files, and for some more events than the last one
LOOK_S = 1.0
READ_BYTES_MAX = 1 << 20


class StoreWatch:
    """log: what the server writes; store: where it keeps its streams."""

    def __init__(self, log: Path, store: Path) -> None:
        self._log, self._store = log, store
        self._read = 0
        self._failed = False

    def started(self) -> None:
        """A new server process: what an earlier one said is over."""
        self._failed = False
        self._read = self._log.stat().st_size if self._log.exists() else 0

    def hopeless(self) -> bool:
        """Whether the server has failed to store something, and a new process could."""
        size = self._log.stat().st_size if self._log.exists() else 0
        if size < self._read:  # the log was rotated
            self._read = 0
        if size > self._read:
            with open(self._log, "rb") as lines:
                lines.seek(max(self._read, size - READ_BYTES_MAX))
                self._failed = self._failed or SAYS.encode() in lines.read(READ_BYTES_MAX)
            self._read = size
        return self._failed and self.room() >= ROOM_BYTES_MIN

    def room(self) -> int:
        """Bytes free under the store; 0 while there is none."""
        try:
            stat = os.statvfs(self._store)
        except OSError:
            return 0
        return stat.f_bavail * stat.f_frsize


class Server(Protocol):
    """A supervised nats-server; see stack.Managed."""

    log: Path
    process: asyncio.subprocess.Process | None

    @property
    def pid(self) -> int: ...


async def keep_writing(server: Server, store: Path) -> None:
    """End a nats-server that had no room once there is some, for ever: its supervisor starts one that writes again."""
    watch, pid = StoreWatch(server.log, store), 0
    while True:
        if server.pid != pid:
            watch.started()
            pid = server.pid
        elif watch.hopeless() and server.process is not None:
            with contextlib.suppress(ProcessLookupError):
                server.process.terminate()
        await asyncio.sleep(LOOK_S)


async def keep_streams(server: Server, make: Callable[[], Awaitable[None]]) -> None:
    """Make the streams again whenever the server was started anew, for ever: one that came back without its store has
    none, and services wait for whoever may make them. make does nothing where they are there."""
    pid = server.pid
    while True:
        await asyncio.sleep(LOOK_S)
        if server.pid and server.pid != pid:
            pid = server.pid
            try:
                await make()
            except RuntimeError as error:
                log.error("the log's streams could not be made again: %s", error)
