"""Processor time of a verified task, by service: on an empty log, on one of a million events, and as a mesh grows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.log_store import copied, costs, cpu_s, figure, profiled, story_store, write_profiles
from bench.mesh import _WORKER
from shardy_client import AsyncMesh
from shardy_common.stack import Stack, _prepare_child

WARM, MORE = 2_000, 20_000
WORKERS = 2
JOB_TASKS = 10_000  # of one job: a longer run is several of them, one after another
JOIN_S = 300
FLAT = "0.9 to 1.1"


async def run(events: int) -> list[dict[str, Any]]:
    """On an empty log and on one with `events`, the same tasks; then, where SHARDY_BENCH_TASKS says how many, a mesh
    that grows to that (2,000 a second: a million take about ten minutes)."""
    with tempfile.TemporaryDirectory() as folder:
        async with _mesh(Path(folder)) as (stack, mesh):
            empty = await _cost(stack, mesh, MORE)
            grown = await _growing(stack, mesh, int(os.environ.get("SHARDY_BENCH_TASKS", "0")), empty)
    store, facts = await story_store(events)
    with tempfile.TemporaryDirectory() as folder, copied(store, Path(folder)):
        async with _mesh(Path(folder)) as (stack, mesh):
            long = await _cost(stack, mesh, MORE)
    size = f"{facts['tasks'] // 1000}k"
    figures = []
    for name, ms in {**long, "all": sum(long.values())}.items():
        before = empty.get(name, sum(empty.values()))
        named = f"per_task_cpu_ms_{name}_empty"
        figures.append(figure(f"per_task_cpu_ms_{name}_after_{size}", ms, "cpu ms", named, before, FLAT))
        figures.append(figure(named, before, "cpu ms"))
    named = {f["name"]: f["value"] for f in figures + grown}
    figures.append(figure("per_task_cpu_ms_1k", sum(empty.values()), "cpu ms"))
    if "per_task_cpu_ms_all_at_1000k" in named:
        most = named["per_task_cpu_ms_all_at_1000k"]
        figures.append(figure("per_task_cpu_ms_1m", most, "cpu ms", "per_task_cpu_ms_1k", sum(empty.values()), FLAT))
    return figures + grown


async def _growing(stack: Stack, mesh: AsyncMesh, most: int, first: dict[str, float]) -> list[dict[str, Any]]:
    """As the mesh itself verifies more and more tasks: the cost of the last ones at each power of ten."""
    figures, done = [], WARM + MORE
    for goal in (100_000, 300_000, 1_000_000):
        if goal > most:
            break
        await _tasks(mesh, goal - done - MORE)
        cost, done = await _cost(stack, mesh, MORE), goal
        for name, ms in {**cost, "all": sum(cost.values())}.items():
            before = first.get(name, sum(first.values()))
            figures.append(
                figure(
                    f"per_task_cpu_ms_{name}_at_{goal // 1000}k",
                    ms,
                    "cpu ms",
                    f"per_task_cpu_ms_{name}_empty",
                    before,
                    FLAT,
                )
            )
    return figures


@contextlib.asynccontextmanager
async def _mesh(folder: Path) -> AsyncIterator[tuple[Stack, AsyncMesh]]:
    """A mesh with two native workers, warm."""
    async with Stack(folder, allow_same_address=True, env=profiled()) as stack:
        workers = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", _WORKER, stack.url, f"bench-{i}", preexec_fn=_prepare_child(nice=0)
            )
            for i in range(WORKERS)
        ]
        try:
            async with AsyncMesh(stack.url, stack.api_key) as mesh:
                await _joined(stack)
                await _tasks(mesh, WARM)
                await asyncio.sleep(3)
                yield stack, mesh
        finally:
            for worker in workers:
                worker.terminate()
                await worker.wait()


async def _joined(stack: Stack) -> None:
    """Until both are there with a tier: the matchmaker may have a long log to fold first."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers) as http:
        for _ in range(JOIN_S):
            here = (await http.get("/v1/workers", params={"present": "true"})).json()["workers"]
            if sum(bool(worker["tier"]) for worker in here) == WORKERS:
                return
            await asyncio.sleep(1)
    raise RuntimeError("the workers did not join")


async def _tasks(mesh: AsyncMesh, count: int) -> None:
    rng = np.random.default_rng(7)
    b = rng.integers(-128, 128, (16, 16), dtype=np.int8)
    while count > 0:
        rows = min(count, JOB_TASKS)
        a = rng.integers(-128, 128, (rows, 16), dtype=np.int8)
        job = await mesh.submit_matmul(a, b, policy="quorum", task_rows=1)
        await job.wait()
        count -= rows


async def _cost(stack: Stack, mesh: AsyncMesh, count: int) -> dict[str, float]:
    """Processor milliseconds of each process for one of `count` tasks; what they cost when idle is not taken off."""
    await write_profiles(stack)
    before = costs(stack)
    await _tasks(mesh, count)
    await write_profiles(stack)
    return {
        name: 1e3 * (cpu_s(managed.pid) - before[name]) / count
        for name, managed in stack.processes.items()
        if managed.pid
    }
