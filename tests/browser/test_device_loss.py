"""The graphics process dies under the page: the running lease is given back and work goes on exactly.

One kill only: after a second one Chromium offers no adapter for minutes.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import numpy as np
import oracle
from browser_harness import Open, until
from fake_gateway import lease
from page_gateway import PageGateway
from test_worker_protocol import FORCED, int8, joined, whole


async def kill_graphics(browser: Any) -> None:
    """Ends the graphics process of this browser, by the id that the browser itself names."""
    devtools = await browser.new_browser_cdp_session()
    processes = (await devtools.send("SystemInfo.getProcessInfo"))["processInfo"]
    for process in processes:
        if process["type"] == "GPU":
            os.kill(process["id"], signal.SIGKILL)


async def test_lost_device_gives_the_lease_back(gateway: PageGateway, launch: Open, open_page: Open) -> None:
    browser = await launch()
    page = await open_page(gateway.url, browser=browser, **FORCED["webgpu"])
    session = await joined(gateway)
    big = np.full((2048, 2048), -128, np.int8)
    op = whole(gateway, big)
    await session.lease([lease("running", {"dtype": "int8", "k": 2048, "a": op, "b": op})])
    await until(page, "s.state === 'computing'")
    await asyncio.sleep(0.5)
    await kill_graphics(browser)
    await gateway.until(lambda: "running" in gateway.failed, 30)
    assert gateway.failed["running"]["code"] == "device-lost"
    a, b = int8(40, 50), int8(30, 50)
    p = {"dtype": "int8", "k": 50, "a": whole(gateway, a), "b": whole(gateway, b)}
    await session.lease([lease("next", p)])
    await gateway.until(lambda: "next" in gateway.results, 30)
    assert gateway.results["next"] == oracle.matmul(a, b).tobytes()
    status = await until(page, "s.notes.some((n) => n.includes('was lost'))")
    assert status["tasksDone"] == 1
    await until(page, "s.notes.some((n) => n.includes('is back'))", 60)
    await session.lease([lease("after", p)])
    await gateway.until(lambda: "after" in gateway.results, 30)
    assert gateway.results["after"] == oracle.matmul(a, b).tobytes()
    assert gateway.headers["after"]["backend"] == "webgpu"
