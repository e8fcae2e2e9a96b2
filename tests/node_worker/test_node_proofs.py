"""Proofs that a strict gateway asks of the worker in Node and Bun (docs/protocol.md §8): made, sent again, refused."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from node_harness import Process, Start
from proofkit import Files, circuit_files

from asked_proofs import CIRCUIT, Product, put  # isort: skip  # on the path since the harness was imported
from fake_gateway import ScriptGateway, Session  # isort: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return circuit_files(CIRCUIT.m, CIRCUIT.k, CIRCUIT.n, tmp_path_factory.mktemp("keys") / "v1")


async def joined(gateway: ScriptGateway, n: int = 1) -> Session:
    await gateway.until(lambda: len([s for s in gateway.sessions if s.probed]) >= n, 60)
    return gateway.sessions[-1]


async def in_session(gateway: ScriptGateway, n: int = 1) -> Session:
    """Heard from after the handshake."""
    session = await joined(gateway, n)
    await gateway.until(lambda: session.heartbeats > 0, 60)
    return session


async def test_proofs_hold_and_come_again_until_they_are_acknowledged(
    gateway: ScriptGateway, start: Start, files: Files
) -> None:
    worker = await start(gateway.url, "--ephemeral", "--json")
    session = await in_session(gateway)
    assert session.probed["proves_mib"] == session.probed["memory_mib"] // 2 == 32
    gateway.ack = False
    several, single = Product(gateway, files, "p1", 20, 12, 0, 3, 5), Product(gateway, files, "p2", 5, 8, 0)
    for product in (several, single, several):
        await session.prove(product.frame)
    await gateway.until(lambda: set(gateway.proofs) == {"p1", "p2"}, 60)
    first = {name: list(times) for name, times in gateway.proofs.items()}
    assert [len(times) for times in first.values()] == [1, 1], "asked twice, it is made once"
    for at in range(3):
        assert several.holds(at, first["p1"][0][256 * at : 256 * at + 256], session.key)
    assert single.holds(0, first["p2"][0], session.key)
    assert not single.holds(0, first["p2"][0], bytes(31) + b"\x01")
    whole = [digest for digest, wanted in gateway.fetches if wanted == "whole"]
    assert sorted(whole) == sorted([several.frame["zkey"]["d"], several.frame["r1cs"]["d"]])
    assert (await worker.status(lambda s: s["proofs_made"] == 4))["proof"] is None

    await session.prove(several.frame)
    await gateway.until(lambda: len(gateway.proofs["p1"]) == 2)
    await session.close(1012, "restart")
    session = await in_session(gateway, 2)
    gateway.ack = True
    await session.prove(several.frame)
    await gateway.until(lambda: len(gateway.proofs["p1"]) == 3)
    assert gateway.proofs["p1"] == [first["p1"][0]] * 3, "what was made is sent again"

    # Acknowledged, it is forgotten: asked again, it is made again, and no two proofs are the same.
    heard = session.heartbeats
    await gateway.until(lambda: session.heartbeats > heard)
    await session.prove(several.frame)
    await gateway.until(lambda: len(gateway.proofs["p1"]) == 4)
    assert gateway.proofs["p1"][3] != first["p1"][0] and several.holds(1, gateway.proofs["p1"][3][256:512], session.key)


async def test_what_can_not_be_proved_is_given_back(gateway: ScriptGateway, start: Start, files: Files) -> None:
    worker = await start(gateway.url, "--ephemeral", "--json")
    session = await in_session(gateway)
    products = {n: Product(gateway, files, n, 8, 8, 0) for n in ("gone", "size", "damaged", "blob", "late", "good")}
    products["gone"].frame["zkey"] = {"d": "ab" * 32, "l": 9, "u": 9}
    products["size"].frame["zkey"]["u"] += 1
    products["damaged"].frame["zkey"] = put(gateway, files.zkey.read_bytes()[:-1])
    products["blob"].frame["p"]["a"]["d"] = "cd" * 32
    products["late"].frame["deadline_ms"] = 0
    for product in products.values():
        await session.prove(product.frame)
    await gateway.until(lambda: "good" in gateway.proofs, 60)
    assert {name: header["code"] for name, header in gateway.failed.items()} == {
        "gone": "fetch",
        "size": "fetch",
        "damaged": "internal",
        "blob": "fetch",
    }
    assert set(gateway.proofs) == {"good"} and products["good"].holds(0, gateway.proofs["good"][0], session.key)
    await worker.status(lambda s: s["proofs_made"] == 1)
    assert len([line for line in worker.lines if "A proof was not made" in line]) == 4


async def test_a_proof_outlives_its_session(gateway: ScriptGateway, start: Start, files: Files) -> None:
    worker = await start(gateway.url, "--ephemeral", "--json")
    session = await in_session(gateway)
    product = Product(gateway, files, "p1", 64, 64, *range(8))
    await session.prove(product.frame)
    await worker.status(lambda s: s["proof"] is not None and s["proof"]["text"].startswith("proving tile"))
    await session.close(1012, "restart")
    session = await in_session(gateway, 2)
    await session.prove(product.frame)
    await gateway.until(lambda: "p1" in gateway.proofs, 60)
    assert len(gateway.proofs["p1"]) == 1 and product.holds(7, gateway.proofs["p1"][0][256 * 7 :], session.key)


@pytest.mark.parametrize(
    "change",
    [{"tiles": [1, 0]}, {"of": 7}, {"nonce": b"short"}, {"circuit": "v2-7x8x8"}, {"rows": 21}, {"zkey": None}],
)
async def test_a_malformed_frame_closes_the_socket(
    gateway: ScriptGateway, start: Start, files: Files, change: dict[str, Any]
) -> None:
    worker = await start(gateway.url, "--ephemeral", "--json")
    session = await in_session(gateway)
    await session.prove({**Product(gateway, files, "p1", 20, 12, 0, 3, 5).frame, **change})
    await gateway.until(lambda: session.close_code is not None)
    assert session.close_code == 4400
    assert await worker.ended() == 1
    assert "frame prove" in worker.lines[-1] and len(gateway.sessions) == 1


async def leaves(gateway: ScriptGateway, worker: Process, session: Session) -> float:
    begun = time.monotonic()
    worker.signal()
    await gateway.until(lambda: session.left, 5)
    assert await worker.ended() == 0
    return time.monotonic() - begun


@pytest.mark.alone
async def test_leaves_within_a_second_while_it_proves(gateway: ScriptGateway, start: Start, files: Files) -> None:
    worker = await start(gateway.url, "--ephemeral", "--json")
    session = await in_session(gateway)
    await session.prove(Product(gateway, files, "p1", 64, 64, *range(64)).frame)
    await worker.status(lambda s: s["proof"] is not None and s["proof"]["text"].startswith("proving tile 2 of 64"))
    took = await leaves(gateway, worker, session)
    assert took < 1.5, f"{took:.2f} s"
    await asyncio.wait_for(session.closed.wait(), 5)
    assert gateway.proofs == {} and worker.statuses[-1]["proof"] is None
