"""The worker in Node and Bun against docs/protocol.md: a strict gateway checks every frame, NumPy every byte."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from node_harness import Process, Start

import oracle  # isort: skip  # these lie in the native worker's tests, which the harness has put on the path
from fake_gateway import ScriptGateway, Session, lease, operand  # isort: skip

RNG = np.random.default_rng(23)


def int8(rows: int, cols: int) -> np.ndarray:
    return RNG.integers(-128, 128, (rows, cols), dtype=np.int8)


def whole(gateway: ScriptGateway, x: np.ndarray) -> dict[str, Any]:
    return operand(gateway.put(x), 0, x.nbytes, *x.shape)


def product(gateway: ScriptGateway, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    return {"dtype": "int8", "k": a.shape[1], "a": whole(gateway, a), "b": whole(gateway, b)}


async def joined(gateway: ScriptGateway, n: int = 1) -> Session:
    await gateway.until(lambda: len([s for s in gateway.sessions if s.probed]) >= n, 60)
    await asyncio.sleep(0.05)
    return gateway.sessions[-1]


async def test_products_are_exact_carried_fetched_and_uploaded(gateway: ScriptGateway, start: Start) -> None:
    worker = await start(gateway.url, "--ephemeral", "--json", "--name", "rack 7")
    session = await joined(gateway)
    runtime, _, name = session.hello["agent"].partition("/0.1 ")
    assert runtime in ("node", "bun") and name == "rack 7"
    assert session.probed["backend"] == "wasm" and session.probed["memory_mib"] == 64
    shapes = [(1, 1, 1), (3, 5, 7), (33, 31, 100), (130, 67, 384), (700, 900, 36), (5, 9, 65_535)]
    want, leases, carried = {}, [], []
    for i, (m, n, k) in enumerate(shapes):
        a, b = int8(m, k), int8(n, k)
        want[f"l{i}"] = oracle.matmul(a, b).tobytes()
        leases.append(lease(f"l{i}", product(gateway, a, b)))
        if i < 3:
            carried += [(blake3(x.tobytes()).hexdigest(), 0, x.tobytes()) for x in (a, b)]
    await session.lease(leases, carried)
    await gateway.until(lambda: len(gateway.results) == len(shapes), 60)
    assert gateway.results == want and gateway.failed == {}
    assert set(gateway.uploads) == {"l4"} and len(gateway.fetches) == 6
    status = await worker.status(lambda s: s["tasks_done"] == len(shapes))
    assert status["tasks_failed"] == 0 and status["backend"] == "wasm" and status["key"] == session.key.hex()


async def test_float32_kinds_to_the_byte(gateway: ScriptGateway, start: Start) -> None:
    await start(gateway.url, "--ephemeral")
    session = await joined(gateway)
    x, y = RNG.normal(0, 2, (40, 12)).astype(np.float32), RNG.normal(0, 2, (10, 12)).astype(np.float32)
    x[3, 4], x[17, 0], x[20, 2] = np.nan, np.inf, -np.inf
    row0, rows, want, leases = 32, 8, {}, []
    for axis in (-1, 0, 1):
        pre = {"lo": -3.0, "hi": 2.5, "ema_axis": axis, "alpha": 0.5, "segment_rows": 16, "scale": "row"}
        pre["warm_rows"] = oracle.warm_rows(axis, 0.5)
        first = row0 - (min(pre["warm_rows"], row0) if axis == 0 else 0)
        part = operand(gateway.put(x), first * 48, (row0 + rows - first) * 48, rows, 12)
        p = {"dtype": "float32", "x": part, "rows": rows, "cols": 12, "pre": {**pre, "row0": row0}}
        leases.append(lease(f"s{axis}", p, "stream"))
        q, sx = oracle.preexec(x, pre, row0, rows)
        want[f"s{axis}"] = sx.tobytes() + q.tobytes()
        full = {**pre, "row0_a": row0, "row0_b": 0}
        leases.append(lease(f"m{axis}", {"dtype": "float32", "k": 12, "a": part, "b": whole(gateway, y), "pre": full}))
        qy, sy = oracle.preexec(y, pre, 0, 10)
        want[f"m{axis}"] = sx.tobytes() + sy.tobytes() + oracle.matmul(q, qy).tobytes()
    await session.lease(leases)
    await gateway.until(lambda: len(gateway.results) == len(want), 30)
    assert gateway.results == want


async def test_unacknowledged_results_come_again(gateway: ScriptGateway, start: Start) -> None:
    gateway.ack = False
    worker = await start(gateway.url, "--ephemeral", "--json")
    session = await joined(gateway)
    p = product(gateway, int8(8, 8), int8(8, 8))
    await session.lease([lease(f"u{i}", p) for i in range(20)])
    await gateway.until(lambda: len(gateway.results) == 20)
    gateway.ack = True
    await session.close(1012, "restart")
    again = await joined(gateway, 2)
    assert again.key == session.key
    assert sorted(again.hello["held"]) == sorted(f"u{i}" for i in range(20))
    await gateway.until(lambda: all(gateway.times_seen[f"u{i}"] == 2 for i in range(20)))
    assert any("restart" in line for line in worker.lines)


async def test_gives_back_what_it_can_not_do(gateway: ScriptGateway, start: Start) -> None:
    worker = await start(gateway.url, "--ephemeral", "--json")
    session = await joined(gateway)
    good = product(gateway, int8(4, 4), int8(4, 4))
    await session.lease(
        [
            lease("kind", good, "divination"),
            lease("k", {**good, "k": 65_536}),
            lease("blob", {**good, "a": operand("ab" * 32, 0, 16, 4, 4)}),
            lease("good", good),
        ]
    )
    await gateway.until(lambda: "good" in gateway.results and len(gateway.failed) == 3)
    codes = {name: header["code"] for name, header in gateway.failed.items()}
    assert codes == {"kind": "unsupported", "k": "unsupported", "blob": "fetch"}
    status = await worker.status(lambda s: s["tasks_done"] == 1)
    assert status["tasks_failed"] == 3
    assert len([line for line in worker.lines if "given back" in line]) == 3


async def test_thousands_of_small_tasks_share_frames(gateway: ScriptGateway, start: Start) -> None:
    await start(gateway.url, "--ephemeral", "--quiet")
    session = await joined(gateway)
    a, b = int8(16, 16), int8(16, 16)
    p = product(gateway, a, b)
    carried = [(p[name]["d"], 0, x.tobytes()) for name, x in (("a", a), ("b", b))]
    begun = time.monotonic()
    for batch in range(8):
        await session.lease([lease(f"{batch}-{i}", p) for i in range(500)], [] if batch else carried)
    await gateway.until(lambda: len(gateway.results) == 4000, 30)
    print(f"4,000 tasks of 16×16×16 in {time.monotonic() - begun:.2f} s, {session.result_frames} result frames")
    assert set(gateway.results.values()) == {oracle.matmul(a, b).tobytes()}
    assert session.result_frames < 800 and gateway.fetches == []


async def test_the_mesh_says_what_it_verified(gateway: ScriptGateway, start: Start) -> None:
    gateway.credit = {"tasks": 7, "ops": 2**60}
    worker = await start(gateway.url, "--ephemeral", "--json")
    status = await worker.status(lambda s: s["verified"] is not None)
    # The language's numbers lose the last digits past 2⁵³.
    assert status["verified"]["tasks"] == 7 and float(status["verified"]["ops"]) == 2.0**60
    assert status["credit"] == pytest.approx(2**60 / 1e9)
    worker.signal()
    assert await worker.ended() == 0
    assert worker.lines[-1] == "left the mesh; 0 tasks done, 7 verified ever (credit 1,153 million)"


async def leaves_within_a_second(gateway: ScriptGateway, worker: Process, session: Session) -> float:
    begun = time.monotonic()
    worker.signal()
    await gateway.until(lambda: session.left, 5)
    assert await worker.ended() == 0
    return time.monotonic() - begun


@pytest.mark.alone
async def test_leaves_within_a_second_while_it_computes(gateway: ScriptGateway, start: Start) -> None:
    worker = await start(gateway.url, "--ephemeral", "--json")
    session = await joined(gateway)
    p = product(gateway, int8(2048, 4096), int8(4096, 4096))
    await session.lease([lease(f"s{i}", p) for i in range(4)])
    await worker.status(lambda s: s["state"] == "computing")
    await asyncio.sleep(0.3)
    took = await leaves_within_a_second(gateway, worker, session)
    assert took < 1.5, f"{took:.2f} s"
    assert gateway.results == {} and worker.statuses[-1]["state"] == "stopped"


async def test_cancelled_leases_are_not_worked(gateway: ScriptGateway, start: Start) -> None:
    await start(gateway.url, "--ephemeral")
    session = await joined(gateway)
    p = product(gateway, int8(512, 4096), int8(1024, 4096))
    await session.lease([lease("long", p), lease("unwanted", p), lease("last", p)])
    await session.send({"t": "cancel", "leases": ["unwanted", "never heard of"]})
    await gateway.until(lambda: "last" in gateway.results, 60)
    assert set(gateway.results) == {"long", "last"}
