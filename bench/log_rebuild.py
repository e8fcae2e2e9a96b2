"""Folding a long log anew: every service of a real mesh from nothing, all at once and each alone; and restarts."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import nats
from nats.js.api import DeliverPolicy

from bench.log_store import LogOnly, copied, costs, cpu_s, figure, memory, profiled, story_store, write_profiles
from shardy_common.log.client import connect
from shardy_common.replies import rebuild
from shardy_common.stack import SERVICES, Stack

FOLDING = ("gateway", "matchmaker", "quorum", "dlq", "gossip-bridge")
SERVICE_S_MAX = 60
RESTART_S_MAX = 3
BULK = 5_000


class Alive:
    """When each life of a service first said that it is live (shardy_common/presence.py)."""

    def __init__(self, client: nats.NATS) -> None:
        self._client = client
        self.since: dict[str, dict[str, float]] = {name: {} for name in SERVICES}
        self._news = asyncio.Event()

    async def listen(self) -> None:
        async def heard(message: Any) -> None:
            said = json.loads(message.data)
            if said["state"] == "alive":
                self.since[message.subject.split(".")[1]].setdefault(said["life"], time.perf_counter())
                self._news.set()

        await self._client.subscribe("ctl.*.alive", cb=heard)

    async def life(self, service: str, number: int = 1, timeout_s: float = 600) -> float:
        """When its life of this number began to be live."""
        async with asyncio.timeout(timeout_s):
            while len(self.since[service]) < number:
                self._news.clear()
                await self._news.wait()
        return list(self.since[service].values())[number - 1]


async def run(events: int) -> list[dict[str, Any]]:
    store, facts = await story_store(events)
    figures = [
        figure(f"story_events_{_short(events)}", facts["events"], ""),
        figure(f"story_tasks_{_short(events)}", facts["tasks"], ""),
        figure(f"story_append_per_s_{_short(events)}", facts["events"] / facts["append_s"], "1/s"),
    ]
    with tempfile.TemporaryDirectory() as name, copied(store, Path(name)) as folder:
        async with LogOnly(folder) as log:
            bulk = await _bulk(log, facts["events"])
        figures.append(figure(f"bulk_sql_{_short(events)}_events_s", bulk, "s"))
        figures += await _mesh(folder, events, bulk)
    return figures


async def _mesh(folder: Path, events: int, bulk: float) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []
    size = _short(events)
    stack = Stack(folder, allow_same_address=True, env=profiled())
    starting = asyncio.create_task(_started(stack))
    try:
        client, began = await starting
        alive = Alive(client)
        await alive.listen()
        for service in FOLDING:
            seconds = await alive.life(service) - began
            used = costs(stack)[service]
            figures.append(figure(f"first_fold_{size}_at_once_{service}_s", seconds, "s", aim="< 60"))
            figures.append(figure(f"first_fold_{size}_at_once_{service}_cpu_s", used, "cpu s"))
        figures += [figure(f"memory_after_{size}_{name}_mib", kib / 1024, "MiB") for name, kib in memory(stack).items()]
        for service in FOLDING:
            await _settled(stack, service)
            before = costs(stack)
            (answer,) = await rebuild(client, service)
            used = cpu_s(stack.processes[service].pid) - before[service]
            aim = f"< {SERVICE_S_MAX}"
            figures.append(
                figure(
                    f"rebuild_{size}_events_{service}_s",
                    answer["seconds"],
                    "s",
                    f"bulk_sql_{size}_events_s",
                    bulk,
                    aim,
                )
            )
            figures.append(figure(f"rebuild_{size}_events_{service}_cpu_s", used, "cpu s"))
        slowest = max(f["value"] for f in figures if f["name"] in {f"rebuild_{size}_events_{s}_s" for s in FOLDING})
        figures.append(figure(f"rebuild_{size}_events_s", slowest, "s", aim=f"< {SERVICE_S_MAX}"))
        await write_profiles(stack)
        for service in FOLDING:
            known = len(alive.since[service])
            killed = time.perf_counter()
            stack.kill(service)
            seconds = await alive.life(service, known + 1) - killed
            figures.append(figure(f"restart_{size}_events_{service}_s", seconds, "s", aim=f"< {RESTART_S_MAX}"))
            used = cpu_s(stack.processes[service].pid)
            figures.append(figure(f"restart_{size}_events_{service}_cpu_s", used, "cpu s"))
        slowest = max(f["value"] for f in figures if f["name"] in {f"restart_{size}_events_{s}_s" for s in FOLDING})
        figures.append(figure("restart_snapshot_s", slowest, "s", aim=f"< {RESTART_S_MAX}"))
        await client.close()
    finally:
        await stack.stop()
    return figures


async def _started(stack: Stack) -> tuple[nats.NATS, float]:
    """The stack begins to start: a long log takes longer to fold than a start may take, so nobody waits for it here."""
    began = time.perf_counter()
    stack._ready = _no_wait  # type: ignore[method-assign]
    await stack.start()
    while True:
        try:
            client = await connect(stack.nats_url, name="bench", seed_file=stack.seed_file(), reconnect=False)
            return client, began
        except (OSError, nats.errors.Error):
            await asyncio.sleep(0.02)


async def _no_wait() -> None:
    return None


async def _quiet(_: Exception) -> None:
    return None


async def _settled(stack: Stack, service: str, patience_s: float = 30) -> None:
    """Until a service has nothing left to do."""
    for _ in range(int(patience_s)):
        before = costs(stack)[service]
        await asyncio.sleep(1)
        if costs(stack)[service] - before < 0.2:
            return


async def _bulk(log: LogOnly, count: int) -> float:
    """The limit: nats-py's ordered consumer, and each event a row of (sequence, subject, bytes); nothing decoded."""
    client = None
    while client is None:
        try:
            client = await nats.connect(log.nats_url, error_cb=_quiet)
        except (OSError, nats.errors.Error):
            await asyncio.sleep(0.1)
    connection = sqlite3.connect(log.data_dir / "bulk.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, subject TEXT, body BLOB)")
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    rows: list[tuple[int, str, bytes]] = []
    seen = 0

    async def take(message: Any) -> None:
        nonlocal seen
        seen += 1
        rows.append((seen, message.subject, message.data))
        if len(rows) == BULK or seen == count:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
            rows.clear()
        if seen == count:
            done.set_result(None)

    started = time.perf_counter()
    await client.jetstream().subscribe(
        ">", stream="EVENTS", ordered_consumer=True, cb=take, deliver_policy=DeliverPolicy.ALL
    )
    await asyncio.wait_for(done, 600)
    seconds = time.perf_counter() - started
    connection.close()
    await client.close()
    return seconds


def _short(count: int) -> str:
    """1000000 as 1m."""
    for mark, size in (("m", 1_000_000), ("k", 1_000)):
        if count >= size and count % size == 0:
            return f"{count // size}{mark}"
    return str(count)
