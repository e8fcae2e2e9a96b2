"""Fixtures: a strict gateway, and workers that are stopped and checked at each test's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from fake_gateway import FakeGateway

from shardy_client.worker.backends import Measurement
from shardy_client.worker.compute import Computer
from shardy_client.worker.native import NativeWorker
from shardy_client.worker.prepare import Device
from shardy_client.worker.wasm import WasmBackend


@pytest.fixture
def device() -> Device:
    """The engine, with a rate that nobody had to wait for."""
    return Device(Computer(WasmBackend()), Measurement(1.0, 10.0, 64))


StartWorker = Callable[..., Awaitable[NativeWorker]]


@pytest.fixture
async def start(device: Device) -> AsyncIterator[StartWorker]:
    running: list[tuple[NativeWorker, asyncio.Task[None]]] = []

    async def start(gateway: FakeGateway, **more: Any) -> NativeWorker:
        worker = NativeWorker(gateway.url, ephemeral=True, **{"device": device, "memory_mib": 64, **more})
        task = asyncio.create_task(worker.run())
        running.append((worker, task))
        worker.task = task  # type: ignore[attr-defined]
        joined = asyncio.create_task(worker.joined.wait())
        await asyncio.wait([joined, task], timeout=10, return_when=asyncio.FIRST_COMPLETED)
        joined.cancel()
        return worker

    yield start
    for worker, task in running:
        worker.stop()
        await asyncio.wait([task], timeout=5)
        assert task.done()
        worker.state.check()
