"""The page's worker against docs/protocol.md: a strict gateway checks every frame, NumPy every byte."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import oracle
import pytest
from blake3 import blake3
from browser_harness import Open, until
from fake_gateway import lease, operand
from page_gateway import PageGateway

RNG = np.random.default_rng(12)
# Ranking all kernels takes a software adapter seconds; test_page.py does it once.
FORCED: dict[str, dict[str, str]] = {
    "wasm": {"backend": "wasm"},
    "webgpu": {"backend": "webgpu", "kernel": "matmul_i8_small_dp4a"},
}
BACKENDS = list(FORCED)


def int8(rows: int, cols: int) -> np.ndarray:
    return RNG.integers(-128, 128, (rows, cols), dtype=np.int8)


def whole(gateway: PageGateway, x: np.ndarray) -> dict[str, Any]:
    return operand(gateway.put(x), 0, x.nbytes, *x.shape)


async def joined(gateway: PageGateway, n: int = 1) -> Any:
    await gateway.until(lambda: len([s for s in gateway.sessions if s.probed]) >= n, 60)
    await asyncio.sleep(0.05)
    return gateway.sessions[-1]


@pytest.mark.parametrize("backend", BACKENDS)
async def test_int8_products_are_exact(gateway: PageGateway, open_page: Open, backend: str) -> None:
    page = await open_page(gateway.url, **FORCED[backend], name="lab 7")
    session = await joined(gateway)
    assert session.hello["agent"] == "browser-tab/0.1 lab 7"
    assert session.probed["backend"] == backend
    assert len(session.probed["kernels"]) == (64 if backend == "webgpu" else 0)
    shapes = [(1, 1, 1), (3, 5, 7), (33, 31, 100), (64, 64, 64), (130, 67, 384), (200, 400, 36)]
    want = {}
    leases, carried = [], []
    for i, (m, n, k) in enumerate(shapes):
        a, b = int8(m, k), int8(n, k)
        want[f"l{i}"] = oracle.matmul(a, b)
        ops = [operand(blake3(x.tobytes()).hexdigest(), 0, x.nbytes, len(x), k) for x in (a, b)]
        if i % 2:
            gateway.put(a), gateway.put(b)
        else:
            carried += [(op["d"], 0, x.tobytes()) for op, x in zip(ops, (a, b), strict=True)]
        leases.append(lease(f"l{i}", {"dtype": "int8", "k": k, "a": ops[0], "b": ops[1]}))
    await session.lease(leases, carried)
    await gateway.until(lambda: len(gateway.results) == len(shapes), 60)
    for name, c in want.items():
        assert gateway.results[name] == c.tobytes(), name
        assert gateway.headers[name]["backend"] == backend
    assert gateway.failed == {}
    status = await until(page, f"s.tasksDone === {len(shapes)} && s.state === 'waiting'")
    assert status["doneBy"] == {backend: len(shapes)}


@pytest.mark.parametrize("backend", BACKENDS)
async def test_extremes_and_long_k(gateway: PageGateway, open_page: Open, backend: str) -> None:
    await open_page(gateway.url, **FORCED[backend])
    session = await joined(gateway)
    a, b = np.full((5, 65_535), -128, np.int8), np.full((9, 65_535), -128, np.int8)
    p = {"dtype": "int8", "k": 65_535, "a": whole(gateway, a), "b": whole(gateway, b)}
    await session.lease([lease("x", p)])
    await gateway.until(lambda: "x" in gateway.results, 60)
    assert gateway.results["x"] == oracle.matmul(a, b).tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
async def test_large_results_are_uploaded(gateway: PageGateway, open_page: Open, backend: str) -> None:
    await open_page(gateway.url, **FORCED[backend])
    session = await joined(gateway)
    a, b = int8(700, 128), int8(900, 128)
    p = {"dtype": "int8", "k": 128, "a": whole(gateway, a), "b": whole(gateway, b)}
    part = {**p, "a": {**p["a"], "o": 128 * 600, "l": 128 * 100, "r": 100}}
    await session.lease([lease("big", p), lease("slice", part)])
    await gateway.until(lambda: len(gateway.results) == 2, 60)
    c = oracle.matmul(a, b)
    assert gateway.results["big"] == c.tobytes()
    assert gateway.results["slice"] == c[600:].tobytes()
    assert set(gateway.uploads) == {"big", "slice"}


PRES = [
    {"lo": -1.0, "hi": 1.0, "ema_axis": -1, "alpha": 1.0, "segment_rows": 64, "scale": "row"},
    {"lo": -2.5, "hi": 2.0, "ema_axis": 1, "alpha": 0.3, "segment_rows": 64, "scale": "tensor"},
    {"lo": -3.0, "hi": 3.0, "ema_axis": 0, "alpha": 0.6, "segment_rows": 32, "scale": "row"},
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pre", PRES, ids=["no EMA", "along rows", "down rows"])
async def test_float32_products(gateway: PageGateway, open_page: Open, pre: dict[str, Any], backend: str) -> None:
    await open_page(gateway.url, **FORCED[backend])
    session = await joined(gateway)
    k, warm = 48, oracle.warm_rows(pre["ema_axis"], pre["alpha"])
    a, b = (RNG.normal(size=(rows, k)).astype(np.float32) for rows in (128, 96))
    a[3, 4], a[70, 0], b[5, 5] = np.nan, np.inf, -np.inf
    digest_a, op_b = gateway.put(a), whole(gateway, b)
    qb, sb = oracle.preexec(b, {**pre, "warm_rows": warm}, 0, 96)
    want, leases = {}, []
    for row0, rows in ((0, 64), (64, 64)):
        before = min(warm, row0)
        op_a = operand(digest_a, (row0 - before) * k * 4, (rows + before) * k * 4, rows, k)
        full = {**pre, "warm_rows": warm, "row0_a": row0, "row0_b": 0}
        leases.append(lease(f"r{row0}", {"dtype": "float32", "k": k, "a": op_a, "b": op_b, "pre": full}))
        qa, sa = oracle.preexec(a, full, row0, rows)
        want[f"r{row0}"] = sa.tobytes() + sb.tobytes() + oracle.matmul(qa, qb).tobytes()
    await session.lease(leases)
    await gateway.until(lambda: len(gateway.results) == 2, 60)
    assert gateway.results == want


async def test_streams(gateway: PageGateway, open_page: Open) -> None:
    await open_page(gateway.url, backend="wasm")
    session = await joined(gateway)
    x = (RNG.normal(size=(256, 31)) * 2).astype(np.float32)
    digest = gateway.put(x)
    want, leases = {}, []
    for i, pre in enumerate(PRES):
        warm = oracle.warm_rows(pre["ema_axis"], pre["alpha"])
        for row0, rows in ((0, 128), (128, 128)):
            before = min(warm, row0)
            full = {**pre, "warm_rows": warm, "row0": row0}
            op = operand(digest, (row0 - before) * 31 * 4, (rows + before) * 31 * 4, rows, 31)
            p = {"dtype": "float32", "x": op, "rows": rows, "cols": 31, "pre": full}
            leases.append(lease(f"{i}-{row0}", p, "stream"))
            q, scale = oracle.preexec(x, full, row0, rows)
            want[f"{i}-{row0}"] = scale.tobytes() + q.tobytes()
    await session.lease(leases)
    await gateway.until(lambda: len(gateway.results) == len(want), 60)
    assert gateway.results == want


async def test_unacknowledged_results_come_again(gateway: PageGateway, open_page: Open) -> None:
    gateway.ack = False
    await open_page(gateway.url, backend="wasm")
    session = await joined(gateway)
    a, b = int8(8, 8), int8(8, 8)
    p = {"dtype": "int8", "k": 8, "a": whole(gateway, a), "b": whole(gateway, b)}
    await session.lease([lease(f"u{i}", p) for i in range(20)])
    await gateway.until(lambda: len(gateway.results) == 20)
    gateway.ack = True
    await session.close(1012, "restart")
    again = await joined(gateway, 2)
    assert again.key == session.key
    assert sorted(again.hello["held"]) == sorted(f"u{i}" for i in range(20))
    await gateway.until(lambda: all(gateway.times_seen[f"u{i}"] == 2 for i in range(20)))


async def test_gives_back_what_it_can_not_do(gateway: PageGateway, open_page: Open) -> None:
    page = await open_page(gateway.url, backend="wasm")
    session = await joined(gateway)
    a = int8(4, 4)
    good = {"dtype": "int8", "k": 4, "a": whole(gateway, a), "b": whole(gateway, a)}
    lost = operand("ab" * 32, 0, 16, 4, 4)
    await session.lease(
        [
            lease("kind", good, "divination"),
            lease("dtype", {**good, "dtype": "int4"}),
            lease("length", {**good, "k": 5}),
            lease("k", {**good, "k": 65_536}),
            lease("blob", {**good, "a": lost}),
            lease("good", good),
        ]
    )
    await gateway.until(lambda: "good" in gateway.results and len(gateway.failed) == 5)
    codes = {name: header["code"] for name, header in gateway.failed.items()}
    assert codes == {
        "kind": "unsupported",
        "dtype": "unsupported",
        "length": "unsupported",
        "k": "unsupported",
        "blob": "fetch",
    }
    await until(page, "s.tasksFailed === 5 && s.tasksDone === 1")


@pytest.mark.alone
async def test_stop_leaves_while_computing(gateway: PageGateway, open_page: Open) -> None:
    page = await open_page(gateway.url, backend="wasm")
    session = await joined(gateway)
    a, b = int8(2048, 4096), int8(4096, 4096)
    p = {"dtype": "int8", "k": 4096, "a": whole(gateway, a), "b": whole(gateway, b)}
    await session.lease([lease(f"s{i}", p) for i in range(4)])
    await until(page, "s.state === 'computing'")
    await asyncio.sleep(0.5)
    start = time.monotonic()
    await page.click("#stop")
    await gateway.until(lambda: session.left, 2)
    assert time.monotonic() - start < 1.0
    await asyncio.wait_for(session.closed.wait(), 2)


async def test_what_the_mesh_verified_is_shown_without_moving_anything(gateway: PageGateway, open_page: Open) -> None:
    gateway.heartbeat_s = 0.05
    page = await open_page(gateway.url, backend="wasm")
    await joined(gateway)
    await until(page, "s.tier !== null")
    assert await page.inner_text("#verified") == "–" and await page.inner_text("#credit") == "–"
    places = "() => [...document.querySelectorAll('main *')].map((e) => [e.id, e.offsetTop, e.offsetLeft])"
    before = await page.evaluate(places)
    gateway.credit = {"tasks": 1200, "ops": 3_500_000_000}
    await until(page, "s.credit !== null")
    await page.wait_for_function("() => document.getElementById('credit').textContent === '3.5'", timeout=5000)
    assert await page.inner_text("#verified") == "1,200"
    assert await page.inner_text("#done") == "0", "what is done here is counted here"
    assert await page.evaluate(places) == before
    gateway.credit = {"tasks": 123_456_789_012, "ops": 2**62}
    await until(page, "s.credit.tasks > 2000")
    await page.wait_for_function("() => document.getElementById('credit').textContent.includes('million')")
    assert await page.evaluate(places) == before


async def test_cancelled_leases_are_not_worked(gateway: PageGateway, open_page: Open) -> None:
    await open_page(gateway.url, backend="wasm")
    session = await joined(gateway)
    a, b = int8(512, 4096), int8(1024, 4096)
    p = {"dtype": "int8", "k": 4096, "a": whole(gateway, a), "b": whole(gateway, b)}
    await session.lease([lease("long", p), lease("unwanted", p), lease("last", p)])
    await session.send({"t": "cancel", "leases": ["unwanted", "never heard of"]})
    await gateway.until(lambda: "last" in gateway.results, 30)
    assert set(gateway.results) == {"long", "last"}


async def test_a_thousand_small_tasks_share_frames(gateway: PageGateway, open_page: Open) -> None:
    await open_page(gateway.url, backend="wasm")
    session = await joined(gateway)
    a, b = int8(16, 16), int8(16, 16)
    ops = [operand(blake3(x.tobytes()).hexdigest(), 0, 256, 16, 16) for x in (a, b)]
    p = {"dtype": "int8", "k": 16, "a": ops[0], "b": ops[1]}
    start = time.monotonic()
    for batch in range(4):
        carried = [(op["d"], 0, x.tobytes()) for op, x in zip(ops, (a, b), strict=True)] if batch == 0 else []
        await session.lease([lease(f"{batch}-{i}", p) for i in range(500)], carried)
    await gateway.until(lambda: len(gateway.results) == 2000, 30)
    print(f"2,000 tasks of 16×16×16 in {time.monotonic() - start:.2f} s, {session.result_frames} result frames")
    assert set(gateway.results.values()) == {oracle.matmul(a, b).tobytes()}
    assert session.result_frames < 400
    assert gateway.fetches == []
