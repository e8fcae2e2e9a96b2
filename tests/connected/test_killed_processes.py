"""kill -9 of every process while a job runs: it completes with the right bytes, one verdict a task, and no fraud."""

from __future__ import annotations

import asyncio
import json
import re

import numpy as np
import pytest
from meshkit import SLOW, Workers, api, check_log, client, int8, product, same, until

from bench.faults.logs import opened_log
from shardy_client import AsyncMesh
from shardy_client.jobs import AsyncJob
from shardy_common.stack import SERVICES, Stack

pytestmark = pytest.mark.slow
TASKS = 240


async def running_job(
    stack: Stack, mesh: AsyncMesh, rng: np.random.Generator, policy: str = "quorum", done: int = 20
) -> tuple[AsyncJob, np.ndarray]:
    """A job of small tasks, some of them verified, most not."""
    a, b = int8(rng, TASKS, 256), int8(rng, 256, 64)
    job = await mesh.submit_matmul(a, b, policy=policy, task_rows=1)

    async def some() -> bool:
        return (await job.status())["progress"]["tasks_verified"] >= done

    await until(some, "the job runs")
    assert not job.ended, "the job was over before anything could be killed"
    return job, product(a, b)


async def completes(stack: Stack, job: AsyncJob, wanted: np.ndarray) -> None:
    status = await job.wait(timeout_s=150)
    assert status["frauds"] == [] and status["progress"]["tasks_verified"] == TASKS
    same(await job.result(), wanted)
    await check_log(stack, job.id)


async def restarted(stack: Stack, name: str, old: int) -> None:
    """The supervisor has put another process in its place, and it follows the log to its end."""

    async def up() -> bool:
        return stack.processes[name].pid not in (0, old)

    await until(up, f"{name} runs again")
    if name in SERVICES:
        await until(lambda: live(stack, name), f"{name} is live")


async def live(stack: Stack, name: str) -> bool:
    async with opened_log(stack) as log:
        try:
            reply = await log.client.request(f"ctl.{name}.status", b"{}", timeout=2)
        except Exception:  # not subscribed yet: whatever the client raises, it is asked again
            return False
        return bool(json.loads(reply.data)["live"])


@pytest.mark.parametrize("name", ["gateway", "matchmaker", "quorum", "nats-server"])
async def test_kill_what_the_job_passes_through(
    crew: Workers, wreck: Stack, rng: np.random.Generator, name: str
) -> None:
    async with client(wreck) as mesh:
        job, wanted = await running_job(wreck, mesh, rng, policy="audit" if name == "quorum" else "quorum")
        old = wreck.kill(name)
        assert old
        await completes(wreck, job, wanted)
        await restarted(wreck, name, old)


async def test_kill_what_the_job_does_not_need(crew: Workers, wreck: Stack, rng: np.random.Generator) -> None:
    async with client(wreck) as mesh:
        job, wanted = await running_job(wreck, mesh, rng)
        names = ("dlq", "prover-verifier", "gossip-bridge")
        old = {name: wreck.kill(name) for name in names}
        assert all(old.values())
        await completes(wreck, job, wanted)
        for name in names:
            await restarted(wreck, name, old[name])


async def test_kill_workers_one_after_another(crew: Workers, wreck: Stack, rng: np.random.Generator) -> None:
    """One of three while the others go on; then all, and new ones come."""
    async with client(wreck) as mesh:
        job, wanted = await running_job(wreck, mesh, rng)
        await crew.stop("fay", kill=True)
        await completes(wreck, job, wanted)

        job, wanted = await running_job(wreck, mesh, rng)
        await crew.stop(kill=True)
        await asyncio.sleep(0.5)
        before = (await job.status())["progress"]["tasks_verified"]
        assert before < TASKS and not job.ended
        await crew.start("gil", "hal", "ivy", **SLOW)
        await completes(wreck, job, wanted)


async def test_kill_everything_at_once(crew: Workers, wreck: Stack, rng: np.random.Generator) -> None:
    async with client(wreck) as mesh:
        job, wanted = await running_job(wreck, mesh, rng)
        old = {name: wreck.kill(name) for name in wreck.processes}
        assert all(old.values())
        await completes(wreck, job, wanted)
        for name, pid in old.items():
            await restarted(wreck, name, pid)
        workers = (await mesh.listing("workers"))["workers"]
        assert not any(w["banned"] for w in workers)
        async with api(wreck, wreck.operator_key) as operator:
            assert (await operator.get("/v1/dlq")).json()["entries"] == []
        for name in SERVICES:
            log = (wreck.data_dir / "logs" / f"{name}.log").read_text(errors="replace")
            assert not re.search(r"Traceback|ERROR", log), f"{name}: {log[-3000:]}"
