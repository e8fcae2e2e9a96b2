"""Policy adaptive and canaries on real services: devices earn trust, work alone, and are tested without knowing it."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import numpy as np
from blake3 import blake3
from meshkit import Workers, api, check_log, client, int8, product, same, until

from bench.faults.logs import read_log
from shardy_common import trust
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

OFTEN = {"SHARDY_CANARY_EVERY": "10", "SHARDY_CANARY_GAP_S": "0.2"}


async def test_devices_earn_trust_work_alone_and_answer_canaries(tmp_path: Path, rng: np.random.Generator) -> None:
    async with Stack(tmp_path / "mesh", allow_same_address=True, env=OFTEN) as stack:
        workers = Workers(stack, tmp_path)
        try:
            await workers.start("gil", "hal")
            b = int8(rng, 1024, 1024)
            earning, alone = int8(rng, 12_288, 1024), int8(rng, 2_048, 1024)
            async with client(stack) as mesh, api(stack) as http:
                first = await mesh.submit_matmul(earning, b, redundancy=2, task_rows=256)
                await first.wait(timeout_s=300)
                second = await submit(http, alone, b)
                await until(lambda: completed(http, second), "the job is done", 300)
                part = (await http.get(f"/v1/jobs/{second}/result/c")).content
                same(np.load(io.BytesIO(part)), product(alone, b))
            verified = [e.event for e in await check_log(stack, second) if isinstance(e.event, ev.TaskVerified)]
            trusted = [event for event in verified if event.method == "trust"]
            assert trusted and {event.method for event in verified} <= {"trust", "quorum"}
            assert all(len(event.workers) == 1 for event in trusted)
            await until(lambda: canary_answered(stack), "a canary was answered")
            events = [recorded.event for recorded in await read_log(stack)]
            canaries = {e.job for e in events if isinstance(e, ev.JobSubmitted) and e.requester == "mesh"}
            assert canaries <= {e.job for e in events if isinstance(e, ev.CanaryPrepared)}
            async with api(stack) as http:
                listed = {job["id"] for job in (await http.get("/v1/jobs")).json()["jobs"]}
                assert listed == {first.id, second}, "canaries are nobody's jobs"
                assert (await http.get(f"/v1/jobs/{next(iter(canaries))}")).status_code == 404
                for worker in (await http.get("/v1/workers")).json()["workers"]:
                    shown = (await http.get(f"/v1/workers/{worker['id']}")).json()
                    assert not shown["trust"]["probation"] and shown["trust"]["faults"] == 0 and shown["frauds"] == []
                    assert shown["trust"]["checked_ops"] >= trust.PROBATION_OPS and shown["record"]["accepted"] > 0
                assert (await http.get("/v1/workers/nobody")).status_code == 404
                reply = await http.post("/v1/jobs", json=canary_job())
                assert reply.status_code == 422 and "canary" in reply.json()["detail"]
        finally:
            await workers.stop()


async def submit(http: httpx.AsyncClient, a: np.ndarray, b: np.ndarray) -> str:
    """A job of policy adaptive, over plain HTTP."""
    job: dict[str, object] = {"kind": "matmul", "policy": "adaptive", "redundancy": 2, "task_rows": 32}
    for name, array in (("a", a), ("b", np.ascontiguousarray(b.T))):
        digest = blake3(array.tobytes()).hexdigest()
        (await http.put(f"/v1/blobs/{digest}", content=array.tobytes())).raise_for_status()
        job[name] = {"digest": digest, "dtype": "int8", "rows": array.shape[0], "cols": array.shape[1]}
    reply = await http.post("/v1/jobs", json=job)
    assert reply.status_code == 201, reply.text
    return str(reply.json()["id"])


async def completed(http: httpx.AsyncClient, job: str) -> bool:
    state = (await http.get(f"/v1/jobs/{job}")).json()["state"]
    assert state in ("waiting", "running", "completed"), state
    return bool(state == "completed")


def canary_job() -> dict[str, object]:
    operand = {"digest": "0" * 64, "dtype": "int8", "rows": 1, "cols": 1}
    return {"kind": "matmul", "policy": "canary", "a": operand, "b": operand}


async def canary_answered(stack: Stack) -> bool:
    events = [recorded.event for recorded in await read_log(stack)]
    return any(isinstance(event, ev.TaskVerified) and event.method == "canary" for event in events)
