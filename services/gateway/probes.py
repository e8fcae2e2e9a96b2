"""Joining probes with known answers, made ahead in a thread (docs/protocol.md §2.1).

Each is used once, unless workers join faster than the thread makes them: then those that wait at the same moment get
the same one. A probe costs the mesh as much as the worker, some 30 ms: without this, thousands of workers that come
back after a gateway's restart would wait longer than a handshake may last, and strangers could keep the thread busy
for little. A probe shows of a device what it shows, shared or not; only whoever holds several of these sockets at once
need compute it but once.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shardy_common.limits import PROBE_ROUNDS, PROBE_SIDE

if TYPE_CHECKING:
    from shardy_common.engine import Engine

READY = 8


@dataclass(frozen=True, slots=True)
class KnownProbe:
    seed: bytes
    digest: bytes


class Probes:
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "probes")
        self._engine: Engine | None = None
        self._ready: deque[KnownProbe] = deque()
        self._filling: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[KnownProbe]] = []

    def start(self) -> None:
        self._refill()

    async def take(self) -> KnownProbe:
        """A fresh probe, or the next one that is made, shared with whoever waits for it too."""
        if self._ready:
            probe = self._ready.popleft()
            self._refill()
            return probe
        waiting: asyncio.Future[KnownProbe] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._refill()
        return await waiting

    def _refill(self) -> None:
        if self._filling is None or self._filling.done():
            self._filling = asyncio.get_running_loop().create_task(self._fill())

    async def _fill(self) -> None:
        while self._waiting or len(self._ready) < READY:
            probe = await self._make()
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(probe)
            if not waiting:
                self._ready.append(probe)

    async def _make(self) -> KnownProbe:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._compute)

    def _compute(self) -> KnownProbe:
        if self._engine is None:
            from shardy_common.engine import Engine  # in this thread: a restarted gateway answers so much sooner

            self._engine = Engine()
        seed = os.urandom(32)
        return KnownProbe(seed, self._engine.probe(seed, PROBE_SIDE, PROBE_SIDE, PROBE_SIDE, PROBE_ROUNDS))

    def close(self) -> None:
        if self._filling is not None:
            self._filling.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
