"""The page that checks receipts, as the gateway serves it: what it says of good and bad ones, that nothing leaves the
tab, that it works without a network, and that people can use it. With a mesh:
tests/connected/test_verify_mesh.py."""

from __future__ import annotations

import asyncio
import copy
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from browser_harness import Open
from made_proofs import made_proved
from made_receipts import MESH, made, signed_again

from shardy_gateway.app import make_app
from shardy_gateway.config import GatewaySettings

READY = "() => document.documentElement.dataset.ready === 'yes'"
OTHER = "cd" * 32
Page = Any


@pytest.fixture
async def site(built_page: Path) -> AsyncIterator[str]:
    """A gateway's pages without a mesh behind them: the address, with the server's own headers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        config = uvicorn.Config(make_app(GatewaySettings(static_dir=built_page)), lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[held]))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
        server.should_exit = True
        await serving


@pytest.fixture
async def open_verify(site: str, launch: Open) -> AsyncIterator[Open]:
    """`await open_verify(**context)`: the page, ready. A script error or a report of CSP fails the test."""
    errors: list[str] = []

    async def open_verify(**context: Any) -> Page:
        page = await (await (await launch(False)).new_context(**context)).new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        await page.goto(f"{site}/verify")
        await page.wait_for_function(READY, timeout=60_000)
        return page

    yield open_verify
    assert errors == []


async def give(page: Page, receipt: dict[str, Any] | bytes, title: str) -> str:
    """Choose a receipt and wait for this title; everything that the result says."""
    data = receipt if isinstance(receipt, bytes) else json.dumps(receipt).encode()
    await page.set_input_files("#file", {"name": "r.json", "mimeType": "application/json", "buffer": data})
    await said(page, title)
    return str(await page.inner_text("#result"))


async def said(page: Page, title: str) -> None:
    await page.wait_for_function(
        "(title) => !document.getElementById('verdict').hidden"
        " && document.getElementById('verdict-title').textContent.startsWith(title)",
        arg=title,
        timeout=60_000,
    )


async def set_key(page: Page, text: str) -> None:
    await page.fill("#key", text)
    await page.dispatch_event("#key", "change")


async def compared(page: Page, start: str) -> str:
    await page.wait_for_function(
        "(start) => document.getElementById('compared').textContent.startsWith(start)", arg=start, timeout=60_000
    )
    return str(await page.inner_text("#arrays"))


def saved(folder: Path, **arrays: np.ndarray) -> dict[str, Path]:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return {name: folder / f"{name}.npy" for name in arrays}


async def test_says_who_vouches_and_what_is_wrong(open_verify: Open) -> None:
    page = await open_verify()
    receipt = made().receipt
    whole = await give(page, receipt, "NOT VERIFIED: nobody has vouched")
    assert MESH.key in whole and "6: 6 by quorum" in whole and "12 signed by their workers, 0 not" in whole
    await set_key(page, OTHER)
    await said(page, "NOT VERIFIED")
    assert "none of the mesh's keys that you trust" in await page.inner_text("#problems")
    await set_key(page, MESH.key.upper())
    await said(page, "VERIFIED")
    assert await page.is_visible("#arrays")
    await set_key(page, "no key")
    assert "no key of a mesh" in await page.inner_text("#key-error")
    assert await page.get_attribute("#key", "aria-invalid") == "true" and not await page.is_visible("#arrays")
    await set_key(page, f"{OTHER} {MESH.key}")
    await said(page, "VERIFIED")
    changed = json.dumps(receipt).replace('"seq": 20', '"seq": 21').encode()
    assert "tasks_root" in await give(page, changed, "NOT VERIFIED") and not await page.is_visible("#arrays")
    liar = copy.deepcopy(made().tasks[1])
    liar["statement"]["workers"][0]["sig"] = liar["statement"]["workers"][1]["sig"]
    assert "not over this result" in await give(page, signed_again(liar), "NOT VERIFIED")
    assert "no JSON" in await give(page, b"{", "NOT VERIFIED")
    await page.reload()
    await page.wait_for_function(READY)
    assert await page.input_value("#key") == f"{OTHER} {MESH.key}", "the key is kept"


async def test_shows_that_a_development_key_proves_nothing(open_verify: Open) -> None:
    page = await open_verify()
    await set_key(page, MESH.key)
    text = await give(page, made_proved().receipt, "VERIFIED")
    assert "5 hold, under a DEVELOPMENT key" in text and "anybody can forge" in await page.inner_text(
        "#verdict-warning"
    )
    text = await give(page, made_proved(dev=False).receipt, "VERIFIED")
    assert "5 hold" in text and "DEVELOPMENT" not in text and not await page.is_visible("#verdict-warning")
    proof = copy.deepcopy(made_proved().tasks[0])
    tile = proof["statement"]["proof"]["proofs"][0]
    tile["proof"] = tile["proof"][:-1] + ("0" if tile["proof"][-1] != "0" else "1")
    assert "does not hold" in await give(page, signed_again(proof), "NOT VERIFIED")


async def test_compares_arrays(open_verify: Open, tmp_path: Path) -> None:
    page = await open_verify()
    job = made_proved()
    await set_key(page, MESH.key)
    await give(page, job.receipt, "VERIFIED")
    files = saved(tmp_path, a=job.arrays["a"], b=job.arrays["b"].T, c=job.arrays["c"], wrong=job.arrays["c"] + 1)
    for name in "abc":
        await page.set_input_files(f"#array-{name}", files[name])
    text = await compared(page, "The same: A and B as in the receipt, 2 tiles of the result equal, 5 proofs are about")
    await page.set_input_files("#array-c", files["wrong"])
    text = await compared(page, "These are not the arrays")
    assert "2 of 2 tiles differ from what was verified, the first at rows 0 to 11" in text
    np.save(tmp_path / "c.npy", job.arrays["c"].astype(np.int64))
    await page.set_input_files("#array-c", tmp_path / "c.npy")
    await compared(page, "c: its numbers are '<i8'")
    await page.set_input_files("#array-c", files["a"])
    assert "c is int8 of 20×7" in await compared(page, "These are not the arrays")


async def test_nothing_leaves_the_tab_and_no_network_is_needed(
    site: str, open_verify: Open, launch: Open, tmp_path: Path
) -> None:
    page = await open_verify()
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url))
    await page.context.set_offline(True)
    await set_key(page, MESH.key)
    await give(page, made_proved().receipt, "VERIFIED")
    job = made()
    await give(page, job.receipt, "VERIFIED")
    await page.set_input_files("#array-c", saved(tmp_path, c=job.arrays["c"])["c"])
    await compared(page, "The same: 6 tiles")
    assert asked == []
    # Not only does it send nothing: it could not.
    await page.context.set_offline(False)
    tried = """async () => Promise.all([
      fetch('/healthz').then(() => 'sent', (error) => error.name),
      new Promise((done) => { const s = new WebSocket('ws://' + location.host); s.onerror = () => done('refused'); }),
      navigator.sendBeacon('/healthz', 'x') ? 'sent or refused' : 'refused',
    ])"""
    bare = await (await (await launch(False)).new_context()).new_page()  # its reports of CSP are what is wanted
    blocked: list[str] = []
    bare.on("console", lambda said: blocked.append(said.text) if "Content Security Policy" in said.text else None)
    await bare.goto(f"{site}/verify/")
    await bare.wait_for_function(READY)
    sent: list[str] = []
    bare.context.on("requestfinished", lambda request: sent.append(request.url))
    first, second, _ = await bare.evaluate(tried)
    worker = await bare.workers[0].evaluate("() => fetch('/healthz').then(() => 'sent', (error) => error.name)")
    assert (first, second, worker) == ("TypeError", "refused", "TypeError") and sent == [] and len(blocked) >= 3


async def test_can_be_used_with_the_keyboard(open_verify: Open) -> None:
    page = await open_verify()
    focused = "() => document.activeElement.id || document.activeElement.tagName"
    order = []
    for _ in range(4):
        await page.keyboard.press("Tab")
        order.append(await page.evaluate(focused))
    assert order == ["file", "SUMMARY", "key", "A"]
    await page.focus("summary")
    await page.keyboard.press("Enter")
    await page.fill("#pasted", json.dumps(made().receipt))
    await page.focus("#paste")
    await page.keyboard.press("Enter")
    await said(page, "NOT VERIFIED: nobody")
    live = "() => document.getElementById('verdict').closest('[aria-live]').getAttribute('aria-live')"
    assert await page.evaluate(live) == "polite"
    assert await page.evaluate("() => [...document.querySelectorAll('input')].every((i) => i.labels.length > 0)")


# Contrast of what is written, with the colour behind it, after WCAG 2; and what stands too far to the right.
CONTRAST = """() => {
  const light = (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const parts = (text) => text.match(/[0-9.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * light(r / 255) + 0.7152 * light(g / 255) + 0.0722 * light(b / 255);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const found = parts(getComputedStyle(node).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const node of document.querySelectorAll('main *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim() !== '');
    if (!own || !node.checkVisibility()) continue;
    const [one, two] = [parts(getComputedStyle(node).color), behind(node)].map(luminance);
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < 4.5) bad.push([node.textContent.slice(0, 40), ratio]);
  }
  return { bad, wide: document.documentElement.scrollWidth };
}"""
LOOKS: list[tuple[str, Callable[[], dict[str, Any]], str, str]] = [
    ("verified", lambda: made_proved().receipt, MESH.key, "VERIFIED"),
    ("refused", lambda: signed_again(refusable()), MESH.key, "NOT VERIFIED"),
    ("unvouched", lambda: made().receipt, "", "NOT VERIFIED: nobody"),
]


def refusable() -> dict[str, Any]:
    receipt = copy.deepcopy(made(floats=True).receipt)
    for task in receipt["tasks"]:
        task["workers"][0]["sig"] = task["workers"][1]["sig"]
    return receipt


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1100])
async def test_can_be_read_on_phones_and_in_the_dark(
    open_verify: Open, scheme: str, width: int, tmp_path: Path
) -> None:
    page = await open_verify(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for name, receipt, key, title in LOOKS:
        await set_key(page, key)
        await give(page, receipt(), title)
        await page.evaluate("() => document.querySelectorAll('details').forEach((d) => (d.open = true))")
        found = await page.evaluate(CONTRAST)
        assert found["bad"] == [] and found["wide"] <= width, (name, found)
        await page.screenshot(path=tmp_path / f"verify-{name}-{width}-{scheme}.png", full_page=True)
