"""Appending, reading and applying events, each beside what does the same with less: one machine, one client."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import nats
from nats.js.api import DeliverPolicy

from bench.log_store import LogOnly, figure
from bench.log_story import Story
from shardy_common.log import Append, JetStreamLog, Projection, Recorded
from shardy_common.log.client import LogClient
from shardy_common.wire.events import Lease, TaskCreated, encode
from shardy_common.wire.job import Tile
from shardy_dlq import letters as dlq
from shardy_gateway import views as gateway
from shardy_gossip_bridge import directory
from shardy_matchmaker import core as matchmaker
from shardy_matchmaker.decide import Matchmaker
from shardy_quorum import core as quorum

EVENTS = 100_000
SYNC_EVENTS = 5_000
COMMIT_EVENTS = 5_000
CORES: dict[str, tuple[Callable[[], Any], Sequence[Any], int]] = {
    "gateway": (gateway.Views, gateway.TABLES, gateway.VERSION),
    "matchmaker": (lambda: matchmaker.MatchmakerCore(Matchmaker()), matchmaker.TABLES, matchmaker.VERSION),
    "quorum": (quorum.QuorumCore, quorum.TABLES, quorum.VERSION),
    "dlq": (dlq.Letters, dlq.TABLES, dlq.VERSION),
    "gossip-bridge": (directory.Directory, directory.TABLES, directory.VERSION),
}


async def run(events: int = EVENTS) -> list[dict[str, Any]]:
    items = list(islice(Story(events), events))
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        async with LogOnly(Path(name)) as stack:
            log = await stack.log()
            ours = await _appended(log, items)
            together = await _together(log, len(items))
            client = await nats.connect(stack.nats_url)
            sync = await _sync(client, items[:SYNC_EVENTS])
            limit = await _limit(log.client, items)
            figures += [
                figure("append_per_s", ours, "1/s", "append_sync_per_s", sync),
                figure("append_per_s", ours, "1/s", "append_limit_per_s", limit),
                figure("append_together_per_s", together, "1/s", "append_per_s", ours),
                figure("append_sync_per_s", sync, "1/s"),
                figure("append_limit_per_s", limit, "1/s"),
            ]
            recorded, ours = await _read(log, len(items))
            peer = await _ordered(client, len(items))
            figures += [
                figure("read_per_s", ours, "1/s", "read_nats_py_per_s", peer, "> 1"),
                figure("read_nats_py_per_s", peer, "1/s"),
            ]
            await client.close()
            await log.close()
        for service in CORES:
            figures += _applied(service, recorded, Path(name))
    return figures


async def _appended(log: JetStreamLog, items: list[Append]) -> float:
    """With message ids, traceparents and expectations, each a message of its own, as the story tells them."""
    started = time.perf_counter()
    outcomes = await log.appender.append(items)
    seconds = time.perf_counter() - started
    wrong = [outcome for outcome in outcomes if not hasattr(outcome, "seq")]
    if wrong:
        raise RuntimeError(f"the log refused {len(wrong)} of {len(items)} events: {wrong[0]}")
    return len(items) / seconds


async def _together(log: JetStreamLog, count: int) -> float:
    """Tasks that a job is carved into, as the matchmaker appends them: many to a message."""
    lease = Lease("j-0-0-000000-0", "12D3KooW" + "x" * 44, "session0", 1_700_000_060_000)
    items = [
        Append(TaskCreated(f"jbench-0-{i}-000000", "jbench", Tile(i, 1, 0, 16), [lease, lease]), f"create/{i}")
        for i in range(count)
    ]
    started = time.perf_counter()
    await log.append(items)
    return count / (time.perf_counter() - started)


async def _sync(client: nats.NATS, items: list[Append]) -> float:
    """One after another, each waiting for its answer: nats-py's publish, with the message id alone."""
    stream = client.jetstream()
    started = time.perf_counter()
    for item in items:
        headers = {"Nats-Msg-Id": f"sync/{item.msg_id}"}
        await stream.publish(f"worker.bench.{item.event.entity_id}", encode(item.event), headers=headers)
    return len(items) / (time.perf_counter() - started)


async def _limit(client: LogClient, items: list[Append]) -> float:
    """The server alone: the same bytes, pipelined, with no header and no answer asked but for the last."""
    bodies = [encode(item.event) for item in items]
    started = time.perf_counter()
    commands = [b"PUB worker.limit.x %d\r\n%b\r\n" % (len(body), body) for body in bodies]
    for start in range(0, len(commands), 5_000):
        await client.send_raw(commands[start : start + 5_000])
    await client.request("worker.limit.x", b"", timeout=60)
    return len(items) / (time.perf_counter() - started)


async def _read(log: JetStreamLog, count: int) -> tuple[list[Recorded], float]:
    """The first `count` events, decoded."""
    reader = log.read([], 0)
    found: list[Recorded] = []
    started = time.perf_counter()
    while len(found) < count:
        found += await reader.batch(2_000, 5.0)
    seconds = time.perf_counter() - started
    await reader.close()
    return found[:count], len(found) / seconds


async def _ordered(client: nats.NATS, count: int) -> float:
    """nats-py's own ordered consumer with a callback, bytes not decoded."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    seen = 0

    async def take(_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            done.set_result(None)

    started = time.perf_counter()
    subscription = await client.jetstream().subscribe(
        ">", stream="EVENTS", ordered_consumer=True, cb=take, deliver_policy=DeliverPolicy.ALL
    )
    await asyncio.wait_for(done, 300)
    seconds = time.perf_counter() - started
    await subscription.unsubscribe()
    return count / seconds


def _applied(service: str, recorded: list[Recorded], folder: Path) -> list[dict[str, Any]]:
    """Fold, rows and commits of a service, beside SQLite writing those rows again and nothing else."""
    make, tables, version = CORES[service]
    core = make()
    projection = Projection(folder / f"{service}.db", tables, version=version)
    core.load(projection)
    if hasattr(core, "flush"):
        core.flush = lambda: None
    written: list[dict[str, list[Sequence[Any]]]] = []
    started = time.process_time()
    for start in range(0, len(recorded), COMMIT_EVENTS):
        batch = recorded[start : start + COMMIT_EVENTS]
        for event in batch:
            core.evolve(event)
        rows = core.rows()
        projection.commit(rows, batch[-1].seq)
        written.append(
            {table: list(some) for table, some in rows.items() if not table.startswith("-")}
        )  # not what left
    ours = len(recorded) / (time.process_time() - started)
    projection.close()
    bare = len(recorded) / max(_bare(folder / f"{service}-bare.db", written), 1e-9)
    count = sum(len(some) for rows in written for some in rows.values())
    return [
        figure(f"apply_per_s_{service}", ours, "1/cpu s", f"bare_sqlite_per_s_{service}", bare),
        figure(f"bare_sqlite_per_s_{service}", bare, "1/cpu s"),
        figure(f"rows_per_event_{service}", count / len(recorded), ""),
    ]


def _bare(path: Path, written: list[dict[str, list[Sequence[Any]]]]) -> float:
    """Processor seconds to insert the same rows in the same transactions into tables with nothing but a row id."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    widths = {table: len(some[0]) for rows in written for table, some in rows.items() if some}
    for table, width in widths.items():
        connection.execute(f"CREATE TABLE {table} ({','.join(f'c{i}' for i in range(width))})")
    started = time.process_time()
    for rows in written:
        connection.execute("BEGIN IMMEDIATE")
        for table, some in rows.items():
            if some:
                connection.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * widths[table])})", some)
        connection.execute("COMMIT")
    seconds = time.process_time() - started
    connection.close()
    return seconds
