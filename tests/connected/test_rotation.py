"""Rotations under load, on a real log with two gateways: one version of a circuit is active at every moment of the log,
no rotation is lost, and no lease is accepted under two versions, or under none."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from made_keys import made_vk
from meshkit import Workers, client, int8, product, same, until
from replayed import SERVICES, live_of

from bench.faults.logs import read_log
from shardy_common.log import JetStreamLog, Recorded
from shardy_common.log.packs import unpack
from shardy_common.rebuild import rebuild_command
from shardy_common.stack import Stack
from shardy_common.verifiers import PERIODS_MAX, Registry
from shardy_common.wire import events as ev

CIRCUIT, SHAPE = "product-8x384x8", [8, 384, 8]
VERSIONS = [f"v{number}" for number in range(12)]
ROTATIONS, RACERS = 10, 3
GRACE_S = 3_600  # none ends while the test runs
ASKED = 150  # latest leases that are asked about after each event


class Asking:
    """Reads the log as it grows, and asks after each batch what is accepted of the latest leases."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.leases: list[int] = []
        self.questions = self.seq = 0
        self.revoked: set[str] = set()

    async def follow(self, log: JetStreamLog, over: asyncio.Event) -> None:
        reader = log.read([], 0)
        try:
            while not over.is_set():
                for recorded in await reader.batch(200, 0.2):
                    for single in unpack(recorded):
                        self.take(single)
        finally:
            await reader.close()

    def take(self, recorded: Recorded) -> None:
        event, self.seq = recorded.event, recorded.seq
        if isinstance(event, (ev.TaskCreated, ev.TaskAssigned)) and self.registry.active:
            self.leases.append(recorded.seq)
        if recorded.subject.startswith("verifier."):
            assert self.registry.evolve(recorded), ("an event that does not hold", event)
            self.revoked |= {event.version} if isinstance(event, ev.VerifierRevoked) else set()
        if isinstance(event, (ev.VerifierRotated, ev.VerifierRevoked)) or not recorded.seq % 5:
            self.ask(recorded.at_ms)

    def ask(self, now_ms: int) -> None:
        for lease in self.leases[-ASKED:]:
            taking = [v for v in self.registry.versions if self.registry.accepts(v, lease, now_ms, development=True)]
            self.questions += len(self.registry.versions)
            pinned = self.registry.pinned(CIRCUIT, lease)
            assert pinned and taking == [] if pinned in self.revoked else taking == [pinned], (lease, taking, pinned)


async def work_on(stack: Stack, rng: np.random.Generator, over: asyncio.Event) -> None:
    """Jobs, so that leases stand between the rotations."""
    async with client(stack) as mesh:
        while not over.is_set():
            a, b = int8(rng, 24, 16), int8(rng, 16, 5)
            same(await mesh.matmul(a, b, task_rows=2, timeout_s=90), product(a, b))


async def rotate(http: httpx.AsyncClient, version: str, grace_s: int = GRACE_S) -> httpx.Response:
    body = {"circuit": CIRCUIT, "version": version, "grace_s": grace_s}
    return await http.post("/v1/verifiers/rotate", json=body)


async def same_at_both(one: httpx.AsyncClient, other: httpx.AsyncClient) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]]:
        lists = [(await http.get(f"/v1/verifiers?circuit={CIRCUIT}")).json()["verifiers"] for http in (one, other)]
        return lists[0] if lists[0] == lists[1] else []

    return await until(look, "both gateways agree")


def check_chain(events: list[Recorded]) -> list[tuple[str, str]]:
    """(former, version) of every rotation: each follows the one before, so one version is active behind each."""
    active, told = "", list[tuple[str, str]]()
    for recorded in events:
        event = recorded.event
        if isinstance(event, ev.VerifierRotated):
            assert event.former == active != event.version, event
            active = event.version
            told.append((event.former, event.version))
        elif isinstance(event, ev.VerifierRevoked) and event.version == active:
            assert event.successor, "a circuit was left without an active version"
            active = event.successor
    return told


async def test_rotations_under_load(tmp_path: Path, rng: np.random.Generator) -> None:
    chance, asking, answered = random.Random(5), Asking(), Counter[tuple[str, str]]()
    over = asyncio.Event()
    env = {"SHARDY_CANARY_EVERY": "0", "SHARDY_DEVELOPMENT": "true"}
    async with contextlib.AsyncExitStack() as held:
        stack = await held.enter_async_context(Stack(tmp_path / "mesh", allow_same_address=True, env=env, gateways=2))
        workers = Workers(stack, tmp_path)
        held.push_async_callback(workers.stop)
        await workers.start("gus", "hal")
        https = [
            await held.enter_async_context(httpx.AsyncClient(base_url=url, headers=_head(stack), timeout=60))
            for url in stack.urls
        ]
        for number, version in enumerate(VERSIONS):
            body = {
                "circuit": CIRCUIT,
                "version": version,
                "shape": SHAPE,
                "vk": made_vk(number),
                "dev": number % 2 == 0,
            }
            assert (await https[number % 2].post("/v1/verifiers", json=body)).status_code == 201
        await same_at_both(*https)
        assert (await rotate(https[0], "v0")).status_code == 200
        answered[("", "v0")] += 1

        log = await stack.open_log("asking")
        held.push_async_callback(log.close)
        async with asyncio.TaskGroup() as group:
            group.create_task(asking.follow(log, over))
            group.create_task(work_on(stack, rng, over))
            for number in range(ROTATIONS):
                leases = len(asking.leases)
                wanted = [VERSIONS[1 + number], *chance.choices(VERSIONS, k=RACERS)]
                answers = await asyncio.gather(*(rotate(https[i % 2], v) for i, v in enumerate(wanted)))
                for version, answer in zip(wanted, answers, strict=True):
                    if answer.status_code == 200:
                        answered[(answer.json()["former"] or "", version)] += 1
                    else:  # a racer had the same in mind, or has left it active
                        assert answer.json()["type"] == "/problems/version-is-active", answer.text
                await until(lambda at=leases: _true(len(asking.leases) > at), "leases come between the rotations")
            (last,) = [v["version"] for v in await same_at_both(*https) if v["status"] == "active"]
            successor = next(v for v in VERSIONS if v != last)
            revoked = await https[1].post(
                "/v1/verifiers/revoke", json={"version": last, "successor": successor, "why": "leaked"}
            )
            assert revoked.status_code == 200, revoked.text
            leases = len(asking.leases)
            await until(lambda: _true(last in asking.revoked and len(asking.leases) > leases), "leases after it")
            over.set()

        events = await read_log(stack)
        told = check_chain(events)
        assert Counter(told) == answered, "a rotation was lost, or happened twice"
        assert len(told) > ROTATIONS and asking.questions > 10_000 and len(asking.leases) > ROTATIONS
        assert max(len(v.periods) for v in asking.registry.versions.values()) <= PERIODS_MAX + 1
        print(f"{len(told)} rotations, {len(asking.leases)} leases, {asking.questions} questions")

        shown = await same_at_both(*https)
        assert [v["version"] for v in shown if v["status"] == "active"] == [successor]
        assert {v["version"]: v["grace_until_ms"] for v in shown} == {
            name: version.grace_until_ms or None for name, version in asking.registry.versions.items()
        }
        for service in ("gateway", "prover-verifier"):
            before = await _quiet(stack, service)
            rebuilt = await asyncio.to_thread(rebuild_command, stack.data_dir, service)
            assert {answer["checksum"] for answer in rebuilt} == before, service
            assert len(rebuilt) == (2 if service == "gateway" else 1)
        assert await same_at_both(*https) == shown


async def test_a_gateway_that_is_killed_loses_no_rotation(tmp_path: Path) -> None:
    """What was answered is in the log, once; what was not may be; and the other gateway goes on all the while."""
    answered = list[tuple[str, str]]()

    async def rotating(http: httpx.AsyncClient, versions: list[str], times: int) -> int:
        broken = 0
        for number in range(times):
            version = versions[number % len(versions)]
            try:
                answer = await rotate(http, version, 0)
            except httpx.TransportError:
                broken += 1
                await asyncio.sleep(0.1)
                continue
            if answer.status_code == 200:
                answered.append((answer.json()["former"] or "", version))
            else:  # the call whose answer was lost did it, or the gateway is only just back
                assert answer.status_code in (409, 503), answer.text
        return broken

    async with contextlib.AsyncExitStack() as held:
        stack = await held.enter_async_context(Stack(tmp_path / "mesh", gateways=2))
        https = [
            await held.enter_async_context(httpx.AsyncClient(base_url=url, headers=_head(stack), timeout=60))
            for url in stack.urls
        ]
        for number, version in enumerate(VERSIONS[:8]):
            body = {"circuit": CIRCUIT, "version": version, "shape": SHAPE, "vk": made_vk(number)}
            assert (await https[0].post("/v1/verifiers", json=body)).status_code == 201
        await same_at_both(*https)
        work = asyncio.gather(rotating(https[0], VERSIONS[:4], 40), rotating(https[1], VERSIONS[4:8], 40))
        for _ in range(3):
            await asyncio.sleep(0.4)
            stack.kill("gateway-1")
        _, broken = await work
        assert broken, "no call broke: nobody was killed in time"
        shown = await same_at_both(*https)
        told = check_chain(await read_log(stack))
        assert not Counter(answered) - Counter(told), "a rotation that was answered is lost"
        assert len(answered) > 20 and len(told) - len(answered) <= broken
        assert [v["version"] for v in shown if v["status"] == "active"] == [told[-1][1]]


async def _true(value: bool) -> bool:
    return value


def _head(stack: Stack) -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.operator_key}"}


async def _quiet(stack: Stack, service: str) -> set[str]:
    """Checksums of the files of a service, once they do not change any more."""

    def sums() -> set[str]:
        files = (stack.data_dir / "projections").glob(f"{service}-?.db")
        return {live_of(path, SERVICES[service].tables).checksum for path in files}

    async def look() -> set[str]:
        first = sums()
        await asyncio.sleep(1)
        return first if first == sums() and len(first) == 1 else set()

    return await until(look, "nothing is folded any more")
