"""Joining probes with known answers, made ahead in a thread, each used once (docs/protocol.md §2.1)."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shardy_common.engine import Engine
from shardy_common.limits import PROBE_ROUNDS, PROBE_SIDE

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

    def start(self) -> None:
        self._refill()

    async def take(self) -> KnownProbe:
        """A fresh probe; waits for one when many workers join at once."""
        probe = self._ready.popleft() if self._ready else await self._make()
        self._refill()
        return probe

    def _refill(self) -> None:
        if self._filling is None or self._filling.done():
            self._filling = asyncio.get_running_loop().create_task(self._fill())

    async def _fill(self) -> None:
        while len(self._ready) < READY:
            self._ready.append(await self._make())

    async def _make(self) -> KnownProbe:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._compute)

    def _compute(self) -> KnownProbe:
        if self._engine is None:
            self._engine = Engine()
        seed = os.urandom(32)
        return KnownProbe(seed, self._engine.probe(seed, PROBE_SIDE, PROBE_SIDE, PROBE_SIDE, PROBE_ROUNDS))

    def close(self) -> None:
        if self._filling is not None:
            self._filling.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
