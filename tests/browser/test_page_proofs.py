"""The page proves what a strict gateway asks for, shows it, and stops at once."""

from __future__ import annotations

import asyncio
import time

import pytest
from browser_harness import Open, until
from page_gateway import PageGateway
from proofkit import Files, circuit_files

from asked_proofs import CIRCUIT, Product  # isort: skip  # on the path since the harness was imported


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return circuit_files(CIRCUIT.m, CIRCUIT.k, CIRCUIT.n, tmp_path_factory.mktemp("keys") / "v1")


async def test_proves_and_shows_it(gateway: PageGateway, open_page: Open, files: Files) -> None:
    page = await open_page(gateway.url, backend="wasm")
    await until(page, "s.tier !== null")
    session = gateway.sessions[-1]
    product = Product(gateway, files, "p1", 20, 12, 0, 3, 5)
    await session.prove(product.frame)
    await page.get_by_role("progressbar", name="Proving tile 1 of 3").wait_for()
    assert await page.inner_text("#state") == "Proving results"
    await gateway.until(lambda: "p1" in gateway.proofs, 60)
    assert all(product.holds(at, gateway.proofs["p1"][0][256 * at : 256 * at + 256], session.key) for at in range(3))
    await until(page, "s.proof === null && s.proofsMade === 3")
    assert not await page.is_visible("#proof")


@pytest.mark.alone
async def test_stops_within_a_second_while_it_proves(gateway: PageGateway, open_page: Open, files: Files) -> None:
    page = await open_page(gateway.url, backend="wasm")
    await until(page, "s.tier !== null")
    await gateway.sessions[-1].prove(Product(gateway, files, "p1", 64, 64, *range(64)).frame)
    await until(page, "s.proof?.text.startsWith('proving tile 2 of 64')")
    gone = [asyncio.Event() for _ in page.workers]
    for worker, event in zip(page.workers, gone, strict=True):
        worker.on("close", lambda _, event=event: event.set())
    start = time.monotonic()
    await page.click("#stop")
    await until(page, "s.pageState === 'stopped' && !s.started && s.proof === null", 2)
    assert time.monotonic() - start < 1.0
    assert not await page.is_visible("#proof")
    await gateway.until(lambda: gateway.sessions[-1].left)
    assert gone, "nothing proved"
    await asyncio.wait_for(asyncio.gather(*(event.wait() for event in gone)), 2)
    assert gateway.proofs == {}
