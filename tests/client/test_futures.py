"""Jobs as futures: waiting, callbacks, progress, cancelling, from threads and from coroutines."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import numpy as np
import pytest
from fake_api import KEY, FakeApi, Problem

from shardy_client import (
    AsyncMesh,
    FloatProduct,
    InvalidInput,
    Job,
    JobCancelled,
    JobFailed,
    JobTimeout,
    Mesh,
    PreExec,
    Progress,
    Quantised,
    follow,
)
from shardy_client.follow import EventParser, NoStream
from shardy_client.progress import Meter

RNG = np.random.default_rng(5)
A, B = RNG.integers(-128, 128, (4, 6), np.int8), RNG.integers(-128, 128, (6, 5), np.int8)
C = A.astype(np.int32) @ B.astype(np.int32)
FOREVER = 10**9


def test_a_job_is_a_future(api: FakeApi, mesh: Mesh) -> None:
    api.steps = 3
    job = mesh.submit(A, B, policy="adaptive")
    assert api.jobs[job.id]["submitted"]["policy"] == "adaptive"
    assert not job.done() and job.running() and not job.cancelled()
    assert np.array_equal(job.result(timeout=10), C) and job.done() and job.exception() is None
    assert job.usage == mesh.usage(job) == {"ops": 40, "ops_replicas": 80}


def test_timeouts_leave_the_job_alone(api: FakeApi, mesh: Mesh) -> None:
    api.steps = FOREVER
    job = mesh.submit(A, B)
    for wait in (job.result, job.exception):
        with pytest.raises(JobTimeout, match="still running"):
            wait(timeout=0.05)
    with pytest.raises(TimeoutError):
        job.wait(lambda _: None, 0.05)
    assert not job.done()


def test_cancelled_and_failed_jobs(api: FakeApi, mesh: Mesh) -> None:
    api.steps = FOREVER
    job = mesh.submit(A, B)
    assert job.cancel() and job.cancelled() and isinstance(job.exception(), JobCancelled)
    with pytest.raises(concurrent.futures.CancelledError):
        job.result()
    api.steps, api.fail = 0, "task t1 stayed unresolved"
    job = mesh.submit(A, B, wait_s=1)
    assert not job.cancel() and isinstance(job.exception(), JobFailed)
    with pytest.raises(JobFailed, match="t1 stayed"):
        job.result()


def test_callbacks_may_use_the_mesh(api: FakeApi, mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    api.steps = 3
    found: list[Any] = []
    called = threading.Event()

    def finish(job: Job) -> None:
        found.append(job.result())
        called.set()

    job = mesh.submit(A, B)
    job.add_done_callback(lambda _: 1 / 0)
    job.add_done_callback(finish)
    assert called.wait(10) and np.array_equal(found[0], C)
    assert "a callback failed" in caplog.text


def test_a_job_is_followed_by_iterating(api: FakeApi, mesh: Mesh) -> None:
    api.steps, api.waiting_for = 5, "devices at two addresses"
    seen = list(mesh.submit(A, B))
    assert [now.cells_done for now in seen] == [0, 10, 20] and seen[-1].fraction == 1.0
    assert seen[0].waiting_for == "devices at two addresses" and seen[-1].state == "completed"
    assert ("GET", "/v1/jobs/j1/events") in api.requests
    job = mesh.submit(A, B)
    for now in job:
        if now.cells_done:
            break
    assert job.progress().cells == 20


def test_without_events_the_mesh_is_asked(api: FakeApi, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL_S", 0.01)
    api.steps, api.streams = 3, False
    assert [now.cells_done for now in mesh.submit(A, B)] == [0, 10, 20]
    assert [path for _, path in api.requests].count("/v1/jobs/j1/events") == 1


def test_on_progress_is_told_in_the_background(api: FakeApi, mesh: Mesh) -> None:
    api.steps = 3
    seen: list[Progress] = []
    ended = threading.Event()

    def told(now: Progress) -> None:
        seen.append(now)
        if now.state == "completed":
            ended.set()

    mesh.submit(A, B, on_progress=told)
    assert ended.wait(10) and [now.cells_done for now in seen] == [0, 10, 20]


def test_results_by_kind_and_part(api: FakeApi, mesh: Mesh) -> None:
    pre = PreExec(-1, 1)
    x, y = A.astype(np.float32), B.astype(np.float32)
    assert mesh.submit(x, y, pre=pre).result().dtype == np.float32
    job = mesh.submit(x, y, pre=pre, parts=True)
    assert isinstance(job.result(), FloatProduct) and job.result(part="c").dtype == np.int32
    stream = mesh.submit_stream(x, pre)
    assert isinstance(stream.result(), Quantised) and isinstance(mesh.job(stream.id).result(), Quantised)
    out = np.zeros((4, 5), np.int32)
    assert mesh.submit(A, B).result(out=out) is out and np.array_equal(out, C)


def test_many_jobs_are_followed_at_once(api: FakeApi, mesh: Mesh) -> None:
    api.steps = 4
    left = threading.Semaphore(0)
    jobs = [mesh.submit(A, B) for _ in range(40)]
    for job in jobs:
        job.add_done_callback(lambda _: left.release())
    assert all(left.acquire(timeout=10) for _ in jobs)


async def test_coroutines_await_and_follow(api: FakeApi) -> None:
    api.steps = 3
    async with AsyncMesh(api.url, KEY) as mesh:
        jobs = await asyncio.gather(*(mesh.submit(A, B) for _ in range(3)))
        seen = [now.cells_done async for now in jobs[0].follow()]
        assert seen == [0, 10, 20]
        assert all(np.array_equal(c, C) for c in await asyncio.gather(*jobs))
        assert np.array_equal(await (await mesh.job("j1")), C)
        with pytest.raises(InvalidInput, match="visible ASCII"):
            await mesh.submit(A, B, idempotency_key="a b")


async def test_a_follower_that_is_refused_only_says_so(api: FakeApi, caplog: pytest.LogCaptureFixture) -> None:
    api.steps, api.streams = FOREVER, False
    async with AsyncMesh(api.url, KEY) as mesh:
        await mesh.submit(A, B, on_progress=lambda _: None)
        api.refuse = Problem(401, "this API key is not known")
        for _ in range(500):
            if "no longer followed" in caplog.text:
                return
            await asyncio.sleep(0.01)
    raise AssertionError("nothing was said")


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter()
    assert meter.rate(0, 0) is None and meter.rate(1, 0) is None
    assert meter.rate(2, 100) == 50
    assert [meter.rate(2 + s, 100 + 1000 * s) for s in range(1, 30)][-1] == 1000
    assert meter.rate(100, 5) is None, "it began anew"
    status = {"state": "running", "progress": {"cells": 100, "cells_done": 40}}
    assert Progress.of(status, 20.0).seconds_left == 3 and Progress.of(status).seconds_left is None
    assert Progress.of(status, 20.0) == Progress.of(status), "a rate is no change"


def test_event_streams_are_parsed_by_the_line() -> None:
    parser = EventParser()
    lines = [": hello", "", "event: progress", "data: {", "data:}", "id: 7", "", "data: x", ""]
    assert [found for line in lines if (found := parser.line(line))] == [("progress", "{\n}"), ("message", "x")]
    with pytest.raises(NoStream):
        for _ in range(6):
            parser.line("data: " + "x" * (1 << 20))


async def test_a_deadline_is_never_lost_among_events(api: FakeApi) -> None:
    api.steps = FOREVER
    async with AsyncMesh(api.url, KEY) as mesh:
        job = await mesh.submit(A, B)

        async def look() -> None:
            with pytest.raises(JobTimeout):
                await job.wait(lambda _: None, 0.02)

        async with asyncio.timeout(60):
            for _ in range(60):
                await look()
