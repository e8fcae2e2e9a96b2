"""The page as a person or an operator meets it. Needs only a gateway that serves it (fixture `mesh_url`)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from browser_harness import ROOT, Open, until

KERNELS = json.loads((ROOT / "libs/shardy_common/kernels/manifest.json").read_text())


async def test_joins_and_shows_it(mesh_url: str, open_page: Open) -> None:
    page = await open_page(mesh_url, name="kitchen tablet")
    status = await until(page, "s.tier !== null")
    assert status["pageState"] in ("waiting", "computing")
    assert status["gops"] > 0
    assert await page.inner_text("#state") != ""
    assert await page.inner_text("#tier") == status["tier"]
    assert await page.is_visible("#stop")


async def test_nothing_starts_before_the_button(mesh_url: str, launch: Open) -> None:
    page = await (await launch()).new_page()
    await page.goto(mesh_url)
    assert await page.is_visible("#consent")
    assert (await page.evaluate("() => window.shardy"))["pageState"] == "idle"
    await page.click("#start")
    await until(page, "s.tier !== null")
    assert not await page.is_visible("#consent")


async def test_every_kernel_passes_its_self_test(mesh_url: str, open_page: Open) -> None:
    page = await open_page(mesh_url, backend="webgpu")
    status = await until(page, "s.tier !== null")
    assert status["refused"] == []
    assert status["backend"] == "webgpu"
    names = {v["name"] for v in KERNELS["variants"]}
    assert {t["variant"] for t in status["trials"]} <= names
    assert len(status["trials"]) == 3


async def test_uses_the_processor_without_webgpu(mesh_url: str, open_page: Open) -> None:
    page = await open_page(mesh_url, webgpu=False, backend="webgpu")
    status = await until(page, "s.tier !== null")
    assert status["backend"] == "wasm"
    assert any("computes on its processor" in note for note in status["notes"])


@pytest.mark.alone
async def test_stops_within_a_second(mesh_url: str, open_page: Open) -> None:
    page = await open_page(mesh_url, backend="wasm")
    await until(page, "s.tier !== null")
    start = time.monotonic()
    await page.click("#stop")
    status = await until(page, "s.pageState === 'stopped' && !s.started", 2)
    assert time.monotonic() - start < 1.0
    assert status["work"] is None
    assert await page.is_visible("#start")
    await page.click("#start")
    await until(page, "s.tier !== null")


async def test_fits_a_phone(mesh_url: str, launch: Open) -> None:
    page = await (await launch()).new_page(viewport={"width": 320, "height": 640})
    await page.goto(mesh_url)
    wide: Any = await page.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= 320


async def test_two_tabs_are_two_devices(mesh_url: str, open_page: Open, launch: Open) -> None:
    context = await (await launch()).new_context()
    first = await open_page(mesh_url, browser=context, backend="wasm")
    status = await until(first, "s.tier !== null")
    second = await open_page(mesh_url, browser=context, backend="wasm")
    other = await until(second, "s.tier !== null")
    assert status["key"] != other["key"]
    await first.reload()
    again = await until(first, "s.tier !== null")
    assert again["key"] == status["key"]
