"""The native worker on real sockets against a gateway that checks every frame and byte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
from fake_gateway import FakeGateway, Session, lease, operand
from starlette.websockets import WebSocket

from shardy_client.errors import WorkerStopped
from shardy_client.worker.messages import Credit
from shardy_common.wire import frame

if TYPE_CHECKING:
    from conftest import StartWorker

RNG = np.random.default_rng(5)


def int8(rows: int, cols: int) -> np.ndarray:
    return RNG.integers(-128, 128, (rows, cols), np.int8)


def matmul_p(gateway: FakeGateway, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    k = a.shape[1]
    return {
        "dtype": "int8",
        "k": k,
        "a": operand(gateway.put(a), 0, a.nbytes, len(a), k),
        "b": operand(gateway.put(b), 0, b.nbytes, len(b), k),
    }


async def test_joins_computes_and_leaves(start: StartWorker) -> None:
    async with FakeGateway() as gateway:
        worker = await start(gateway, name="bench")
        session = gateway.sessions[0]
        assert session.hello["agent"] == "native/0.1 bench" and session.hello["held"] == []
        assert session.probed["memory_mib"] == 64 and session.probed["backend"] == "wasm"
        a, b = int8(5, 70), int8(9, 70)
        await session.lease([lease("l1", matmul_p(gateway, a, b))])
        await gateway.until(lambda: "l1" in gateway.results)
        assert gateway.results["l1"] == oracle.matmul(a, b).tobytes()
        header = gateway.headers["l1"]
        assert header["task"] == "t-l1" and header["ms"] > 0 and header["backend"] == "wasm"
        worker.stop()
        await gateway.until(lambda: session.left)
        assert gateway.violations == []


async def test_slices_are_fetched_once_and_results_of_one_b_travel_together(start: StartWorker) -> None:
    async with FakeGateway() as gateway:
        a, b = int8(64, 32), int8(16, 32)
        da, db = gateway.put(a), gateway.put(b)
        await start(gateway)
        session = gateway.sessions[0]
        leases = [
            lease(
                f"l{i}",
                {
                    "dtype": "int8",
                    "k": 32,
                    "a": operand(da, i * 64, 64, 2, 32),
                    "b": operand(db, 0, b.nbytes, 16, 32),
                },
            )
            for i in range(32)
        ]
        carried = [(da, i * 64, a[2 * i : 2 * i + 2].tobytes()) for i in range(32)]
        await session.lease(leases, carried)
        await gateway.until(lambda: len(gateway.results) == 32)
        c = oracle.matmul(a, b)
        for i in range(32):
            assert gateway.results[f"l{i}"] == c[2 * i : 2 * i + 2].tobytes()
        assert gateway.fetches == [(db, f"bytes=0-{b.nbytes - 1}")]
        assert session.result_frames <= 4
        assert gateway.violations == []


async def test_large_results_are_uploaded(start: StartWorker) -> None:
    async with FakeGateway() as gateway:
        a, b = int8(300, 40), int8(500, 40)
        await start(gateway)
        await gateway.sessions[0].lease([lease("big", matmul_p(gateway, a, b))])
        await gateway.until(lambda: "big" in gateway.results)
        assert gateway.headers["big"]["s"] is None and gateway.headers["big"]["len"] == 600_000
        assert gateway.results["big"] == oracle.matmul(a, b).tobytes()
        assert gateway.violations == []


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("scale", ["row", "tensor"])
async def test_float32_kinds_to_the_byte(start: StartWorker, axis: int, scale: str) -> None:
    async with FakeGateway() as gateway:
        x = RNG.normal(0, 2, (40, 12)).astype(np.float32)
        x[3, 4], x[17, 0], x[20, 2] = np.nan, np.inf, -np.inf
        x[8] = 0
        y = RNG.normal(0, 2, (10, 12)).astype(np.float32)
        pre = {"lo": -3.0, "hi": 2.5, "ema_axis": axis, "alpha": 0.5, "segment_rows": 16, "scale": scale}
        pre["warm_rows"] = oracle.warm_rows(axis, 0.5)
        row0, rows = 32, 8
        first = row0 - (min(pre["warm_rows"], row0) if axis == 0 else 0)
        dx, dy = gateway.put(x), gateway.put(y)
        slice_x = operand(dx, first * 48, (row0 + rows - first) * 48, rows, 12)
        await start(gateway)
        await gateway.sessions[0].lease(
            [
                lease(
                    "s",
                    {"dtype": "float32", "x": slice_x, "rows": rows, "cols": 12, "pre": {**pre, "row0": row0}},
                    "stream",
                ),
                lease(
                    "m",
                    {
                        "dtype": "float32",
                        "k": 12,
                        "a": slice_x,
                        "b": operand(dy, 0, y.nbytes, 10, 12),
                        "pre": {**pre, "row0_a": row0, "row0_b": 0},
                    },
                ),
            ]
        )
        await gateway.until(lambda: len(gateway.results) + len(gateway.failed) == 2)
        q, sx = oracle.preexec(x, pre, row0, rows)
        qy, sy = oracle.preexec(y, pre, 0, 10)
        assert gateway.failed == {}
        assert gateway.results["s"] == sx.tobytes() + q.tobytes()
        assert gateway.results["m"] == sx.tobytes() + sy.tobytes() + oracle.matmul(q, qy).tobytes()


async def test_unacknowledged_results_are_sent_again_after_a_reconnect(start: StartWorker) -> None:
    async with FakeGateway(ack=False) as gateway:
        a, b = int8(4, 8), int8(4, 8)
        big_a, big_b = int8(300, 8), int8(300, 8)
        await start(gateway)
        first = gateway.sessions[0]
        await first.lease([lease("l1", matmul_p(gateway, a, b)), lease("l2", matmul_p(gateway, big_a, big_b))])
        await gateway.until(lambda: len(gateway.results) == 2)
        gateway.ack = True
        await first.close(1012, "restart")
        await gateway.until(lambda: gateway.times_seen == {"l1": 2, "l2": 2})
        assert sorted(gateway.sessions[1].hello["held"]) == ["l1", "l2"]
        assert gateway.sessions[1].key == first.key
        await gateway.sessions[1].close(1012)
        await gateway.until(lambda: len(gateway.sessions) == 3)
        assert gateway.sessions[2].hello["held"] == []
        assert gateway.violations == []


async def test_what_cannot_be_done_goes_back_with_a_reason(start: StartWorker) -> None:
    async with FakeGateway() as gateway:
        await start(gateway)
        good = matmul_p(gateway, int8(2, 8), int8(2, 8))
        missing = {**good, "a": operand("ab" * 32, 0, 16, 2, 8)}
        await gateway.sessions[0].lease(
            [
                lease("kind", good, "conv"),
                lease("k", {**good, "k": 70_000}),
                lease("short", {**good, "a": {**good["a"], "l": 15}}),
                lease("gone", missing),
                lease("fine", good),
            ]
        )
        await gateway.until(lambda: len(gateway.failed) == 4 and "fine" in gateway.results)
        codes = {name: header["code"] for name, header in gateway.failed.items()}
        assert codes == {"kind": "unsupported", "k": "unsupported", "short": "unsupported", "gone": "fetch"}
        assert gateway.violations == []


async def test_a_fetch_that_fails_is_tried_again(start: StartWorker) -> None:
    async with FakeGateway() as gateway:
        gateway.fetch_faults = 1
        await start(gateway)
        a, b = int8(2, 8), int8(2, 8)
        await gateway.sessions[0].lease([lease("l", matmul_p(gateway, a, b))])
        await gateway.until(lambda: "l" in gateway.results)
        assert gateway.results["l"] == oracle.matmul(a, b).tobytes()


async def test_wrong_operand_bytes_are_noticed_before_computing(start: StartWorker) -> None:
    async with FakeGateway() as gateway:
        await start(gateway)
        a, b = int8(2, 8), int8(2, 8)
        p = matmul_p(gateway, a, b)
        digest = p["a"]["d"]
        gateway.blobs[digest] = bytes([gateway.blobs[digest][0] ^ 1]) + gateway.blobs[digest][1:]
        await gateway.sessions[0].lease([lease("l", p)])
        await gateway.until(lambda: "l" in gateway.failed)
        assert gateway.failed["l"]["code"] == "fetch"


async def test_cancelled_leases_are_not_answered(start: StartWorker) -> None:
    async with FakeGateway() as gateway:
        await start(gateway)
        session = gateway.sessions[0]
        good = matmul_p(gateway, int8(2, 8), int8(2, 8))
        gateway.fetch_faults = 2
        await session.lease([lease("a", good), lease("b", good)])
        await session.send({"t": "cancel", "leases": ["a"]})
        await gateway.until(lambda: "b" in gateway.results)
        await asyncio.sleep(0.05)
        assert "a" not in gateway.results and "a" not in gateway.failed


async def test_heartbeats_come_as_asked(start: StartWorker) -> None:
    async with FakeGateway(heartbeat_s=0.05) as gateway:
        await start(gateway)
        await gateway.until(lambda: gateway.sessions[0].heartbeats >= 3, 5)
        assert gateway.violations == []


async def test_the_mesh_says_what_it_verified(start: StartWorker) -> None:
    async with FakeGateway(heartbeat_s=0.05) as gateway:
        gateway.credit = {"tasks": 7, "ops": 3 * 10**9}
        worker = await start(gateway)
        await gateway.until(lambda: gateway.sessions[0].heartbeats >= 3, 5)
        assert worker.state.credit == Credit(7, 3 * 10**9)


@pytest.mark.parametrize("tamper", ["bit", "short", "other root"])
async def test_results_that_are_not_signed_by_their_worker_end_the_session(start: StartWorker, tamper: str) -> None:
    """What the strict gateway is there for: it must see each of these."""
    async with FakeGateway() as gateway:
        worker = await start(gateway)
        sign = worker.state._sign
        wrong = {
            "bit": lambda root: bytes([sign(root)[0] ^ 1]) + sign(root)[1:],
            "short": lambda root: sign(root)[:63],
            "other root": lambda root: sign(root[:31] + bytes([root[31] ^ 1])),
        }
        worker.state._sign = wrong[tamper]
        await gateway.sessions[0].lease([lease("l", matmul_p(gateway, int8(2, 8), int8(2, 8)))])
        with pytest.raises(WorkerStopped, match="signature of results") as caught:
            await asyncio.wait_for(asyncio.shield(worker.task), 5)  # type: ignore[attr-defined]
        assert caught.value.code == 4401
        assert gateway.violations == ["a signature of 1 results"] and gateway.results == {}


async def test_an_older_version_is_not_spoken(start: StartWorker) -> None:
    async def old(socket: WebSocket) -> None:
        challenge = {"t": "challenge", "version": 1, "nonce": bytes(32), "session": "s", "mesh": "test"}
        await socket.send_bytes(frame.encode(challenge))
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass

    async with FakeGateway() as gateway:
        gateway.before_challenge = old
        worker = await start(gateway)
        with pytest.raises(WorkerStopped, match="version 1 was not offered"):
            await asyncio.wait_for(asyncio.shield(worker.task), 5)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("code", "words"),
    [(4403, "banned"), (4409, "joined elsewhere"), (4406, "version"), (4401, "refused"), (4400, "malformed")],
)
async def test_final_close_codes_stop_the_worker_with_a_message(start: StartWorker, code: int, words: str) -> None:
    async with FakeGateway() as gateway:
        worker = await start(gateway)
        await gateway.sessions[0].close(code, "because")
        with pytest.raises(WorkerStopped, match=words) as caught:
            await asyncio.wait_for(asyncio.shield(worker.task), 5)  # type: ignore[attr-defined]
        assert caught.value.code == code
        assert len(gateway.sessions) == 1


async def test_a_frame_of_unknown_type_ends_the_session(start: StartWorker) -> None:
    async with FakeGateway() as gateway:
        worker = await start(gateway)
        await gateway.sessions[0].send({"t": "surprise"})
        with pytest.raises(WorkerStopped, match="surprise"):
            await asyncio.wait_for(asyncio.shield(worker.task), 5)  # type: ignore[attr-defined]


async def test_leases_wait_through_a_reconnect(start: StartWorker) -> None:
    async with FakeGateway() as gateway:
        await start(gateway)
        first = gateway.sessions[0]
        a, b = int8(2, 8), int8(2, 8)
        gateway.fetch_faults = 1
        await first.lease([lease("l", matmul_p(gateway, a, b))])
        await first.close(1012)
        await gateway.until(lambda: "l" in gateway.results)
        assert gateway.sessions[1].hello["held"] == ["l"]
        assert gateway.results["l"] == oracle.matmul(a, b).tobytes()
        assert gateway.violations == []


async def test_two_hundred_leases_in_flight_of_several_jobs(start: StartWorker) -> None:
    async with FakeGateway() as gateway:
        await start(gateway, threads=2)
        session: Session = gateway.sessions[0]
        expected = {}
        for j in range(4):
            b = int8(8 + j, 24)
            leases, carried = [], [(gateway.put(b), 0, b.tobytes())]
            for i in range(50):
                a = int8(1 + i % 3, 24)
                name = f"l{j}-{i}"
                leases.append(lease(name, matmul_p(gateway, a, b), job=f"j{j}"))
                carried.append((gateway.put(a), 0, a.tobytes()))
                expected[name] = oracle.matmul(a, b).tobytes()
            await session.lease(leases, carried)
        await gateway.until(lambda: len(gateway.results) == 200)
        assert gateway.results == expected
        assert gateway.fetches == [] and gateway.violations == []
