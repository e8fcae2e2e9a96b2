"""What the connected tests share: worker processes, the API as plain HTTP, oracles, and reading the log."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import math
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray
from proofkit import Files

from bench.faults.logs import read_log
from shardy_client import AsyncMesh, PreExec
from shardy_common.engine import reference
from shardy_common.log import Recorded
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

PATIENCE_S = 90.0  # nothing here measures speed: the machine may be busy with other work
PROGRAM = Path(__file__).with_name("workerproc.py")
BANNED_EXIT, SUPERSEDED_EXIT = 4403 % 256, 4409 % 256
# A worker that takes 20 ms for a task, and believes itself so slow that it does not compute many in one go.
SLOW = {"delay_ms": 20.0, "gops": 0.01}
Found = TypeVar("Found")


async def until(look: Callable[[], Awaitable[Found]], what: str, seconds: float = PATIENCE_S) -> Found:
    """The first truthy answer of `look`."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):  # the gateway may be the one that was killed
            found = await look()
            if found:
                return found
        assert time.monotonic() < deadline, f"never happened: {what}"
        await asyncio.sleep(0.05)


class Workers:
    """Worker processes of one stack; each is stopped by its own process id."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.running: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, *names: str, joined: bool = True, url: str = "", **options: Any) -> None:
        """Start workers; joined: wait until the mesh lists them with a tier. url: of another gateway than the first.
        options: those of workerproc.py."""
        flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        for name in names:
            with open(self.folder / f"{name}.log", "ab") as log:  # noqa: ASYNC230 - a moment
                self.running[name] = await asyncio.create_subprocess_exec(
                    sys.executable,
                    str(PROGRAM),
                    url or self.stack.url,
                    name,
                    *flags,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=_die_with_us(),
                )
        if joined:
            await self.joined(*names)

    async def joined(self, *names: str) -> None:
        async with api(self.stack) as http:
            for name in names:
                await until(lambda name=name: self._tiered(http, name), f"{name} joined")

    async def _tiered(self, http: httpx.AsyncClient, name: str) -> bool:
        return any(w["present"] and w["tier"] for w in await workers_named(http, name))

    async def exit_code(self, name: str) -> int:
        """Wait until the process ends by itself."""
        return await asyncio.wait_for(self.running.pop(name).wait(), PATIENCE_S)

    async def stop(self, *names: str, kill: bool = False) -> None:
        for name in names or list(self.running):
            process = self.running.pop(name)
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:  # a lazy worker's compute thread never looks up
                process.kill()
                await process.wait()


def _die_with_us() -> Callable[[], None] | None:
    """On Linux the kernel ends the worker with the test run, however that ends."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(1, signal.SIGKILL)


def api(stack: Stack, key: str | None = None) -> httpx.AsyncClient:
    """Plain HTTP with the stack's key, another one, or none (an empty string)."""
    token = stack.api_key if key is None else key
    return httpx.AsyncClient(
        base_url=stack.url, headers={"Authorization": f"Bearer {token}"} if token else {}, timeout=PATIENCE_S
    )


def client(stack: Stack) -> AsyncMesh:
    return AsyncMesh(stack.url, stack.api_key)


async def workers_named(http: httpx.AsyncClient, name: str) -> list[dict[str, Any]]:
    listed = (await http.get("/v1/workers")).json()["workers"]
    return [worker for worker in listed if name in worker["name"].split()]


# -- versions ---------------------------------------------------------------------------------------------------------

CIRCUIT = "v2-8x8x8"


async def registered(stack: Stack, version: str, files: Files) -> None:
    """Register a version of the smallest circuit, with what workers prove with."""
    vk = json.loads(files.vkey.read_text())
    proving = {"zkey": files.zkey.read_bytes(), "r1cs": files.r1cs.read_bytes()}
    async with AsyncMesh(stack.url, stack.operator_key) as mesh:
        shown = await mesh.register_verifier(CIRCUIT, version, (8, 8, 8), vk, files=proving)
        assert shown["dev"] is True and shown["files"]["zkey"]["unpacked"] == len(proving["zkey"])


# -- oracles ----------------------------------------------------------------------------------------------------------


def int8(rng: np.random.Generator, rows: int, cols: int) -> NDArray[np.int8]:
    """All values, −128 too."""
    return rng.integers(-128, 128, (rows, cols), np.int8)


def float32(rng: np.random.Generator, rows: int, cols: int) -> NDArray[np.float32]:
    """Values inside and outside of the bounds ±1, with the odd ones."""
    x = rng.normal(0, 0.8, (rows, cols)).astype(np.float32)
    x.flat[:: max(x.size // 7, 1)] = np.resize(np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40], np.float32), 8)[
        : len(x.flat[:: max(x.size // 7, 1)])
    ]
    return x


def product(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.int32]:
    """a·b. float64 holds every sum exactly, and its product is fast."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int32)


def prepared(x: NDArray[np.float32], pre: PreExec) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """q and scale of the whole operand, by the slow oracle."""
    warm = 0
    if pre.ema_axis == 0 and pre.alpha < 1:
        warm = math.ceil(25 * math.log(2) / -math.log1p(-pre.alpha))
    return reference.preexec(
        x,
        row0=0,
        rows=len(x),
        warm_rows=warm,
        segment_rows=pre.segment_rows,
        lo=pre.lo,
        hi=pre.hi,
        ema_axis=pre.ema_axis,
        alpha=pre.alpha,
        scale=pre.scale,
    )


def same(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Equal in dtype, shape and every byte."""
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()


# -- the log ----------------------------------------------------------------------------------------------------------


def of_job(events: list[Recorded], job: str) -> list[Recorded]:
    return [e for e in events if getattr(e.event, "job", None) == job]


async def check_log(stack: Stack, job: str, *, frauds: int = 0) -> list[Recorded]:
    """The log of a completed job holds one verdict for each of its tasks, which cover its result once; its events."""
    events = of_job(await read_log(stack), job)
    kinds = [type(e.event) for e in events]
    assert kinds.count(ev.JobSubmitted) == 1 and kinds.count(ev.JobCompleted) == 1
    assert kinds.count(ev.TaskUnresolved) == 0
    assert kinds.count(ev.FraudDetected) == frauds
    verdicts = Counter(e.event.task for e in events if isinstance(e.event, ev.TaskVerified))
    tiles = {e.event.task: e.event.tile for e in events if isinstance(e.event, ev.TaskVerified)}
    assert set(verdicts.values()) == {1}, "a task has more than one verdict"
    submitted = next(e.event for e in events if isinstance(e.event, ev.JobSubmitted))
    shapes = [(o.rows, o.cols) for o in submitted.spec.operands.values()]
    shape = shapes[0] if submitted.spec.kind == "stream" else (shapes[0][0], shapes[1][0])
    covered = np.zeros(shape, np.int8)
    for tile in tiles.values():
        covered[tile.row0 : tile.row0 + tile.rows, tile.col0 : tile.col0 + tile.cols] += 1
    assert (covered == 1).all(), "the verified tiles overlap or leave a gap"
    created = {e.event.task for e in events if isinstance(e.event, ev.TaskCreated)}
    assert set(verdicts) <= created
    return events
