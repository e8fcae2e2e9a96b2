"""A mesh at its limits: jobs are held back with a time to come back, everybody gets a part, nothing is lost."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest_asyncio
from blake3 import blake3
from meshkit import SLOW, Workers, api, check_log, client, int8, product, same, until
from rawsocket import Closed, RawWorker

from bench.faults.logs import opened_log, read_log
from shardy_client import AsyncMesh, Progress
from shardy_common import ids
from shardy_common.log import StreamLimits
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

JOBS_MAX, MANY = 60, 54
BLOBS = 8 << 20
LIMITS = {
    "SHARDY_CANARY_EVERY": "0",  # jobs and events are counted
    "SHARDY_JOBS_MAX": str(JOBS_MAX),
    "SHARDY_BLOB_BYTES_MAX": str(BLOBS),
    "SHARDY_STALL_S": "2",
    "SHARDY_JOINS_PER_KEY_BURST": "6",
    "SHARDY_JOINS_PER_KEY_PER_MIN": "1",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pressed(tmp_path_factory: Any) -> AsyncIterator[Stack]:
    async with Stack(tmp_path_factory.mktemp("pressed"), allow_same_address=True, env=LIMITS) as running:
        yield running
        assert not any(managed.restarts for managed in running.processes.values())


@pytest_asyncio.fixture(loop_scope="session")
async def workers(pressed: Stack, tmp_path: Path) -> AsyncIterator[Workers]:
    more = Workers(pressed, tmp_path)
    try:
        yield more
    finally:
        await more.stop()


def problem(answer: httpx.Response, status: int, slug: str) -> str:
    """The detail of a refusal that says when to come back."""
    assert answer.status_code == status, answer.text[:300]
    assert answer.json()["type"] == f"/problems/{slug}" and int(answer.headers["retry-after"]) >= 1
    detail: str = answer.json()["detail"]
    return detail


async def small(http: httpx.AsyncClient, seed: int) -> dict[str, Any]:
    data = np.random.default_rng(seed).integers(-128, 128, (4, 8), np.int8).tobytes()
    digest = blake3(data).hexdigest()
    assert (await http.put(f"/v1/blobs/{digest}", content=data)).status_code in (200, 201)
    operand = {"digest": digest, "dtype": "int8", "rows": 4, "cols": 8}
    return {"kind": "matmul", "a": operand, "b": operand, "task_rows": 2}


async def test_a_busy_mesh_holds_jobs_back_and_one_job_is_not_kept_by_many(
    pressed: Stack, workers: Workers, rng: np.random.Generator
) -> None:
    """Two requesters: one with many jobs and one with one, in a mesh that takes no more; then workers come."""
    async with api(pressed) as many, api(pressed, pressed.operator_key) as operator:
        issued = await operator.post("/v1/keys", json={"label": "one", "scopes": ["submit"]})
        assert issued.status_code == 201, issued.text
        job = await small(many, 1)
        for _ in range(MANY):
            assert (await many.post("/v1/jobs", json=job)).status_code == 201
        async with api(pressed, issued.json()["key"]) as one:
            answer = await one.post("/v1/jobs", json=job)
            assert answer.status_code == 201
            lonely = answer.json()["id"]
            for _ in range(JOBS_MAX - MANY - 1):
                assert (await many.post("/v1/jobs", json=job)).status_code == 201
            said = problem(await one.post("/v1/jobs", json=job), 429, "mesh-busy")
            assert f"{JOBS_MAX} jobs are active" in said
        pressure = (await many.get("/v1/mesh")).json()["pressure"]
        assert pressure["jobs"] == JOBS_MAX and pressure["workers"] == 0 and pressure["queued_ops"] > 0
        seen: list[Progress] = []
        async with AsyncMesh(pressed.url, pressed.api_key) as mesh:
            a, b = int8(rng, 5, 7), int8(rng, 7, 3)
            waits = asyncio.create_task(mesh.matmul(a, b, progress=seen.append))

            async def told() -> bool:
                return bool(seen)

            await until(told, "the SDK says that it waits")
            assert seen[0].state == "held" and "come back" in seen[0].waiting_for
            await workers.start("uma", "vic", **SLOW)
            same(await waits, product(a, b))

        async def drained() -> bool:
            return (await many.get("/v1/mesh")).json()["pressure"]["jobs"] == 0

        await until(drained, "all jobs are done")
        assert (await many.get("/v1/mesh")).json()["pressure"]["queued_ops"] == 0
    ended = [e.event.job for e in await read_log(pressed) if isinstance(e.event, ev.JobCompleted)]
    assert len(ended) == JOBS_MAX + 1
    assert ended.index(lonely) < len(ended) / 2, "it was submitted behind all but a few"


async def test_a_full_log_holds_jobs_back_and_all_goes_on_when_there_is_room(
    pressed: Stack, workers: Workers, rng: np.random.Generator
) -> None:
    a, b = int8(rng, 120, 16), int8(rng, 16, 8)
    async with client(pressed) as mesh, opened_log(pressed) as log, api(pressed) as http:
        small_job = await small(http, 2)
        job = await mesh.submit_matmul(a, b, task_rows=2)
        room = await log.room()
        await log.limit(StreamLimits(room.bytes + 20_000))

        async def full() -> bool:
            words = [(pressed.data_dir / "logs" / f"{name}.log").read_text() for name in ("gateway", "matchmaker")]
            return any("the log is full" in text for text in words)

        # workers come only now, so that nothing can be done before the limit stands; one of them may find the log full
        await workers.start("wes", "xia", joined=False, **SLOW)
        await until(full, "somebody met the full log")

        async def refused() -> httpx.Response | None:
            answer = await http.post("/v1/jobs", json=small_job)
            return answer if answer.status_code == 503 else None

        answer = await until(refused, "submissions are refused")
        assert answer is not None and "full" in problem(answer, 503, "log-full")
        assert (await job.status())["state"] == "running"
        held = (await log.room()).events
        assert (await http.get("/v1/mesh")).json()["pressure"]["log_filled"] > 0.9
        await log.limit(StreamLimits(1 << 30))
        same(await job.result(timeout=120), product(a, b))
        assert job.last["frauds"] == []
        assert (await log.room()).events > held
        same(await mesh.matmul(a[:6], b), product(a[:6], b))
    await check_log(pressed, job.id)


async def test_uploads_end_at_the_limit_of_the_store_and_jobs_go_on(
    pressed: Stack, workers: Workers, rng: np.random.Generator
) -> None:
    await workers.start("yan", "zoe")
    data = os.urandom(5 << 20)
    other = os.urandom(5 << 20)
    async with api(pressed) as http, client(pressed) as mesh:
        assert (await http.put(f"/v1/blobs/{blake3(data).hexdigest()}", content=data)).status_code == 201
        path = f"/v1/blobs/{blake3(other).hexdigest()}"
        assert f"at most {BLOBS} bytes" in problem(await http.put(path, content=other), 503, "store-full")
        headers = {"Upload-Offset": "0", "Upload-Length": str(len(other))}
        answer = await http.patch(path.replace("blobs", "uploads"), content=other, headers=headers)
        problem(answer, 503, "store-full")
        assert (await http.head(path)).status_code == 404
        assert (await http.get("/v1/mesh")).json()["pressure"]["blob_bytes"] >= len(data)
        a, b = int8(rng, 40, 16), int8(rng, 16, 8)
        same(await mesh.matmul(a, b), product(a, b))


async def test_a_worker_that_reads_nothing_is_closed_and_keeps_nobody(
    pressed: Stack, workers: Workers, rng: np.random.Generator
) -> None:
    """It sends results of leases that it has not got, is told so, and never reads; others work on meanwhile."""
    await workers.start("amy", "ben")
    async with api(pressed, pressed.operator_key) as operator, client(pressed) as mesh, RawWorker(pressed) as raw:
        await raw.join()
        entries = [
            {"lease": f"j0-0-0-{n:06x}-0", "task": "t", "digest": bytes(32), "len": 1, "s": None} for n in range(500)
        ]
        frame = {"t": "result", "results": entries, "sig": raw.sign_results(entries)}

        async def flood() -> None:
            while True:
                await raw.send(frame)
                await asyncio.sleep(0.002)

        flooding = asyncio.create_task(flood())
        a, b = int8(rng, 40, 16), int8(rng, 16, 8)
        same(await mesh.matmul(a, b), product(a, b))

        async def closed() -> bool:
            return (await operator.get("/v1/refusals")).json()["sockets"].get("4408", 0) >= 1

        await until(closed, "the gateway closed it")
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        same(await mesh.matmul(a, b), product(a, b))
    who = ids.worker_id(raw.public)
    names = Counter(type(e.event).__name__ for e in await read_log(pressed) if getattr(e.event, "worker", "") == who)
    assert set(names) <= {"WorkerJoined", "WorkerTiered", "WorkerLeft", "ResultFailed"}
    assert names["ResultFailed"] == 0, "what it sent was not in its leases"


async def test_a_key_that_joins_again_and_again_fills_no_log(pressed: Stack) -> None:
    async with RawWorker(pressed, "again") as first:
        await first.join()
        key = first.key
    refused: Closed | None = None
    for _ in range(10):
        async with RawWorker(pressed, "again", key) as raw:
            answer = await raw.challenged()
            if answer["t"] == "bye":
                refused = await raw.closed()
            else:
                await raw.send(raw.answer(answer))
                assert (await raw.receive())["t"] == "tier"
    assert refused is not None and refused.code == 4429 and refused.bye is not None
    assert "a key may join 1 times a minute" in refused.bye["reason"] and refused.bye["retry_ms"] >= 1_000
    joined = [e.event for e in await read_log(pressed) if isinstance(e.event, ev.WorkerJoined)]
    assert sum(event.agent == "again" for event in joined) <= 7
