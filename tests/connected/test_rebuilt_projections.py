"""Projections are only folds: thrown away, they come back equal; a stack started again knows all it knew."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import replayed
from meshkit import PATIENCE_S, Workers, api, client, int8, product, same, until
from replayed import live_of

from shardy_common.rebuild import rebuild_command
from shardy_common.stack import SERVICES, Stack

pytestmark = pytest.mark.slow


def projection_path(stack: Stack, service: str) -> Path:
    return stack.data_dir / "projections" / f"{service}-0.db"


def live_checksum(stack: Stack, service: str) -> tuple[int, str]:
    """Checkpoint and checksum of the file that the running service keeps, read beside it."""
    live = live_of(projection_path(stack, service), replayed.SERVICES[service].tables)
    return live.checkpoint, live.checksum


async def quiet(stack: Stack, services: list[str]) -> dict[str, tuple[int, str]]:
    """Checksums once nothing has changed for a while."""

    async def look() -> dict[str, tuple[int, str]]:
        first = {name: live_checksum(stack, name) for name in services}
        await asyncio.sleep(1)
        return first if first == {name: live_checksum(stack, name) for name in services} else {}

    return await until(look, "the mesh is quiet")


async def seen(stack: Stack, http: httpx.AsyncClient) -> dict[str, Any]:
    """Everything that the API shows of what has been."""
    jobs = (await http.get("/v1/jobs?limit=500")).json()
    tasks = {job["id"]: (await http.get(f"/v1/jobs/{job['id']}/tasks")).json() for job in jobs["jobs"]}
    frauds = (await http.get("/v1/frauds")).json()
    async with api(stack, stack.operator_key) as operator:
        letters = (await operator.get("/v1/dlq")).json()
    return {"jobs": jobs, "tasks": tasks, "frauds": frauds, "letters": letters}


async def history(stack: Stack, crew: Workers, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Jobs of several fates: completed in both ways, with a fraud, cancelled. Results by job id."""
    results: dict[str, np.ndarray] = {}
    await crew.start("judas", mode="liar")
    async with client(stack) as mesh:
        for policy in ("quorum", "audit"):
            a, b = int8(rng, 60, 16), int8(rng, 16, 9)
            job = await mesh.submit_matmul(a, b, policy=policy, task_rows=4)
            await job.wait(timeout_s=150)
            results[job.id] = product(a, b)
        await (await mesh.submit_matmul(a, b, redundancy=7)).cancel()

        async def named() -> bool:
            return bool((await mesh.listing("frauds"))["frauds"]) and bool(
                (await operator.get("/v1/dlq")).json()["entries"]
            )

        async with api(stack, stack.operator_key) as operator:
            await until(named, "the liar is caught")
    await crew.exit_code("judas")
    return results


async def works(stack: Stack, rng: np.random.Generator) -> None:
    a, b = int8(rng, 20, 16), int8(rng, 16, 5)
    async with client(stack) as mesh:
        same(await mesh.matmul(a, b, task_rows=5, timeout_s=PATIENCE_S), product(a, b))


async def test_rebuilds_equal_what_was_live(crew: Workers, wreck: Stack, rng: np.random.Generator) -> None:
    await history(wreck, crew, rng)
    # a worker that has had more than one session: a replay of its first must not end the one it has now
    await crew.start("returner", key=crew.folder / "returner.key")
    await crew.stop("returner")
    await crew.start("returner", key=crew.folder / "returner.key")
    before = await quiet(wreck, list(SERVICES))
    async with api(wreck) as http:
        shown = await seen(wreck, http)
        for service in SERVICES:
            (rebuilt,) = await asyncio.to_thread(rebuild_command, wreck.data_dir, service)
            checkpoint, checksum = before[service]
            assert rebuilt["service"] == service
            assert (rebuilt["checkpoint"], rebuilt["checksum"]) == (checkpoint, checksum), service
        assert await seen(wreck, http) == shown
        await works(wreck, rng)
        await crew.joined("returner")
        assert crew.running["returner"].returncode is None, "the rebuild ended a worker's session"
    await crew.stop("returner")


async def test_a_stopped_stack_comes_back(rng: np.random.Generator, tmp_path: Path) -> None:
    """Some of its projections kept, some lost: on the same folder, status and results are those of before."""
    async with Stack(tmp_path / "data", allow_same_address=True) as stack:
        crew = Workers(stack, tmp_path)
        try:
            await crew.start("una", "duo", "trey")
            results = await history(stack, crew, rng)
            async with api(stack) as http:
                shown = await seen(stack, http)
        finally:
            await crew.stop()
    for service in ("gateway", "quorum", "dlq"):
        for suffix in ("", "-wal", "-shm"):
            Path(f"{projection_path(stack, service)}{suffix}").unlink(missing_ok=True)
    async with Stack(tmp_path / "data", allow_same_address=True) as again:
        async with api(again) as http, client(again) as mesh:
            assert await seen(again, http) == shown
            for job, wanted in results.items():
                same(await (await mesh.job(job)).result(), wanted)
        crew = Workers(again, tmp_path)
        try:
            await crew.start("una", "duo")
            await works(again, rng)
        finally:
            await crew.stop()
