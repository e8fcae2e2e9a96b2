"""Jobs with policy proof done by workers in JavaScript: a page in a real browser, Node and Bun. Their proofs hold for
anybody, and a receipt carries them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import pytest_asyncio
from meshkit import PATIENCE_S, check_log, client, int8, of_job, product, same
from proofkit import ROOT, Files, circuit_files

from bench.faults.logs import read_log
from shardy_client import AsyncMesh
from shardy_common import ids
from shardy_common.proofs import pure
from shardy_common.receipts import check, check_arrays
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

sys.path[:0] = [str(ROOT / "tests/node_worker"), str(ROOT / "tests/browser")]
import node_harness  # isort: skip  # noqa: E402  # these lie in the workers' own tests
import browser_harness  # isort: skip  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.browser]
CIRCUIT = "v2-8x8x8"
TILES = 4


@pytest.fixture(scope="module")
def built() -> None:
    """Page and command, as they are written."""
    if shutil.which("npm") is None or not (ROOT / "web-worker/node_modules/.ready").exists():
        pytest.skip("the web worker's packages are not installed: make page")
    done = subprocess.run(["make", "page", "worker-js"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return circuit_files(8, 8, 8, tmp_path_factory.mktemp("keys") / "v1")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mesh(built: None, files: Files, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    env = {"SHARDY_DEVELOPMENT": "true", "SHARDY_CANARY_EVERY": "0"}
    async with Stack(tmp_path_factory.mktemp("tabs"), allow_same_address=True, env=env) as stack:
        async with AsyncMesh(stack.url, stack.operator_key) as operator:
            proving = {"zkey": files.zkey.read_bytes(), "r1cs": files.r1cs.read_bytes()}
            vk = json.loads(files.vkey.read_text())
            await operator.register_verifier(CIRCUIT, "v1", (8, 8, 8), vk, files=proving)
            await operator.rotate_verifier(CIRCUIT, "v1", 600)
        yield stack


class Scripted:
    """The command in Node or Bun."""

    def __init__(self, runtime: str, stack: Stack, folder: Path) -> None:
        self.runtime, self.stack, self.folder = runtime, stack, folder

    async def __aenter__(self) -> str:
        env = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), "HOME": str(self.folder)}
        options = ("--url", self.stack.url, "--json", "--memory-mib", "512", "--ephemeral")
        self.process = await node_harness.Process.start(self.runtime, options, env)
        worker: str = (await self.process.status(lambda s: s["tier"] is not None))["worker"]
        return worker

    async def made(self, proofs: int) -> None:
        """It says how many proofs it made, and has kept the key."""
        await self.process.status(lambda s: s["proofs_made"] == proofs and s["proof"] is None)
        assert len(list((self.folder / "cache/shardy/proving-keys").glob("*.gz"))) == 2

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.signal()
        await self.process.ended()


class Tab:
    """The page in a Chromium."""

    def __init__(self, _: str, stack: Stack, __: Path) -> None:
        self.stack = stack
        self.held = contextlib.AsyncExitStack()
        self.errors: list[str] = []

    async def __aenter__(self) -> str:
        async_api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
        playwright = await self.held.enter_async_context(async_api.async_playwright())
        flags = [*browser_harness.FLAGS, "--disable-features=WebGPU"]
        browser = await playwright.chromium.launch(executable_path=browser_harness.CHROMIUM, args=flags)
        self.held.push_async_callback(browser.close)
        self.page = await browser.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.fetched: list[str] = []
        self.page.on("request", lambda request: self.fetched.append(request.url))
        await self.page.goto(f"{self.stack.url}/?{urlencode({'autostart': 1, 'memory': 512})}")
        status = await browser_harness.until(self.page, "s.tier !== null")
        # What proving takes is fetched with the first proof, and not before.
        assert not [url for url in self.fetched if "prov" in url.rpartition("/")[2]], self.fetched
        # What people are shown of it is collected, since it may last a moment only.
        await self.page.evaluate(SHOWN)
        return ids.worker_id(bytes.fromhex(status["key"]))

    async def made(self, proofs: int) -> None:
        await browser_harness.until(self.page, f"s.proofsMade === {proofs} && s.proof === null")
        shown: list[str] = await self.page.evaluate("() => window.shown")
        assert any(text.startswith("Proving tile 1 of") for text in shown), shown
        assert not await self.page.is_visible("#proof")
        kept = await self.page.evaluate("async () => (await (await caches.open('shardy-proving-keys')).keys()).length")
        assert kept == 2

    async def __aexit__(self, *_: object) -> None:
        await self.held.aclose()
        assert self.errors == []


SHOWN = """() => {
  window.shown = [];
  const text = document.getElementById("proof-text");
  const look = () => document.getElementById("proof").hidden || window.shown.push(text.textContent);
  new MutationObserver(look).observe(text, { childList: true, characterData: true, subtree: true });
}"""


def worker_in(host: str, stack: Stack, folder: Path) -> Any:
    """Skips the test where this host is not here."""
    if host == "chromium":
        if not browser_harness.CHROMIUM:
            pytest.skip("no Chromium on this machine (set SHARDY_CHROMIUM)")
        return Tab(host, stack, folder)
    if not node_harness.RUNTIMES[host]:
        pytest.skip(f"no {host} on this machine (set SHARDY_{host.upper()})")
    return Scripted(host, stack, folder)


@pytest.mark.parametrize("host", ["node", "bun", "chromium"])
async def test_results_are_proved_to_anybody(mesh: Stack, tmp_path: Path, rng: np.random.Generator, host: str) -> None:
    worker = worker_in(host, mesh, tmp_path)
    async with worker as name, client(mesh) as requester:
        a, b = int8(rng, 20, 7), int8(rng, 7, 12)
        job = await requester.submit_matmul(a, b, policy="proof", proof_tiles=TILES)
        same(await job.result(timeout=PATIENCE_S), product(a, b))
        events = [recorded.event for recorded in of_job(await read_log(mesh), job.id)]
        verified = [event for event in events if isinstance(event, ev.TaskVerified)]
        proved = [event for event in events if isinstance(event, ev.ProofVerified)]
        assert verified and {event.method for event in verified} == {"proof"}
        assert len(proved) == len(verified) and {event.worker for event in proved} == {name}
        assert not [event for event in events if isinstance(event, ev.ProofRejected)]
        proofs = sum(event.checked for event in proved)
        assert max(event.checked for event in proved) > 1, "no result had several tiles"
        await worker.made(proofs)

        # What was loaded serves the next job, which has one tile a result.
        small = await requester.submit_matmul(a[:8], b[:, :8], policy="proof", proof_tiles=1)
        same(await small.result(timeout=PATIENCE_S), product(a[:8], b[:, :8]))
        await check_log(mesh, job.id)
        receipt, other = await requester.receipt(job.id), await requester.receipt(small.id)
    report = check(receipt, mesh_keys=[mesh.mesh_key])
    assert (report.problems, report.vouched, report.proofs) == ([], True, proofs)
    assert check(receipt, mesh_keys=[mesh.mesh_key], verify_proof=pure.verify).ok
    arrays = {"a": a, "b": np.ascontiguousarray(b.T), "c": product(a, b)}
    assert check_arrays(receipt, arrays).ok
    assert not check_arrays(receipt, {**arrays, "b": arrays["b"][::-1].copy()}).ok
    assert check(other, mesh_keys=[mesh.mesh_key]).ok and check(other, mesh_keys=[mesh.mesh_key]).proofs > 0
