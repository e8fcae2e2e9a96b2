"""The operators' page on a real mesh, in a real browser: signing in, rotating while proofs stream, revoking, what
others do meanwhile, what is refused, and a gateway that goes and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from made_keys import made_vk
from meshkit import PATIENCE_S, Workers, client, int8, of_job, product, registered, same, until
from proofkit import ROOT, circuit_files

from bench.faults.logs import read_log
from shardy_client import AsyncMesh
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

sys.path.insert(0, str(ROOT / "tests/browser"))
import browser_harness  # isort: skip  # lies in the page's own tests

pytestmark = [pytest.mark.slow, pytest.mark.browser]
PRODUCT, PROVED = "product-8x384x8", "v2-8x8x8"
Page = Any


@dataclass
class Desk:
    stack: Stack
    browser: Any
    errors: list[str]

    async def opened(self, **context: Any) -> Page:
        page = await (await self.browser.new_context(**context)).new_page()
        page.set_default_timeout(PATIENCE_S * 1_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        await page.goto(f"{self.stack.url}/operate")
        return page

    async def signed_in(self, **context: Any) -> Page:
        page = await self.opened(**context)
        await page.fill("#key", self.stack.operator_key)
        await page.press("#key", "Enter")
        await page.wait_for_selector("#circuits table")
        return page

    def operator(self) -> AsyncMesh:
        return AsyncMesh(self.stack.url, self.stack.operator_key)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    env = {"SHARDY_DEVELOPMENT": "true", "SHARDY_CANARY_EVERY": "0"}
    async with Stack(tmp_path_factory.mktemp("desk"), allow_same_address=True, env=env) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def desk(stack: Stack) -> AsyncIterator[Desk]:
    async_api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if not browser_harness.CHROMIUM:
        pytest.skip("no Chromium on this machine (set SHARDY_CHROMIUM)")
    if not (browser_harness.PAGE / "operate/index.html").exists():
        pytest.skip("the page is not built: make page")
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=browser_harness.CHROMIUM, args=browser_harness.FLAGS)
        made = Desk(stack, browser, [])
        yield made
        await browser.close()
    # answers that refuse and gateways that are away are reported by the browser too: they are what is tried here
    assert [error for error in made.errors if "Failed to load resource" not in error] == []


async def versions(desk: Desk, *names: str, circuit: str = PRODUCT) -> None:
    async with desk.operator() as mesh:
        for number, name in enumerate(names):
            await mesh.register_verifier(circuit, name, (8, 384, 8), made_vk(number))


async def status_of(desk: Desk, version: str) -> str:
    async with desk.operator() as mesh:
        return str((await mesh.verifier(version))["status"])


def row(page: Page, version: str) -> Page:
    return page.locator(f'tr[data-version="{version}"]')


async def shows(page: Page, version: str, *texts: str) -> None:
    for text in texts:
        await row(page, version).get_by_text(text, exact=False).first.wait_for()


async def says(page: Page, text: str) -> None:
    await page.locator("#outcome").get_by_text(text).wait_for()


async def test_only_an_operator_gets_in(desk: Desk) -> None:
    page = await desk.opened()
    assert page.url.endswith("/operate/") and not await page.is_visible("#sections")
    for key, words in (("sk_nobody", "key"), (desk.stack.api_key, "operate")):
        await page.fill("#key", key)
        await page.press("#key", "Enter")
        await page.wait_for_function(f"() => document.getElementById('sign-in-said').textContent.includes('{words}')")
        assert await page.evaluate("() => sessionStorage.length") == 0
    await page.fill("#key", desk.stack.operator_key)
    await page.click("#sign-in button")
    await page.wait_for_selector("#circuits .empty")
    assert "shardy verifiers register" in await page.inner_text("#circuits")
    await page.reload()
    await page.wait_for_selector("#circuits .empty")
    await page.click("text=Ceremonies")
    await page.wait_for_selector("#runs .empty")
    assert not await page.is_visible("#verifiers")
    await page.click("#sign-out")
    assert await page.is_visible("#sign-in") and await page.evaluate("() => sessionStorage.length") == 0
    assert await page.input_value("#key") == ""


async def test_a_life_of_versions(desk: Desk) -> None:
    """By keyboard alone, with what others do meanwhile."""
    await versions(desk, "v1", "v2", "v3")
    page = await desk.signed_in()
    await shows(page, "v1", "registered", "was never active", "no files for workers")
    await page.focus(f"#rotate-{PRODUCT}-v1")
    await page.keyboard.press("Enter")
    assert "which has none now" in await page.inner_text("#rotate-text")
    await page.keyboard.press("Escape")
    assert await status_of(desk, "v1") == "registered"
    await page.keyboard.press("Enter")  # the focus came back to the button
    await page.focus('#rotate [value="yes"]')
    await page.keyboard.press("Enter")
    await shows(page, "v1", "active")
    await says(page, f"v1 is the active version of {PRODUCT}.")
    assert await status_of(desk, "v1") == "active"

    await page.focus(f"#rotate-{PRODUCT}-v2")
    await page.keyboard.press("Enter")
    await page.fill("#grace", "soon")
    await page.keyboard.press("Enter")
    assert "Write it as" in await page.inner_text("#grace-said") and await page.is_visible("#rotate")
    await page.fill("#grace", "1h")
    await page.keyboard.press("Enter")
    await shows(page, "v2", "active")
    await shows(page, "v1", "grace", "still counts for earlier leases, for 59 min")

    async with desk.operator() as other:  # it appears by itself
        await other.rotate_verifier(PRODUCT, "v3", 60)
    await shows(page, "v3", "active")
    await page.focus(f"#rotate-{PRODUCT}-v2")
    await page.keyboard.press("Enter")
    async with desk.operator() as other:  # and what somebody else was quicker with is refused in the mesh's words
        await other.rotate_verifier(PRODUCT, "v2", 60)
    await page.focus('#rotate [value="yes"]')
    await page.keyboard.press("Enter")
    await says(page, "Nothing was changed.")
    assert "active already" in await page.inner_text("#outcome")
    await shows(page, "v2", "active")

    await page.click(f"#revoke-{PRODUCT}-v2")
    await page.fill("#why", "<img src=x onerror=alert(1)> leaked")
    await page.fill("#confirm", "v1")
    await page.keyboard.press("Enter")
    assert "This is not v2." in await page.inner_text("#confirm-said") and await status_of(desk, "v2") == "active"
    await page.fill("#confirm", "v2")
    await page.select_option("#successor", "v3")
    await page.keyboard.press("Enter")
    await shows(page, "v2", "revoked", "<img src=x onerror=alert(1)> leaked; in its place: v3")
    await shows(page, "v3", "active")
    assert await status_of(desk, "v2") == "revoked" and await page.locator("#circuits img").count() == 0
    assert await row(page, "v2").locator("button").count() == 0
    for name, context in {
        "desktop": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
        "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
    }.items():
        shot = await desk.signed_in(**context)
        overflow = await shot.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{name}: the page is wider than its window"
        if folder := os.environ.get("SHARDY_SHOTS"):
            await shot.screenshot(path=str(Path(folder) / f"operate-{name}.png"))
            await shot.click(f"#rotate-{PRODUCT}-v1")
            await shot.screenshot(path=str(Path(folder) / f"operate-{name}-rotate.png"))
            await shot.keyboard.press("Escape")
            await shot.click(f"#revoke-{PRODUCT}-v3")
            await shot.screenshot(path=str(Path(folder) / f"operate-{name}-revoke.png"))


async def test_a_gateway_that_goes_and_comes_back(desk: Desk) -> None:
    page = await desk.signed_in()
    old = desk.stack.kill("gateway")
    await page.click("text=Ceremonies")  # looks at once: the gateway may be back before the page looks by itself
    await page.wait_for_selector("#connection:not([hidden])")
    await page.click("text=Verifier versions")
    assert "goes on trying" in await page.inner_text("#connection")
    assert await page.locator("#circuits table").count() == 1, "what was known stays"

    async def back() -> bool:
        return desk.stack.processes["gateway"].pid != old and not await page.is_visible("#connection")

    await until(back, "the page is connected again")
    await page.click("#sign-out")
    assert not await page.is_visible("#connection")


async def test_rotations_on_the_page_while_proofs_stream(desk: Desk, tmp_path: Path, rng: np.random.Generator) -> None:
    """None is lost, none is refused, and each is under a version that was active."""
    for seed, version in (("01", "p1"), ("02", "p2")):
        await registered(desk.stack, version, circuit_files(8, 8, 8, tmp_path / version, seed=seed))
    async with desk.operator() as mesh:
        await mesh.rotate_verifier(PROVED, "p1", 600)
    workers, jobs, over = Workers(desk.stack, tmp_path), [], asyncio.Event()

    async def work() -> None:
        async with client(desk.stack) as requester:
            while not over.is_set():
                a, b = int8(rng, 32, 8), int8(rng, 8, 8)
                job = await requester.submit_matmul(a, b, policy="proof", proof_tiles=1, task_rows=8)
                jobs.append(job.id)
                same(await job.result(timeout=PATIENCE_S), product(a, b))

    try:
        await workers.start("ada")
        page = await desk.signed_in()
        working = asyncio.create_task(work())
        for number in range(4):
            name = ("p2", "p1")[number % 2]
            await asyncio.sleep(0.5)
            await page.click(f"#rotate-{PROVED}-{name}")
            await page.click('#rotate [value="yes"]')
            await row(page, name).locator(".status.active").wait_for()
        over.set()
        await working
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await workers.stop()
    events = await read_log(desk.stack)
    used = set()
    for job in jobs:
        mine = [recorded.event for recorded in of_job(events, job)]
        assert not any(isinstance(event, (ev.ProofRejected, ev.TaskExpired)) for event in mine)
        used |= {event.version for event in mine if isinstance(event, ev.ProofVerified)}
    assert used == {"p1", "p2"}
    rotated = [r.event for r in events if isinstance(r.event, ev.VerifierRotated) and r.event.circuit == PROVED]
    assert [event.version for event in rotated] == ["p1", "p2", "p1", "p2", "p1"]
    assert len(jobs) >= 2
