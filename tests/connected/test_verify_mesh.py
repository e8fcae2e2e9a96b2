"""The page at /verify of a real gateway: receipts of a real mesh, checked in a real browser that sends nothing."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from meshkit import PATIENCE_S, Workers, client, int8, product, same
from proofkit import ROOT, Files, circuit_files

from shardy_client import AsyncMesh
from shardy_common.receipts import check
from shardy_common.stack import Stack

sys.path.append(str(ROOT / "tests/browser"))
import browser_harness  # isort: skip  # it lies in the page's own tests

pytestmark = [pytest.mark.slow, pytest.mark.browser]
CIRCUIT = "v2-8x8x8"
READY = "() => document.documentElement.dataset.ready === 'yes'"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    if not (browser_harness.PAGE / "verify/index.html").exists():
        pytest.skip("the page is not built: make page")
    return circuit_files(8, 8, 8, tmp_path_factory.mktemp("keys") / "v1")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mesh(files: Files, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A mesh with three workers and a circuit to prove in."""
    env = {"SHARDY_DEVELOPMENT": "true", "SHARDY_CANARY_EVERY": "0"}
    async with Stack(tmp_path_factory.mktemp("verify"), allow_same_address=True, env=env) as stack:
        async with AsyncMesh(stack.url, stack.operator_key) as operator:
            proving = {"zkey": files.zkey.read_bytes(), "r1cs": files.r1cs.read_bytes()}
            vk = json.loads(files.vkey.read_text())
            await operator.register_verifier(CIRCUIT, "v1", (8, 8, 8), vk, files=proving)
            await operator.rotate_verifier(CIRCUIT, "v1", 600)
        workers = Workers(stack, tmp_path_factory.mktemp("workers"))
        try:
            await workers.start("ada", "bo", "cy")
            yield stack
        finally:
            await workers.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def page(mesh: Stack) -> AsyncIterator[Any]:
    """The page, opened at the address without a slash; a script error or a report of CSP fails the test."""
    async_api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if not browser_harness.CHROMIUM:
        pytest.skip("no Chromium on this machine (set SHARDY_CHROMIUM)")
    errors: list[str] = []
    async with contextlib.AsyncExitStack() as held:
        playwright = await held.enter_async_context(async_api.async_playwright())
        browser = await playwright.chromium.launch(executable_path=browser_harness.CHROMIUM, args=browser_harness.FLAGS)
        held.push_async_callback(browser.close)
        page = await browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        await page.goto(f"{mesh.url}/verify")
        await page.wait_for_function(READY, timeout=60_000)
        yield page
    assert errors == []


async def verdict(page: Any, receipt: bytes, key: str) -> tuple[str, str]:
    """What is said of a receipt under this key: the title, and everything."""
    await page.fill("#key", key)
    await page.dispatch_event("#key", "change")
    await page.set_input_files("#file", {"name": "r.json", "mimeType": "application/json", "buffer": receipt})
    await page.wait_for_function(
        "(size) => document.getElementById('chosen').textContent.includes(size)"
        " && document.getElementById('progress').hidden && !document.getElementById('verdict').hidden",
        arg=f"{len(receipt):,} bytes",
        timeout=60_000,
    )
    return await page.inner_text("#verdict-title"), await page.inner_text("#result")


async def compared(page: Any, folder: Path, wanted: str, **arrays: np.ndarray) -> None:
    """Give these arrays, and wait until this is said."""
    await page.evaluate("() => (document.getElementById('compared').textContent = '')")
    for name, array in arrays.items():
        file = folder / f"{name}-{len(list(folder.iterdir()))}.npy"  # chosen by name: another file has another
        np.save(file, array)
        await page.set_input_files(f"#array-{name}", file)
    said = "(wanted) => document.getElementById('arrays').innerText.includes(wanted)"
    await page.wait_for_function(said, arg=wanted, timeout=60_000)


async def receipt_of(stack: Stack, job: str) -> bytes:
    """As it is downloaded."""
    async with httpx.AsyncClient(base_url=stack.url, headers={"Authorization": f"Bearer {stack.api_key}"}) as http:
        answer = await http.get(f"/v1/jobs/{job}/receipt", timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.content


async def test_the_page_has_an_address_with_and_without_a_slash(mesh: Stack) -> None:
    async with httpx.AsyncClient(base_url=mesh.url, follow_redirects=True) as http:
        one, other = await http.get("/verify"), await http.get("/verify/")
        assert one.status_code == other.status_code == 200 and one.content == other.content
        assert "default-src 'none'" in other.headers["Content-Security-Policy"]
        assert "connect-src" not in other.headers["Content-Security-Policy"]
        assert 'href="./verify/"' in (await http.get("/")).text


@pytest.mark.parametrize("policy", ["quorum", "proof"])
async def test_receipts_of_the_mesh(
    mesh: Stack, page: Any, tmp_path: Path, rng: np.random.Generator, policy: str
) -> None:
    a, b = int8(rng, 20, 7), int8(rng, 7, 12)
    more = {"proof_tiles": 4} if policy == "proof" else {}
    async with client(mesh) as requester:
        job = await requester.submit_matmul(a, b, policy=policy, **more)
        same(await job.result(timeout=PATIENCE_S), product(a, b))
        from_sdk = json.dumps(await requester.receipt(job.id)).encode()
    data = await receipt_of(mesh, job.id)
    report = check(data, mesh_keys=[mesh.mesh_key])
    assert report.ok and (report.proofs > 1) == (policy == "proof")

    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url))
    for receipt in (from_sdk, data):
        title, said = await verdict(page, receipt, mesh.mesh_key)
        assert title == "VERIFIED" and f"{report.tasks} by {policy}" in said and job.id in said
        assert (f"{report.proofs} hold, under a DEVELOPMENT key" in said) == (policy == "proof")
    assert (await verdict(page, data, ""))[0] == "NOT VERIFIED: nobody has vouched for it"
    title, said = await verdict(page, data, "ab" * 32)
    assert title == "NOT VERIFIED" and "none of the mesh's keys that you trust" in said
    spots = [b'"digest":"', b'"sig":"', b'"requester":"', b'"seq":', *([b'"proof":"', b'"IC\\":[[\\"'] if more else [])]
    for spot in spots:
        at = data.rindex(spot) + len(spot)
        changed = bytearray(data)
        changed[at] ^= 1
        assert (await verdict(page, bytes(changed), mesh.mesh_key))[0] == "NOT VERIFIED", spot
        assert not check(bytes(changed), mesh_keys=[mesh.mesh_key]).ok
    await verdict(page, data, mesh.mesh_key)
    proved = f", {report.proofs} proofs are about these very numbers." if policy == "proof" else "equal."
    await compared(page, tmp_path, proved, a=a, b=b, c=product(a, b))
    assert "The same: A and B as in the receipt" in await page.inner_text("#compared")
    wrong = product(a, b)
    wrong[3, 4] += 1
    await compared(page, tmp_path, "differ from what was verified, the first at rows", c=wrong)
    turned = b[:, ::-1].copy()
    await compared(page, tmp_path, "operand b is not the one that the receipt is about", b=turned, c=product(a, b))
    assert asked == [], "something left the tab"
