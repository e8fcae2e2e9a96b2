"""Fixtures: the built page, a Chromium for each way of having WebGPU, and an open page that is watched for errors.

The page is rebuilt before the first test where npm and its packages are at hand, so that what is tested is what
is written. Set `SHARDY_MESH_URL` to run the page's own tests (test_page.py) against a gateway that is up already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from browser_harness import CHROMIUM, FLAGS, PAGE, ROOT, WEBGPU, Open
from page_gateway import PageGateway


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def built_page() -> Path:
    web = ROOT / "web-worker"
    if shutil.which("npm") and (web / "node_modules").is_dir():
        done = subprocess.run(["npm", "run", "--silent", "build"], cwd=web, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    if not (PAGE / "index.html").exists():
        pytest.skip("the page is not built: npm ci && npm run build in web-worker/")
    return PAGE


@pytest.fixture
async def gateway(built_page: Path) -> AsyncIterator[PageGateway]:
    """A strict gateway that knows the right bytes; whatever broke the protocol fails the test."""
    async with PageGateway() as gateway:
        yield gateway
        assert gateway.violations == []


@pytest.fixture
def mesh_url(request: pytest.FixtureRequest) -> str:
    """A gateway that serves the page: the one named by SHARDY_MESH_URL, else a strict one of our own."""
    given = os.environ.get("SHARDY_MESH_URL")
    return given or request.getfixturevalue("gateway").url


@pytest.fixture
async def launch() -> AsyncIterator[Open]:
    """`await launch(webgpu=…)`: a fresh browser."""
    async_api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (set SHARDY_CHROMIUM)")
    browsers = []
    async with async_api.async_playwright() as playwright:

        async def launch(webgpu: bool = True) -> Any:
            flags = [*FLAGS, WEBGPU] if webgpu else [*FLAGS, "--disable-features=WebGPU"]
            browsers.append(await playwright.chromium.launch(executable_path=CHROMIUM, args=flags))
            return browsers[-1]

        yield launch
        for browser in browsers:
            await browser.close()


@pytest.fixture
async def open_page(launch: Open) -> AsyncIterator[Open]:
    """`await open_page(url, webgpu=…, **query)`: the page, failing the test on a script error or a CSP report."""
    errors: list[str] = []

    async def open_page(url: str, *, webgpu: bool = True, browser: Any = None, **query: Any) -> Any:
        browser = browser or await launch(webgpu)
        page = await browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        await page.goto(f"{url}/?{urlencode({'autostart': 1, **query})}")
        return page

    yield open_page
    unexpected = [e for e in errors if "WebSocket" not in e and "ERR_" not in e]
    assert unexpected == []
