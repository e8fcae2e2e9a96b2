"""The README's Python runs as it stands against a real mesh, and gives NumPy's bytes."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from shardy_common.engine import reference
from shardy_common.stack import Stack

pytestmark = pytest.mark.connected
ROOT = Path(__file__).resolve().parents[2]
JOIN_S = 90.0


async def _joined(stack: Stack, count: int) -> None:
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
    """A mesh with two native workers, started as the README says."""
    async with Stack(tmp_path / "mesh", allow_same_address=True) as running:
        workers = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "shardy_client.cli", "worker", "--url", running.url, "--quiet"),
                *("--ephemeral", "--backend", "wasm", "--memory-mib", "512", "--name", name),
                stdin=asyncio.subprocess.DEVNULL,
            )
            for name in ("one", "two")
        ]
        try:
            await _joined(running, len(workers))
            yield running
        finally:
            for worker in workers:
                with contextlib.suppress(ProcessLookupError):
                    worker.terminate()
            await asyncio.gather(*(worker.wait() for worker in workers))


def snippets() -> list[str]:
    return re.findall(r"(?ms)^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"))


async def test_the_readme_runs(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDY_URL", stack.url)
    monkeypatch.setenv("SHARDY_KEY", stack.api_key)
    names: dict[str, Any] = {}
    assert snippets()
    for snippet in snippets():
        await asyncio.to_thread(exec, compile(snippet, "README.md", "exec"), names)
    product = (names["a"].astype(np.float64) @ names["b"].astype(np.float64)).astype(np.int32)
    for found in (names["c"], names["d"]):
        assert found.dtype == np.int32 and found.tobytes() == product.tobytes()
    x = names["x"]
    q, scale = reference.preexec(
        x,
        row0=0,
        rows=len(x),
        warm_rows=math.ceil(25 * math.log(2) / -math.log1p(-0.2)),
        segment_rows=4096,
        lo=-3.0,
        hi=3.0,
        ema_axis=0,
        alpha=0.2,
        scale="row",
    )
    assert names["quantised"].q.tobytes() == q.tobytes()
    assert names["quantised"].scale.tobytes() == scale.tobytes()
