"""A mesh with two native workers, started as the README says."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio

from shardy_common.stack import Stack

SHARDY = Path(sys.executable).parent / "shardy"
JOIN_S = 90.0


async def joined(stack: Stack, count: int) -> None:
    """So many workers are present and have a tier."""
    deadline = time.monotonic() + JOIN_S
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as http:
        while True:
            workers = (await http.get("/v1/workers")).json()["workers"]
            if sum(bool(worker["present"] and worker["tier"]) for worker in workers) >= count:
                return
            assert time.monotonic() < deadline, "the workers did not join"
            await asyncio.sleep(0.2)


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(tmp_path / "mesh", allow_same_address=True) as running:
        workers = [
            await asyncio.create_subprocess_exec(
                *(str(SHARDY), "worker", "--url", running.url, "--quiet", "--ephemeral"),
                *("--backend", "wasm", "--memory-mib", "512", "--name", name),
                stdin=asyncio.subprocess.DEVNULL,
            )
            for name in ("one", "two")
        ]
        try:
            await joined(running, len(workers))
            yield running
        finally:
            for worker in workers:
                with contextlib.suppress(ProcessLookupError):
                    worker.terminate()
            await asyncio.gather(*(worker.wait() for worker in workers))
