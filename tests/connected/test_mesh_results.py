"""The main path, byte for byte: every kind, policy and way of splitting, on a real stack with real workers."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from meshkit import Workers, check_log, float32, int8, of_job, prepared, product, same

from bench.faults.logs import read_log
from shardy_client import AsyncMesh, Mesh, PreExec
from shardy_common.engine import reference
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

SHAPES = [(1, 1, 1), (3, 5, 7), (17, 64, 33), (65, 130, 31), (1, 4096, 3), (129, 3, 257)]  # m, k, n
PRES = [
    PreExec(-1, 1),
    PreExec(-1, 0.5, scale="tensor"),
    PreExec(-0.75, 1, ema_axis=1, alpha=0.3),
    PreExec(-1, 1, ema_axis=0, alpha=0.5, segment_rows=8),
    PreExec(-1, 1, ema_axis=0, alpha=0.5, segment_rows=8, scale="tensor"),
    PreExec(-1, 1, ema_axis=0, alpha=1.0, segment_rows=16),
]


@pytest.mark.parametrize("policy", ["quorum", "audit"])
async def test_int8_shapes(honest: Workers, mesh: AsyncMesh, rng: np.random.Generator, policy: str) -> None:
    pairs = [(int8(rng, m, k), int8(rng, k, n)) for m, k, n in SHAPES]
    found = await asyncio.gather(*(mesh.matmul(a, b, policy=policy, timeout_s=90) for a, b in pairs))
    for (a, b), c in zip(pairs, found, strict=True):
        same(c, product(a, b))
        same(c, reference.matmul_i8(a, np.ascontiguousarray(b.T)))


async def test_largest_sums_stay_exact(honest: Workers, mesh: AsyncMesh) -> None:
    """k at its limit and all values −128: the largest sum that there can be."""
    a, b = np.full((2, 65_535), -128, np.int8), np.full((65_535, 3), -128, np.int8)
    c = await mesh.matmul(a, b, policy="audit", timeout_s=90)
    same(c, np.full((2, 3), 65_535 * 16_384, np.int32))


@pytest.mark.parametrize("policy", ["quorum", "audit"])
async def test_int8_row_tiles(
    honest: Workers, stack: Stack, mesh: AsyncMesh, rng: np.random.Generator, policy: str
) -> None:
    a, b = int8(rng, 103, 96), int8(rng, 96, 50)
    job = await mesh.submit_matmul(a, b, policy=policy, task_rows=10, label="row tiles")
    await job.wait(timeout_s=90)
    same(await job.result(), product(a, b))
    tasks = (await mesh.tasks(job.id))["tasks"]
    assert [(t["row0"], t["rows"], t["col0"], t["cols"]) for t in tasks] == [
        (row, min(10, 103 - row), 0, 50) for row in range(0, 103, 10)
    ]
    assert {t["state"] for t in tasks} == {"verified"}
    assert {t["method"] for t in tasks} == {policy}
    assert all(len(set(t["verified_by"])) == (2 if policy == "quorum" else 1) for t in tasks)
    events = await check_log(stack, job.id)
    assert len({e.trace.split("-")[1] for e in events}) == 1, "one job is one trace"


@pytest.mark.parametrize("policy", ["quorum", "audit"])
async def test_float32_products(honest: Workers, mesh: AsyncMesh, rng: np.random.Generator, policy: str) -> None:
    a, b = float32(rng, 37, 21), float32(rng, 29, 21)
    found = await asyncio.gather(
        *(
            mesh.matmul(
                a,
                b,
                b_layout="nk",
                policy=policy,
                pre=pre,
                parts=True,
                task_rows=16 if pre.ema_axis == 0 else 9,
                timeout_s=90,
            )
            for pre in PRES
        )
    )
    for pre, parts in zip(PRES, found, strict=True):
        (qa, sa), (qb, sb) = prepared(a, pre), prepared(b, pre)
        c = reference.matmul_i8(qa, qb)
        same(parts.c, c)
        same(parts.a_scale, sa)
        same(parts.b_scale, sb)
        same(parts.d, reference.dequantise(c, sa, sb))


async def test_streams(honest: Workers, mesh: AsyncMesh, rng: np.random.Generator) -> None:
    x = float32(rng, 61, 19)
    found = await asyncio.gather(
        *(mesh.stream(x, pre, task_rows=16 if pre.ema_axis == 0 else 7, timeout_s=90) for pre in PRES)
    )
    for pre, parts in zip(PRES, found, strict=True):
        q, scale = prepared(x, pre)
        same(parts.q, q)
        same(parts.scale, scale)


async def test_column_bands(honest: Workers, workers: Workers, mesh: AsyncMesh, rng: np.random.Generator) -> None:
    """A device with little memory among four that all compute each task: the product splits into column bands."""
    await workers.start("phone", memory_mib=16)
    a, b = int8(rng, 40, 1024), int8(rng, 1024, 4096)
    job = await mesh.submit_matmul(a, b, redundancy=4, task_rows=9)
    await job.wait(timeout_s=90)
    tiles = [(t["row0"], t["col0"], t["cols"]) for t in (await mesh.tasks(job.id))["tasks"]]
    assert len({col0 for _, col0, _ in tiles}) >= 2 and len({row0 for row0, _, _ in tiles}) == 5
    same(await job.result(), product(a, b))

    pre = PreExec(-1, 1, ema_axis=0, alpha=0.5, segment_rows=256)
    a32, b32 = float32(rng, 600, 256), float32(rng, 3072, 256)
    job = await mesh.submit_matmul(a32, b32, b_layout="nk", pre=pre, redundancy=4)
    await job.wait(timeout_s=90)
    tiles = [(t["row0"], t["col0"], t["cols"]) for t in (await mesh.tasks(job.id))["tasks"]]
    assert len({col0 for _, col0, _ in tiles}) >= 2 and len({row0 for row0, _, _ in tiles}) >= 2
    (qa, sa), (qb, sb) = prepared(a32, pre), prepared(b32, pre)
    c = product(qa, np.ascontiguousarray(qb.T))
    same(await job.result("c"), c)
    same(await job.result("a_scale"), sa)
    same(await job.result("b_scale"), sb)
    same(await job.result("d"), reference.dequantise(c, sa, sb))


@pytest.mark.parametrize("policy", ["quorum", "audit"])
async def test_large_operands_and_results(
    honest: Workers, stack: Stack, mesh: AsyncMesh, rng: np.random.Generator, policy: str
) -> None:
    """Operands are stored as blobs beforehand and used twice; results are over what a frame carries."""
    a, b = int8(rng, 512, 700), int8(rng, 700, 1500)
    left, right = await mesh.put(a), await mesh.put(b, transpose=True)
    job = await mesh.submit_matmul(left, right, policy=policy, task_rows=256)
    await job.wait(timeout_s=90)
    same(await job.result(), product(a, b))
    sizes = {e.event.size for e in of_job(await read_log(stack), job.id) if isinstance(e.event, ev.ResultSubmitted)}
    assert sizes == {256 * 1500 * 4}
    same(await mesh.matmul(a[:20], right, policy=policy, timeout_s=90), product(a[:20], b))


async def test_two_thousand_tiny_tasks(
    honest: Workers, stack: Stack, mesh: AsyncMesh, rng: np.random.Generator
) -> None:
    a, b = int8(rng, 2000, 16), int8(rng, 16, 8)
    job = await mesh.submit_matmul(a, b, task_rows=1)
    status = await job.wait(timeout_s=120)
    same(await job.result(), product(a, b))
    assert status["progress"] == {"cells_done": 16_000, "cells": 16_000, "tasks_verified": 2000, "tasks_active": 0}
    assert status["frauds"] == []
    await check_log(stack, job.id)


async def test_blocking_client(honest: Workers, stack: Stack, rng: np.random.Generator) -> None:
    a, b = int8(rng, 8, 9), int8(rng, 9, 10)

    def ask() -> np.ndarray:
        with Mesh(stack.url, stack.api_key) as mesh:
            return mesh.matmul(a, b, timeout_s=90)

    same(await asyncio.to_thread(ask), product(a, b))
