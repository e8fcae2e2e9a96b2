"""Suite `tasks`: verified tasks a second through the real gateway, beside task frameworks with no-op tasks.

Ours: one job of N tiny tasks (1×16 times 16×16) through HTTP, the event log on disk, real worker sockets and native
worker processes; every task is computed by two workers (or one, and audited) and every step is a durable event.
Peers: N no-op tasks on the same two cores, nothing durable, nothing checked. The limit is the log itself: pipelined
appends of as many events as a task has.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from shardy_client import AsyncMesh
from shardy_common.log import Append
from shardy_common.stack import Stack
from shardy_common.wire.events import TaskExpired

TASKS = 8_000
ROUNDS = 3
SMALL_JOBS = 300
WORKERS = 2
EVENTS_PER_TASK = 4  # created with its leases, two results, verified
_WORKER = (
    "import asyncio, sys\n"
    "from shardy_client.worker.native import NativeWorker\n"
    "asyncio.run(NativeWorker(sys.argv[1], ephemeral=True, backend='wasm', name=sys.argv[2], memory_mib=256).run())\n"
)


def run() -> list[dict[str, Any]]:
    dask, ray = [], []
    with tempfile.TemporaryDirectory() as folder:
        ours = asyncio.run(_shardy(Path(folder)))
    for _ in range(ROUNDS):
        dask.append(_dask())
        ray.append(_ray())
    dask_rate, ray_rate = statistics.median(dask), statistics.median(ray)
    quorum, audit, limit = ours["quorum"], ours["audit"], ours["limit"]
    return [
        _figure("verified_tasks_per_s_quorum2", quorum, "1/s", "dask_tasks_per_s", quorum / dask_rate, "≥ 3"),
        _figure("verified_tasks_per_s_quorum2", quorum, "1/s", "ray_tasks_per_s", quorum / ray_rate, "> 1"),
        _figure("verified_tasks_per_s_quorum2", quorum, "1/s", "log_limit_tasks_per_s", quorum / limit, ""),
        _figure("verified_tasks_per_s_audit", audit, "1/s", "dask_tasks_per_s", audit / dask_rate, ""),
        _figure("dask_tasks_per_s", dask_rate, "1/s", "", None, ""),
        _figure("ray_tasks_per_s", ray_rate, "1/s", "", None, ""),
        _figure("log_limit_tasks_per_s", limit, "1/s", "", None, ""),
        _figure("small_job_p50_ms", ours["p50"], "ms", "", None, "< 20"),
        _figure("small_job_p99_ms", ours["p99"], "ms", "", None, ""),
    ]


def _figure(name: str, value: float, unit: str, compared_with: str, ratio: float | None, aim: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "compared_with": compared_with, "ratio": ratio, "aim": aim}


async def _shardy(folder: Path) -> dict[str, float]:
    async with Stack(folder, allow_same_address=True) as stack:
        workers = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", _WORKER, stack.url, f"bench-{i}")
            for i in range(WORKERS)
        ]
        try:
            async with AsyncMesh(stack.url, stack.api_key) as mesh:
                await _joined(mesh)
                return await _measure(stack, mesh)
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


async def _measure(stack: Stack, mesh: AsyncMesh) -> dict[str, float]:
    rng = np.random.default_rng(7)
    b = rng.integers(-128, 128, (16, 16), dtype=np.int8)
    rates: dict[str, list[float]] = {"quorum": [], "audit": []}
    for i in range(ROUNDS):
        for policy, seen in rates.items():
            a = np.roll(rng.integers(-128, 128, (TASKS, 16), dtype=np.int8), i, axis=0)
            started = time.perf_counter()
            job = await mesh.submit_matmul(a, b, policy=policy, task_rows=1)
            await job.wait()
            seen.append(TASKS / (time.perf_counter() - started))
            c = await job.result("c")
            if not np.array_equal(c, a.astype(np.int32) @ b.astype(np.int32)):
                raise RuntimeError("a wrong product")
    small = []
    for _ in range(SMALL_JOBS):
        a = rng.integers(-128, 128, (8, 16), dtype=np.int8)
        started = time.perf_counter()
        c = await mesh.matmul(a, b)
        small.append((time.perf_counter() - started) * 1e3)
        if not np.array_equal(c, a.astype(np.int32) @ b.astype(np.int32)):
            raise RuntimeError("a wrong product")
    small.sort()
    return {
        "quorum": statistics.median(rates["quorum"]),
        "audit": statistics.median(rates["audit"]),
        "p50": small[len(small) // 2],
        "p99": small[int(len(small) * 0.99)],
        "limit": await _log_limit(stack),
    }


async def _log_limit(stack: Stack) -> float:
    """Tasks a second if the log did nothing but take their events, from one appender."""
    log = await stack.open_log("bench", "matchmaker")
    try:
        events = [
            Append(TaskExpired(f"bench-{i}", "bench", [], "bench"), f"bench-{i}", 0, f"task.*.bench-{i}")
            for i in range(TASKS * EVENTS_PER_TASK)
        ]
        started = time.perf_counter()
        await log.append(events)
        return TASKS / (time.perf_counter() - started)
    finally:
        await log.close()


def _dask() -> float:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(_nothing, range(100), pure=False))
        started = time.perf_counter()
        client.gather(client.map(_nothing, range(TASKS), pure=False))
        return TASKS / (time.perf_counter() - started)


def _ray() -> float:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error", configure_logging=True)
    try:
        remote = ray.remote(_nothing)
        ray.get([remote.remote(i) for i in range(100)])
        started = time.perf_counter()
        ray.get([remote.remote(i) for i in range(TASKS)])
        return TASKS / (time.perf_counter() - started)
    finally:
        ray.shutdown()


def _nothing(i: int) -> int:
    return i
