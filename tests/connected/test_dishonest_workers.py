"""Workers that cheat, dawdle or repeat themselves: each is named or outlived, and the bytes are right."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from meshkit import (
    BANNED_EXIT,
    Workers,
    api,
    check_log,
    float32,
    int8,
    of_job,
    prepared,
    product,
    read_log,
    same,
    until,
    workers_named,
)
from rawsocket import Closed, RawWorker

from shardy_client import AsyncMesh, PreExec
from shardy_common.stack import Stack
from shardy_common.wire import events as ev


async def caught(stack: Stack, http: httpx.AsyncClient, name: str) -> dict[str, Any]:
    """The fraud of a worker of this name, once it is listed with its dead letter."""

    async def look() -> dict[str, Any] | None:
        frauds = (await http.get("/v1/frauds")).json()["frauds"]
        return next((f for f in frauds if name in f["name"].split()), None)

    fraud = await until(look, f"{name} is caught")

    async def letter() -> dict[str, Any] | None:
        async with api(stack, stack.operator_key) as operator:
            entries = (await operator.get("/v1/dlq")).json()["entries"]
        return next((e for e in entries if e["entry"] == f"fraud-{fraud['lease']}"), None)

    entry = await until(letter, f"{name}'s fraud is in the dead letter queue")
    assert (entry["cause"], entry["state"], entry["trace"]) == ("fraud", "open", entry["evidence"]["trace"])
    evidence = entry["evidence"]
    for field in ("task", "job", "worker", "name", "lease", "digest", "method", "row"):
        assert evidence[field] == str(fraud[field]), field
    (shown,) = await workers_named(http, name)
    assert shown["banned"]
    return {**fraud, "trace": evidence["trace"]}


@pytest.mark.parametrize("policy", ["quorum", "audit"])
async def test_a_liar_is_named_and_banned(
    honest: Workers,
    workers: Workers,
    stack: Stack,
    http: httpx.AsyncClient,
    mesh: AsyncMesh,
    rng: np.random.Generator,
    tmp_path: Path,
    policy: str,
) -> None:
    name, key = f"liar-{policy}", tmp_path / "key"
    await workers.start(name, mode="liar", row=3, key=key)
    a, b = int8(rng, 400, 32), int8(rng, 32, 16)
    job = await mesh.submit_matmul(a, b, policy=policy, task_rows=5)
    status = await job.wait(timeout_s=90)
    same(await job.result(), product(a, b))
    fraud = await caught(stack, http, name)
    assert fraud["job"] == job.id and fraud["method"] == "audit" and fraud["row"] == 3
    assert {f["worker"] for f in status["frauds"]} == {fraud["worker"]}
    assert await workers.exit_code(name) == BANNED_EXIT
    assert "banned" in (tmp_path / f"{name}.log").read_text()

    events = of_job(await read_log(stack), job.id)
    assert {e.trace.split("-")[1] for e in events} == {fraud["trace"].split("-")[1]}, "the evidence leads to the job"
    lies = {e.event.lease for e in events if isinstance(e.event, ev.FraudDetected)}
    verdicts = {e.event.task: e.event for e in events if isinstance(e.event, ev.TaskVerified)}
    assert len(verdicts) == 80
    assert all(fraud["worker"] not in verdict.workers for verdict in verdicts.values())
    assert {lease.rpartition("-")[0] for lease in lies} <= set(verdicts)
    await check_log(stack, job.id, frauds=len(lies))

    spent = load_pem_private_key(key.read_bytes(), None)
    assert isinstance(spent, Ed25519PrivateKey)
    async with RawWorker(stack, name, key=spent) as again:
        await again.send({"t": "auth", "sig": again.sign(await again.hello())})
        assert (await again.closed()).code == 4403


async def test_colluders_are_both_caught_by_audits(
    honest: Workers, workers: Workers, stack: Stack, http: httpx.AsyncClient, mesh: AsyncMesh, rng: np.random.Generator
) -> None:
    """Their lies are equal byte for byte, which would make a majority of two; the arithmetic tells."""
    names = ["twist", "shout"]
    await workers.start(*names, mode="liar")
    a, b = int8(rng, 400, 32), int8(rng, 32, 16)
    job = await mesh.submit_matmul(a, b, policy="audit", task_rows=4)
    await job.wait(timeout_s=90)
    same(await job.result(), product(a, b))
    frauds = [await caught(stack, http, name) for name in names]
    assert len({f["worker"] for f in frauds}) == 2 and {f["job"] for f in frauds} == {job.id}
    for name in names:
        assert await workers.exit_code(name) == BANNED_EXIT


@pytest.mark.slow
async def test_a_float32_liar_is_caught(
    honest: Workers, workers: Workers, stack: Stack, http: httpx.AsyncClient, mesh: AsyncMesh, rng: np.random.Generator
) -> None:
    await workers.start("float-liar", mode="liar", row=1)
    pre = PreExec(-1, 1, ema_axis=0, alpha=0.5, segment_rows=4)
    a, b = float32(rng, 200, 16), float32(rng, 12, 16)
    c = await mesh.matmul(a, b, b_layout="nk", policy="audit", pre=pre, parts=True, task_rows=4, timeout_s=90)
    (qa, sa), (qb, sb) = prepared(a, pre), prepared(b, pre)
    same(c.c, product(qa, np.ascontiguousarray(qb.T)))
    same(c.a_scale, sa)
    same(c.b_scale, sb)
    assert (await caught(stack, http, "float-liar"))["row"] == 1


async def test_a_liar_in_a_stream_is_outvoted_and_proven(
    honest: Workers, workers: Workers, stack: Stack, http: httpx.AsyncClient, mesh: AsyncMesh, rng: np.random.Generator
) -> None:
    """No audit exists for streams: where results differ, the mesh computes that row itself."""
    await workers.start("stream-liar", mode="liar", row=2)
    pre = PreExec(-1, 1, ema_axis=0, alpha=0.5, segment_rows=4)
    x = float32(rng, 200, 16)
    job = await mesh.submit_stream(x, pre, redundancy=3, task_rows=4)
    await job.wait(timeout_s=90)
    q, scale = prepared(x, pre)
    same(await job.result("q"), q)
    same(await job.result("scale"), scale)
    fraud = await caught(stack, http, "stream-liar")
    assert fraud["method"] == "recompute" and fraud["row"] == 2
    assert {f["worker"] for f in (await job.status())["frauds"]} == {fraud["worker"]}


async def test_a_raw_lie_is_fraud_only_when_the_bytes_are_wrong(
    honest: Workers, stack: Stack, http: httpx.AsyncClient, mesh: AsyncMesh, rng: np.random.Generator
) -> None:
    """One bit, in the last row; sent twice: one fraud, and the socket closes with 4403."""
    a, b = int8(rng, 7, 16), int8(rng, 16, 5)
    async with RawWorker(stack, "bit") as raw:
        await raw.join()
        job = await mesh.submit_matmul(a, b, redundancy=4, task_rows=7)
        lease = await raw.lease_of(job.id)
        data = bytearray(await raw.compute(lease))
        data[-1] ^= 1
        assert await raw.result(lease, bytes(data)) == "accepted"
        with contextlib.suppress(Closed):  # the second may find the door shut already
            assert await raw.result(lease, bytes(data)) in ("accepted", "late")
        closed = await raw.closed()
        assert closed.code == 4403 and closed.bye is not None
        fraud = await caught(stack, http, "bit")
        assert fraud["row"] == 6 and fraud["job"] == job.id
        async with RawWorker(stack, "bit", key=raw.key) as again:
            await again.send({"t": "auth", "sig": again.sign(await again.hello())})
            assert (await again.closed()).code == 4403
    await job.wait(timeout_s=90)  # three of four agree, and the fourth is proven wrong: that is a verdict
    same(await job.result(), product(a, b))
    (verified,) = [e.event for e in await check_log(stack, job.id, frauds=1) if isinstance(e.event, ev.TaskVerified)]
    assert verified.method == "arbitration" and len(verified.workers) == 3


@pytest.mark.slow
async def test_a_worker_that_never_answers_is_outlived(
    honest: Workers, stack: Stack, workers: Workers, mesh: AsyncMesh, rng: np.random.Generator
) -> None:
    """Leases held by a lazy process and by a silent raw worker run out; others finish. The late result is `late`."""
    await workers.start("lazy", mode="lazy")
    a, b = int8(rng, 60, 16), int8(rng, 16, 5)
    async with RawWorker(stack, "late") as raw:
        await raw.join()
        job = await mesh.submit_matmul(a, b, task_rows=2)
        lease = await raw.lease_of(job.id)
        beating = asyncio.create_task(beat(raw))
        await job.wait(timeout_s=120)
        beating.cancel()
        same(await job.result(), product(a, b))
        assert await raw.result(lease, await raw.compute(lease)) == "late"
        assert await raw.result(lease, bytes(2 * 5 * 4)) == "late"
        events = await check_log(stack, job.id)
        expired = [e.event for e in events if isinstance(e.event, ev.TaskExpired)]
        assert expired and {e.cause for e in expired} == {"deadline"}
        await raw.leave()
    await workers.stop(kill=True)  # it would not look up from its work


async def beat(raw: RawWorker) -> None:
    while True:
        await raw.send({"t": "heartbeat"})
        await asyncio.sleep(5)
