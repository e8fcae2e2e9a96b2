"""A worker in Node or Bun as a process: its command, what it says on both outputs, and waiting for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "web-worker/bin/shardy-worker.mjs"
BUNDLE = ROOT / "web-worker/dist/shardy-worker.mjs"
sys.path.append(str(ROOT / "tests/native_worker"))

RUNTIMES = {
    "node": os.environ.get("SHARDY_NODE") or shutil.which("node") or "",
    "bun": os.environ.get("SHARDY_BUN") or shutil.which("bun") or "",
}
# Measuring the engine takes a second where the processor is idle, and more where it is shared.
PATIENCE_S = 60.0

Start = Callable[..., Awaitable["Process"]]


class Process:
    """A worker that was started. `lines`: what it said to people; `statuses`: what it said to programs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.statuses: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        assert process.stdout is not None and process.stderr is not None
        self._reading = [
            asyncio.create_task(self._read(process.stderr, self.lines.append)),
            asyncio.create_task(self._read(process.stdout, self._status)),
        ]

    @classmethod
    async def start(cls, runtime: str, args: tuple[str, ...], env: dict[str, str], script: Path = WORKER) -> Process:
        command = [RUNTIMES[runtime], str(script), *args]
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(*command, env=env, stdout=pipe, stderr=pipe))

    def _status(self, line: str) -> None:
        with contextlib.suppress(ValueError):
            self.statuses.append(json.loads(line))
            return
        self.lines.append(line)

    async def _read(self, stream: asyncio.StreamReader, take: Callable[[str], None]) -> None:
        while line := await stream.readline():
            take(line.decode().rstrip("\n"))
            self._changed.set()

    async def until(self, true: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        """Wait until what it said makes `true` true."""
        end = time.monotonic() + seconds
        while not true():
            self._changed.clear()
            left = end - time.monotonic()
            assert left > 0, f"it never held; it said {self.lines} and {self.statuses[-2:]}"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(left, 0.2))

    async def status(self, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status from now on that makes `true` true."""
        await self.until(lambda: bool(self.statuses) and true(self.statuses[-1]))
        return self.statuses[-1]

    def signal(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)

    async def ended(self, seconds: float = PATIENCE_S) -> int:
        """Its exit code, once it has ended and all it said is here."""
        code = await asyncio.wait_for(self.process.wait(), seconds)
        await asyncio.gather(*self._reading)
        return code

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.ended()
