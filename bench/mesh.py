"""The real mesh for the suite `tasks`: a stack on disk, native workers as processes, jobs of tiny tasks through HTTP.

`python -m bench.mesh [TASKS] [ROUNDS]` prints the processor time that a task takes in each process, and leaves the
process ids on the screen for a profiler (docs/performance.md).
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.processor import Meter
from shardy_client import AsyncMesh
from shardy_common.replies import statuses
from shardy_common.stack import Stack

WORKERS = 2
K = COLS = 16
_WORKER = (
    "import sys\n"
    "from shardy_client.worker.native import NativeWorker, run_worker\n"
    "run_worker(lambda: NativeWorker(sys.argv[1], ephemeral=True, backend='wasm', name=sys.argv[2], memory_mib=256))\n"
)


@dataclass(slots=True)
class Round:
    """rate: verified tasks a second; cpu_ms: processor time of a task by process name, `client` is this one; messages:
    of the log, a task."""

    rate: float
    cpu_ms: dict[str, float]
    messages: float = 0.0

    @property
    def total_ms(self) -> float:
        return sum(self.cpu_ms.values())


class BenchMesh:
    """A running stack with joined workers and a client."""

    def __init__(self, stack: Stack, mesh: AsyncMesh, workers: list[asyncio.subprocess.Process]) -> None:
        self.stack, self.mesh, self.workers = stack, mesh, workers
        self._rng = np.random.default_rng(7)
        self._b = self._rng.integers(-128, 128, (K, COLS), dtype=np.int8)

    def pids(self) -> dict[str, list[int]]:
        """Process ids by service, replicas together."""
        found: dict[str, list[int]] = defaultdict(list)
        for name, managed in self.stack.processes.items():
            found[_service(name)].append(managed.pid)
        found["worker"] = [worker.pid for worker in self.workers]
        found["client"] = [os.getpid()]
        return dict(found)

    async def round(self, tasks: int, policy: str) -> Round:
        """One job of so many tasks of one row each, checked exactly against NumPy."""
        a = self._rng.integers(-128, 128, (tasks, K), dtype=np.int8)
        before = await self._last_seq()
        with Meter(self.pids()) as meter:
            started = time.perf_counter()
            job = await self.mesh.submit_matmul(a, self._b, policy=policy, task_rows=1)
            await job.wait()
            seconds = time.perf_counter() - started
        self._same(await job.result("c"), a)
        messages = (await self._last_seq() - before) / tasks
        return Round(tasks / seconds, {name: ms / tasks for name, ms in meter.ms.items()}, messages)

    async def _last_seq(self) -> int:
        log = await self.stack.open_log("bench")
        try:
            return await log.last_seq()
        finally:
            await log.close()

    async def small_jobs_ms(self, count: int) -> list[float]:
        """How long each of so many small products takes, one after another, sorted."""
        seen = []
        for _ in range(count):
            a = self._rng.integers(-128, 128, (8, K), dtype=np.int8)
            started = time.perf_counter()
            c = await self.mesh.matmul(a, self._b)
            seen.append((time.perf_counter() - started) * 1e3)
            self._same(c, a)
        return sorted(seen)

    async def conflicts(self) -> int:
        """Appends that the log refused to matchmakers and quorums so far, because another replica had been first."""
        client = await self.stack.connect("bench")
        try:
            found = [one for service in ("matchmaker", "quorum") for one in await statuses(client, service)]
        finally:
            await client.close()
        return sum(int(one["conflicts"]) for one in found)

    def _same(self, c: np.ndarray, a: np.ndarray) -> None:
        if not np.array_equal(c, a.astype(np.int32) @ self._b.astype(np.int32)):
            raise RuntimeError("a wrong product")


def _service(name: str) -> str:
    """`matchmaker` for `matchmaker-1` too."""
    base, _, number = name.rpartition("-")
    return base if base and number.isdigit() else name


@asynccontextmanager
async def running(folder: Path, env: dict[str, str] | None = None, **stack_options: object) -> AsyncIterator[BenchMesh]:
    """stack_options: gateways, replicas, nats_nodes, as Stack takes them. Workers are shared out among gateways."""
    async with Stack(folder, allow_same_address=True, env=env, **stack_options) as stack:  # type: ignore[arg-type]
        workers = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", _WORKER, stack.urls[i % len(stack.urls)], f"bench-{i}"
            )
            for i in range(WORKERS)
        ]
        try:
            async with AsyncMesh(stack.url, stack.api_key) as mesh:
                await _joined(mesh)
                yield BenchMesh(stack, mesh, workers)
        finally:
            for worker in workers:
                worker.terminate()
                await worker.wait()


async def _joined(mesh: AsyncMesh) -> None:
    for _ in range(600):
        found = await mesh.listing("workers")
        workers = found["workers"] if isinstance(found, dict) else found
        if sum(bool(worker["tier"]) for worker in workers) == WORKERS:
            return
        await asyncio.sleep(0.1)
    raise RuntimeError("the workers did not join")


async def _show(tasks: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder)) as bench:
            print(bench.pids(), flush=True)
            seen = []
            for i in range(rounds):
                seen.append(await bench.round(tasks, "quorum"))
                print(f"round {i}: {seen[-1].rate:.0f}/s, {seen[-1].total_ms:.3f} ms a task", flush=True)
            for name in seen[0].cpu_ms:
                print(f"{name:16} {np.median([one.cpu_ms[name] for one in seen]):.4f}")
            print(f"{'total':16} {np.median([one.total_ms for one in seen]):.4f}")
            small = await bench.small_jobs_ms(200)
            print(f"small jobs: p50 {small[100]:.1f} ms, p99 {small[198]:.1f} ms")


if __name__ == "__main__":
    asyncio.run(_show(*(int(a) for a in (sys.argv[1:] + ["8000", "3"][len(sys.argv) - 1 :]))))
