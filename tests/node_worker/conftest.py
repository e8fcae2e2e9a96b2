"""Fixtures: the built worker, a strict gateway, and processes that are ended with each test.

The worker is built before the first test where npm and its packages are at hand, so that what is tested is what is
written. Bun is tested where it is installed: on PATH, or named by `SHARDY_BUN`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from node_harness import BUNDLE, ROOT, RUNTIMES, Process, Start

from fake_gateway import ScriptGateway  # isort: skip  # its folder is on the path since the harness was imported


@pytest.fixture(scope="session")
def bundle() -> Path:
    if shutil.which("npm") and shutil.which("make") and (ROOT / "web-worker/node_modules/.ready").exists():
        command = ["make", "--no-print-directory", "worker-js"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    if not BUNDLE.exists():
        pytest.skip("the worker is not built: make worker-js")
    return BUNDLE


@pytest.fixture(params=list(RUNTIMES))
def runtime(request: pytest.FixtureRequest, bundle: Path) -> str:
    name: str = request.param
    if not RUNTIMES[name]:
        pytest.skip(f"no {name} on this machine (set SHARDY_{name.upper()})")
    return name


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptGateway]:
    """A strict gateway that knows the right bytes; whatever broke the protocol fails the test."""
    async with ScriptGateway(heartbeat_s=0.2) as gateway:
        yield gateway
        assert gateway.violations == []


@pytest.fixture
async def start(runtime: str, tmp_path: Path) -> AsyncIterator[Start]:
    """`await start(url, *options)`: a worker whose user data lies in `tmp_path`."""
    running: list[Process] = []

    async def start(url: str, *options: str) -> Process:
        env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), "HOME": str(tmp_path)}
        env.pop("SHARDY_URL", None)
        # Less memory to touch, and no other backend than the engine: the tests are about the worker.
        process = await Process.start(runtime, ("--url", url, "--memory-mib", "64", *options), env)
        running.append(process)
        return process

    yield start
    for process in running:
        await process.kill()
