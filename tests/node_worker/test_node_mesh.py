"""Workers in Node and Bun in a real mesh, beside a native one: they agree to the byte, are credited, and survive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from node_harness import Process, Start

from shardy_client import AsyncMesh, PreExec
from shardy_client.worker.backends import Measurement
from shardy_client.worker.compute import Computer
from shardy_client.worker.native import NativeWorker
from shardy_client.worker.prepare import Device
from shardy_client.worker.wasm import WasmBackend
from shardy_common.stack import Stack

pytestmark = pytest.mark.connected
RNG = np.random.default_rng(31)


@contextlib.asynccontextmanager
async def native(url: str) -> AsyncIterator[NativeWorker]:
    device = Device(Computer(WasmBackend()), Measurement(1.0, 10.0, 64))
    worker = NativeWorker(url, ephemeral=True, device=device, memory_mib=256)
    task = asyncio.create_task(worker.run())
    try:
        await asyncio.wait_for(worker.joined.wait(), 60)
        yield worker
    finally:
        worker.stop()
        await asyncio.wait([task], timeout=10)


async def verified_by(mesh: AsyncMesh, job: str) -> set[str]:
    return {worker for task in (await mesh.tasks(job))["tasks"] for worker in task["verified_by"]}


async def test_agree_with_a_native_worker_are_credited_and_outlive_the_gateway(start: Start, tmp_path: Path) -> None:
    async with (
        Stack(tmp_path / "mesh", allow_same_address=True) as stack,
        AsyncMesh(stack.url, stack.api_key) as mesh,
        native(stack.url) as other,
    ):
        # The second option of a name counts: these have the memory for any tier.
        options = ("--json", "--memory-mib", "512")
        workers: list[Process] = [await start(stack.url, *options, "--key", str(tmp_path / f"{n}.key")) for n in "ab"]
        ids = {(await worker.status(lambda s: s["tier"] is not None))["worker"] for worker in workers}
        a, b = RNG.integers(-128, 128, (120, 96), np.int8), RNG.integers(-128, 128, (96, 50), np.int8)
        job = await mesh.submit_matmul(a, b, policy="quorum", task_rows=2)
        await job.wait(timeout_s=90)
        assert (await job.result() == a.astype(np.int32) @ b.astype(np.int32)).all()
        assert await verified_by(mesh, job.id) == {*ids, other.worker_id}

        x, y = RNG.normal(size=(96, 40)).astype(np.float32), RNG.normal(size=(40, 8)).astype(np.float32)
        pre = PreExec(-2, 2, ema_axis=0, alpha=0.5, segment_rows=4)
        floats = await mesh.submit_matmul(x, y, pre=pre, policy="quorum")
        assert (await floats.wait(timeout_s=90))["state"] == "completed", "a quorum needs the same bytes from two"

        for worker in workers:
            status = await worker.status(lambda s: s["verified"] is not None and s["verified"]["tasks"] > 0)
            assert status["credit"] == pytest.approx(status["verified"]["ops"] / 1e9)

        stack.kill("gateway")
        for worker in workers:
            await worker.until(lambda worker=worker: any("Trying again" in line for line in worker.lines))
            await worker.status(lambda s: s["tier"] is not None)
        big = RNG.integers(-128, 128, (700, 96), np.int8)
        c = await mesh.matmul(big, b, policy="quorum", timeout_s=90)
        assert (c == big.astype(np.int32) @ b.astype(np.int32)).all()
        for worker in workers:
            worker.signal()
            assert await worker.ended() == 0
