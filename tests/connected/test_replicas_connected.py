"""Two gateways, two matchmakers, two quorums: they share the work, and what one leaves the other takes up."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from meshkit import PATIENCE_S, SLOW, Workers, api, check_log, int8, product, same, until

from bench.faults.logs import opened_log, read_log
from shardy_client import AsyncMesh
from shardy_common.log import Recorded
from shardy_common.rebuild import rebuild_command
from shardy_common.replies import statuses
from shardy_common.stack import Stack
from shardy_common.wire import events as ev
from shardy_gateway.passes import Passes, shared_key

pytestmark = pytest.mark.slow
SHARED = ("matchmaker", "quorum")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def twins(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(
        tmp_path_factory.mktemp("twins"),
        allow_same_address=True,
        gateways=2,
        replicas=dict.fromkeys(SHARED, 2),
    ) as running:
        await until(lambda: both_see_each_other(running), "both of each see each other")
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def crew(twins: Stack, tmp_path: Path) -> AsyncIterator[Workers]:
    workers = Workers(twins, tmp_path)
    try:
        yield workers
    finally:
        await workers.stop()


async def asked(stack: Stack, service: str) -> dict[str, dict[str, Any]]:
    """Status by instance."""
    async with opened_log(stack) as log:
        return {status["instance"]: status for status in await statuses(log.client, service)}


async def both_see_each_other(stack: Stack) -> bool:
    for service in (*SHARED, "gateway"):
        found = await asked(stack, service)
        if set(found) != {"0", "1"} or any(s["replicas"] != ["0", "1"] or not s["live"] for s in found.values()):
            return False
    return True


async def healthz(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        return (await http.get(url + "/healthz")).json()


async def run_jobs(stack: Stack, rng: np.random.Generator, count: int, policies: tuple[str, ...]) -> list[str]:
    """Jobs through both gateways in turn, at once; each result is read from the gateway that did not take it."""
    jobs = []
    async with contextlib.AsyncExitStack() as open_:
        meshes = [await open_.enter_async_context(AsyncMesh(url, stack.api_key)) for url in stack.urls]
        for number in range(count):
            a, b = int8(rng, 12, 32), int8(rng, 32, 6)
            policy = policies[number % len(policies)]
            job = await meshes[number % 2].submit_matmul(a, b, policy=policy, task_rows=2)
            jobs.append((job, product(a, b)))
        for number, (job, wanted) in enumerate(jobs):
            await job.wait(timeout_s=150)
            other = meshes[1 - number % 2]
            await until(lambda other=other, job=job: ended(other, job.id), "the other gateway knows its end")
            same(await (await other.job(job.id)).result(), wanted)
    return [job.id for job, _ in jobs]


async def ended(mesh: AsyncMesh, job: str) -> bool:
    return (await (await mesh.job(job)).status())["state"] == "completed"


async def test_both_of_each_do_their_share(twins: Stack, crew: Workers, rng: np.random.Generator) -> None:
    await crew.start("ada", "bo", url=twins.urls[0])
    await crew.start("cy", "dee", url=twins.urls[1])
    seen = [await healthz(url) for url in twins.urls]
    assert [(h["gateway"], h["workers"]) for h in seen] == [("gateway-0", 2), ("gateway-1", 2)]
    for job in await run_jobs(twins, rng, 24, ("quorum", "audit")):
        await check_log(twins, job)
    for service in SHARED:
        found = await asked(twins, service)
        assert all(status["appended"] > 0 for status in found.values()), (service, found)
        assert all({"conflicts", "host"} <= status.keys() for status in found.values())
    events = [e.event for e in await read_log(twins)]
    assert {e.gateway for e in events if isinstance(e, ev.WorkerJoined)} == {"gateway-0", "gateway-1"}


@pytest.mark.parametrize("service", SHARED)
async def test_the_other_takes_up_what_a_frozen_replica_leaves(
    twins: Stack, crew: Workers, rng: np.random.Generator, service: str
) -> None:
    """A stopped process says no goodbye: its share moves when it has been silent for three seconds. When it wakes, its
    view is an old one, and nothing comes of that."""
    await crew.start("ada", "bo", "cy")
    pid = twins.processes[f"{service}-1"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        done = await run_jobs(twins, rng, 6, ("quorum", "audit"))
        found = await asked(twins, service)
        assert set(found) == {"0"} and found["0"]["replicas"] == ["0"]
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: both_see_each_other(twins), "the sleeper is back")
    for job in [*done, *await run_jobs(twins, rng, 6, ("quorum", "audit"))]:
        await check_log(twins, job)
    assert twins.processes[f"{service}-1"].pid == pid, "it was not started again"


async def test_what_one_gateway_told_the_other_knows(twins: Stack, crew: Workers, rng: np.random.Generator) -> None:
    """A gateway that slept through a whole job is asked for its result, and answers before it has folded any of it."""
    await crew.start("ada", "bo", "cy")  # at the first gateway
    pid = twins.processes["gateway-1"].pid
    a, b = int8(rng, 400, 32), int8(rng, 32, 6)
    async with AsyncMesh(twins.urls[0], twins.api_key) as mesh, api(twins) as http:
        for path in ("/result/c", "/receipt", "", "/events", "/tasks"):
            os.kill(pid, signal.SIGSTOP)
            try:
                job = await mesh.submit_matmul(a, b, task_rows=1)
                await job.wait(timeout_s=PATIENCE_S)
                asked = asyncio.create_task(http.get(f"{twins.urls[1]}/v1/jobs/{job.id}{path}"))
                await asyncio.sleep(0.2)
            finally:
                os.kill(pid, signal.SIGCONT)
            answer = await asked
            assert answer.status_code == 200, (path, answer.text)
            if path == "/result/c":
                same(np.load(io.BytesIO(answer.content)), product(a, b))
        await until(lambda: both_see_each_other(twins), "the sleeper is back")
        for path in ("/result/c", "/receipt", ""):
            answer = await http.get(f"{twins.urls[1]}/v1/jobs/j00000000000000000{path}")
            assert (answer.status_code, answer.json()["title"]) == (404, "No such job")


async def test_killed_replicas_of_each_kind_during_a_job(twins: Stack, crew: Workers, rng: np.random.Generator) -> None:
    await crew.start("ada", "bo", url=twins.urls[0], **SLOW)
    await crew.start("cy", url=twins.urls[1], **SLOW)
    a, b = int8(rng, 150, 64), int8(rng, 64, 16)
    async with AsyncMesh(twins.urls[0], twins.api_key) as mesh:
        job = await mesh.submit_matmul(a, b, task_rows=1)

        async def some() -> bool:
            return (await job.status())["progress"]["tasks_verified"] >= 15

        await until(some, "the job runs")
        for name in ("gateway-1", "matchmaker", "quorum-1"):
            assert twins.kill(name)
        await job.wait(timeout_s=150)
        same(await job.result(), product(a, b))
    await check_log(twins, job.id)
    await until(lambda: both_see_each_other(twins), "all are back")
    started = [e.event for e in await read_log(twins) if isinstance(e.event, ev.GatewayStarted)]
    assert Counter(e.gateway for e in started) == {"gateway-0": 1, "gateway-1": 2}, "under its name, by itself"


class Switch:
    """A balancer in small: a call of HTTP goes to the next gateway in turn, a socket to the one that cut() turned to.

    cut() ends every connection."""

    def __init__(self, urls: list[str]) -> None:
        ports = [int(url.rpartition(":")[2]) for url in urls]
        self._calls, self._turns = itertools.cycle(ports), itertools.cycle(ports)
        self._sockets = next(self._turns)
        self._open: set[asyncio.StreamWriter] = set()
        self.url = ""

    async def __aenter__(self) -> Switch:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        self._sockets = next(self._turns)
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.read(1 << 16)
        port = self._sockets if b" /ws/worker-join" in head else next(self._calls)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        far_writer.write(head)
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._open -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()


async def test_workers_behind_a_balancer_move_between_gateways_with_their_leases(
    twins: Stack, crew: Workers, rng: np.random.Generator
) -> None:
    """Operands and results too large for frames pass by HTTP, to whichever gateway it is; cut off, workers bring the
    leases that they hold to the other one. Every result counts once."""
    async with Switch(twins.urls) as switch:
        await crew.start("ada", "bo", "cy", url=switch.url, delay_ms=150.0)
        a, b = int8(rng, 1_200, 900), int8(rng, 900, 700)  # a task: 270 KB of operand a, 840 KB of result
        async with AsyncMesh(twins.urls[0], twins.api_key) as mesh:
            job = await mesh.submit_matmul(a, b, task_rows=300)
            small = await mesh.submit_matmul(a[:60, :50], b[:50, :9], task_rows=1)

            async def some() -> bool:
                return (await small.status())["progress"]["tasks_verified"] >= 5

            await until(some, "the jobs run")
            for cut in range(10):  # three times, and until one moved: between two leases a worker may hold none
                switch.cut()
                await asyncio.sleep(1.5)
                if cut >= 2 and _moved(await read_log(twins)):
                    break
            await job.wait(timeout_s=150)
            await small.wait(timeout_s=150)
            same(await job.result(), product(a, b))
            same(await small.result(), product(a[:60, :50], b[:50, :9]))
    events = [*await check_log(twins, job.id), *await check_log(twins, small.id)]
    counted = Counter(e.event.lease for e in events if isinstance(e.event, ev.ResultSubmitted))
    assert set(counted.values()) == {1}, "a result was recorded twice"
    assert _moved(await read_log(twins)), "nobody brought a lease along to the other gateway"


def _moved(events: list[Recorded]) -> int:
    """Joins with leases in hand at another gateway than the worker's last one."""
    last: dict[str, str] = {}
    moved = 0
    for event in (e.event for e in events if isinstance(e.event, ev.WorkerJoined)):
        moved += bool(event.held) and last.get(event.worker, event.gateway) != event.gateway
        last[event.worker] = event.gateway
    return moved


async def test_the_client_outlives_its_gateway(twins: Stack, crew: Workers, rng: np.random.Generator) -> None:
    """kill -9 of the gateway that took the job, while it runs: the client goes on at the other one, with one job."""
    await crew.start("ada", "bo", url=twins.urls[1], delay_ms=100.0)
    a, b = int8(rng, 400, 64), int8(rng, 64, 30)
    async with AsyncMesh(twins.urls, twins.api_key) as mesh:
        await mesh.jobs(1)
        taken_by = mesh.url
        job = await mesh.submit(a, b, task_rows=10, label="outlives its gateway")

        async def some() -> bool:
            return (await job.status())["progress"]["tasks_verified"] >= 2

        await until(some, "the job runs")
        twins.kill(
            next(n for n in twins.processes if n.startswith("gateway") and twins.urls.index(taken_by) == _nth(n))
        )
        same(await job.result(timeout=150), product(a, b))
        listed = [j for j in (await mesh.jobs(50))["jobs"] if j["label"] == "outlives its gateway"]
        assert [j["id"] for j in listed] == [job.id]
    await check_log(twins, job.id)
    await until(lambda: both_see_each_other(twins), "the gateway is back")


def _nth(name: str) -> int:
    return int(name.partition("-")[2] or 0)


async def test_a_session_token_holds_at_both_gateways_until_the_session_ends(twins: Stack, crew: Workers) -> None:
    """Made here with the gateways' own key, as they make it; for a session that is there, and for others."""
    await crew.start("ada", url=twins.urls[0])
    joins = [e.event for e in await read_log(twins) if isinstance(e.event, ev.WorkerJoined)]
    last, passes = joins[-1], Passes(shared_key(twins.data_dir / "projections" / "gateway.key"))
    assert "ada" in last.agent.split()

    async def answers(token: str) -> set[int]:
        async with httpx.AsyncClient(timeout=PATIENCE_S, headers={"Authorization": f"Bearer {token}"}) as http:
            return {(await http.get(f"{url}/v1/worker/blobs/{'0' * 64}")).status_code for url in twins.urls}

    token = passes.make(last.session, last.worker)
    assert await answers(token) == {404}, "known to both: there is only no such blob"
    assert await answers(token[:-1] + ("0" if token[-1] != "0" else "1")) == {401}
    assert await answers(passes.make("0" * 16, last.worker)) == {401}, "another session of the same worker"
    await crew.stop("ada")

    async def over() -> bool:
        return await answers(token) == {401}

    await until(over, "the token ends with the session")


async def test_rebuild_reaches_every_replica(twins: Stack, rng: np.random.Generator, crew: Workers) -> None:
    await crew.start("ada", "bo")
    await run_jobs(twins, rng, 2, ("quorum",))
    await asyncio.sleep(1)
    for service in ("quorum", "gateway", "dlq"):
        answers = await asyncio.to_thread(rebuild_command, twins.data_dir, service)
        assert [answer["instance"] for answer in answers] == (["0"] if service == "dlq" else ["0", "1"])
        assert len({answer["checksum"] for answer in answers}) == 1, "replicas fold the same log to the same rows"
    await until(lambda: both_see_each_other(twins), "they are live again")
    await run_jobs(twins, rng, 2, ("quorum",))


async def test_the_workers_of_a_gateway_that_nobody_replaces_are_not_lent_to_for_ever(
    twins: Stack, crew: Workers
) -> None:
    """Frozen, it looks dead: the other says so in its name. When it wakes it reads that, and its workers join again."""
    await crew.start("ada", url=twins.urls[1])
    pid = twins.processes["gateway-1"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        async with api(twins) as http:

            async def gone() -> bool:
                listed = (await http.get("/v1/workers")).json()["workers"]
                return all(not w["present"] for w in listed if "ada" in w["name"].split())

            await until(gone, "ada is taken for gone")
    finally:
        os.kill(pid, signal.SIGCONT)
    await crew.joined("ada")
    assert crew.running["ada"].returncode is None and twins.processes["gateway-1"].pid == pid
