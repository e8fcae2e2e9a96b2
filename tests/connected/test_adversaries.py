"""What bad input and bad workers get, line by line: where each is tried, and the ones that are tried here.

Every line ends in a clear refusal or in somebody else doing the work; nothing is lost, and the others go on.
"""

from __future__ import annotations

import ast
import asyncio
import secrets
from pathlib import Path

import httpx
import numpy as np
import pytest
from meshkit import Workers, api, check_log, int8, of_job, product, same, until, workers_named
from rawsocket import RawWorker

from bench.faults.logs import read_log
from shardy_client import AsyncMesh
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

HERE = Path(__file__).parent
LINES = {
    "wrong dtype or shape": "test_api_refusals.py::test_jobs_that_cannot_be",
    "NaN and infinite bounds": "test_api_refusals.py::test_jobs_that_cannot_be",
    "k too large": "test_api_refusals.py::test_jobs_that_cannot_be",
    "unknown kind or policy": "test_api_refusals.py::test_jobs_that_cannot_be",
    "truncated blob, digest mismatch": "test_api_refusals.py::test_blobs",
    "oversized blob": "test_api_refusals.py::test_bodies_too_large_are_refused_unread",
    "bad or missing key": "test_api_refusals.py::test_keys",
    "no key, or a revoked one, at every call": "../api/test_guarded_routes.py::test_none_answers_without_a_key",
    "an expired key": "../api/test_keys.py::test_expiry",
    "a key without the scope, at every call": "../api/test_guarded_routes.py::test_none_answers_without_the_scope",
    "more calls or bytes than a key may have": "../api/test_uploads_api.py::test_the_limits_of_a_gateway",
    "too many uploads of one owner": "../api/test_uploads_api.py::test_an_owner_has_so_many",
    "an idempotency key of another job": "../api/test_idempotency.py::test_the_same_key_gives_the_same_job",
    "a full disk": "test_full_disk.py::test_an_upload_is_refused_with_a_time_to_come_back_and_succeeds_then",
    "a full disk under results": "test_full_disk.py::test_results_wait_for_room_and_none_is_lost",
    "a connection that breaks in an upload": "../api/test_uploads_api.py::test_what_came_before_a_break_is_kept",
    "malformed frame": "test_worker_socket.py::test_malformed_first_messages",
    "oversized frame": "test_worker_socket.py::test_oversized_frames",
    "unsupported protocol version": "test_worker_socket.py::test_malformed_first_messages",
    "wrong signature": "test_worker_socket.py::test_signatures_that_do_not_fit",
    "wrong signature of results": "test_worker_socket.py::test_result_signatures_that_do_not_fit",
    "a signature used again": "test_worker_socket.py::test_a_signature_cannot_be_used_again",
    "floods": "test_worker_socket.py::test_too_many_frames",
    "lies": "test_dishonest_workers.py::test_a_raw_lie_is_fraud_only_when_the_bytes_are_wrong",
    "lies in a stream": "test_dishonest_workers.py::test_a_liar_in_a_stream_is_outvoted_and_proven",
    "colludes": "test_dishonest_workers.py::test_colluders_are_both_caught_by_audits",
    "copies": "test_adversaries.py::test_a_worker_cannot_see_what_others_answered",
    "collides with another's session": "test_worker_socket.py::test_the_same_key_twice",
    "answers late": "test_dishonest_workers.py::test_a_worker_that_never_answers_is_outlived",
    "answers twice": "test_worker_socket.py::test_results_that_do_not_fit",
    "signs with another's key": "test_worker_socket.py::test_result_signatures_that_do_not_fit",
    "claims a GPU it has not got": "test_adversaries.py::test_a_claimed_gpu_delays_only_its_own_tasks",
    "holds leases without answering": "test_dishonest_workers.py::test_a_worker_that_never_answers_is_outlived",
}


@pytest.mark.parametrize("line", LINES)
async def test_every_line_has_its_test(line: str) -> None:
    file, _, name = LINES[line].partition("::")
    tests = {node.name for node in ast.parse((HERE / file).read_text()).body if hasattr(node, "name")}
    assert name in tests, f"{line}: {LINES[line]} is gone"


async def test_a_worker_cannot_see_what_others_answered(
    honest: Workers, stack: Stack, mesh: AsyncMesh, rng: np.random.Generator
) -> None:
    """It fetches what its own leases name. Results of others, and operands of other jobs, look as if they were not
    there, even to somebody who knows their digest; so nobody can copy an answer instead of computing it."""
    a, b = int8(rng, 40, 16), int8(rng, 16, 5)
    other = await mesh.put(int8(rng, 4096, 128))
    async with RawWorker(stack, "copycat") as raw:
        await raw.join()
        job = await mesh.submit_matmul(a, b, redundancy=4, task_rows=10)
        lease = await raw.lease_of(job.id)
        answered: list[str] = []

        async def another_has_answered() -> bool:
            events = of_job(await read_log(stack), job.id)
            answered[:] = [
                e.event.digest
                for e in events
                if isinstance(e.event, ev.ResultSubmitted) and e.event.task == lease["task"]
            ]
            return bool(answered)

        await until(another_has_answered, "another replica has answered")
        async with raw.http() as http:
            for digest in (answered[0], other.digest):
                assert (await http.get(f"/v1/blobs/{digest}")).status_code == 401, "a session is no API key"
                refused = await http.get(f"/v1/worker/blobs/{digest}")
                assert refused.status_code == 404 and refused.json()["detail"] == "none of your leases names this blob"
            own = await http.get(f"/v1/worker/blobs/{lease['p']['a']['d']}", headers={"Range": "bytes=0-3"})
            assert own.status_code == 206 and own.content == a.tobytes()[:4]
        await raw.leave()
    await job.cancel()


async def test_a_claimed_gpu_delays_only_its_own_tasks(
    honest: Workers, stack: Stack, http: httpx.AsyncClient, mesh: AsyncMesh, rng: np.random.Generator
) -> None:
    """A claim of a petaflop on a made-up adapter is cut to what the gateway's clock allows; what it then holds too
    long goes to others, nobody calls it fraud, and the job is right."""
    a, b = int8(rng, 600, 32), int8(rng, 32, 16)
    async with RawWorker(stack, "boaster") as raw:
        tier = await raw.join(gops=1e6, backend="webgpu", gpu="Imaginary 9000", memory_mib=2048)
        (shown,) = await workers_named(http, "boaster")
        assert shown["gops"] < 1e6 and tier["max_leases"] <= 512
        beating = asyncio.create_task(_beat(raw))
        job = await mesh.submit_matmul(a, b, task_rows=100)
        await raw.lease_of(job.id)
        await job.wait(timeout_s=90)
        beating.cancel()
        same(await job.result(), product(a, b))
        await check_log(stack, job.id)
        (shown,) = await workers_named(http, "boaster")
        assert not shown["banned"]
        await raw.leave()


async def test_refusals_are_counted_and_written_with_their_trace(stack: Stack) -> None:
    """What somebody is refused can be found again: by kind, and by the trace that the caller names."""
    trace = secrets.token_hex(16)
    async with api(stack, stack.operator_key) as operator, api(stack, "wrong") as stranger:
        before = (await operator.get("/v1/refusals")).json()
        answer = await stranger.get("/v1/jobs", headers={"traceparent": f"00-{trace}-{'1' * 16}-01"})
        assert answer.status_code == 401
        async with RawWorker(stack) as raw:
            await raw.raw("not a frame")
            assert (await raw.closed()).code == 4400
        after = (await operator.get("/v1/refusals")).json()
    assert after["since_ms"] == before["since_ms"]
    for kind, name in (("calls", "no-valid-api-key"), ("sockets", "4400")):
        assert after[kind][name] == before[kind].get(name, 0) + 1
    (line,) = [
        line for line in stack.processes["gateway"].log.read_text(errors="replace").splitlines() if trace in line
    ]
    assert "GET /v1/jobs: 401 no-valid-api-key" in line


async def _beat(raw: RawWorker) -> None:
    while True:
        await raw.send({"t": "heartbeat"})
        await asyncio.sleep(5)
