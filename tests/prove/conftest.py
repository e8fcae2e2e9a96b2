"""Fixtures: a keyed circuit, the driver built for threads and for a page, and `follow` in each runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.tab_prover import CHROMIUM, FLAGS, SMALLEST, Follow, Missing, Site, build_driver, keyed, run_threads


@pytest.fixture(scope="session")
def circuit() -> Path:
    """The smallest circuit's folder, with a development key."""
    try:
        return keyed(SMALLEST)
    except Missing as problem:
        pytest.skip(str(problem))


def built(mode: str, factory: pytest.TempPathFactory) -> Path:
    try:
        return build_driver(mode, factory.mktemp(mode))
    except Missing as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="session")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("threads", tmp_path_factory)


@pytest.fixture(scope="session")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("page", tmp_path_factory)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the site serves below /files, for tests to put things into."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="session")
def site(circuit: Path, page_folder: Path, files: Path) -> Iterator[Site]:
    """The driver's page with the headers of a gateway."""
    from shardy_gateway.app import PAGE_HEADERS

    with Site({"": page_folder, circuit.name: circuit, "files": files}, PAGE_HEADERS) as site:
        yield site


@pytest.fixture
async def page(site: Site) -> AsyncIterator[Any]:
    """The driver's page in a Chromium of its own; a script error or a report of CSP fails the test."""
    async_api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (set SHARDY_CHROMIUM)")
    errors: list[str] = []
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        await page.goto(f"{site.url}/page.html")
        await page.wait_for_function("() => window.prover !== undefined")
        yield page
        await browser.close()
    assert errors == []


async def all_ended(page: Any) -> None:
    """Wait until no worker of the page is left: a prover that is closed, or was never opened, leaves none behind."""
    ends = []
    for worker in page.workers:
        end = asyncio.get_running_loop().create_future()
        worker.on("close", lambda _, end=end: end.set_result(None))
        ends.append(end)
    await asyncio.wait_for(asyncio.gather(*ends), 10)


@pytest.fixture(params=["node", "bun", pytest.param("chromium", marks=pytest.mark.browser)])
def follow(request: pytest.FixtureRequest, circuit: Path, tmp_path: Path) -> Follow:
    """`await follow(order)`: its outcome in this runtime."""
    runtime: str = request.param
    if runtime == "chromium":
        page = request.getfixturevalue("page")
        paths = [f"/{circuit.name}/{circuit.name}.{ending}" for ending in ("zkey", "r1cs")]

        async def in_page(order: dict[str, Any]) -> Any:
            outcome = await page.evaluate("(given) => window.prover.follow(...given)", [*paths, order])
            await all_ended(page)
            return outcome

        return in_page
    driver = request.getfixturevalue("threads")

    async def in_threads(order: dict[str, Any]) -> Any:
        try:
            return run_threads(runtime, driver, circuit, order, tmp_path)["outcome"]
        except Missing as problem:
            pytest.skip(str(problem))

    return in_threads
