"""The check after every connected test would find a service whose state is not what its log says."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nats_process import NatsProcess
from replayed import SERVICES, Replayed

from shardy_common.log import Append, JetStreamLog, Projection
from shardy_common.service import FoldLoop
from shardy_common.wire import events as ev
from shardy_common.wire.job import Tile

pytestmark = pytest.mark.connected


@pytest.mark.parametrize("service", ["gossip-bridge", "gateway"])
async def test_a_changed_row_is_found(server: NatsProcess, tmp_path: Path, service: str) -> None:
    path = tmp_path / "projections" / f"{service}-0.db"
    kind = SERVICES[service]
    log = await JetStreamLog.open(server.url, name="test")
    projection = Projection(path, kind.tables, version=kind.version)
    loop = FoldLoop(service, log, projection, kind.make, tick_s=0.02)
    running = asyncio.create_task(loop.run())
    stack: Any = SimpleNamespace(
        data_dir=tmp_path, processes={}, open_log=lambda name: JetStreamLog.open(server.url, name=name)
    )
    replayed = Replayed(stack)

    async def happens(number: int) -> None:
        verified = ev.TaskVerified(f"t{number}", "j", Tile(0, 1, 0, 1), "aa" * 32, 4, ["w"], "quorum")
        joined = ev.WorkerJoined("w", f"s{number}", "g", "i", "at", "agent", "key", ev.Probe(1.0, 1.0, 64, "wasm"))
        await log.append([Append(verified, f"v{number}"), Append(joined, f"w{number}")])
        async with asyncio.timeout(30):
            while (await loop.status())["lag_events"] or loop.last_seq < (await log.last_seq()) - 1:
                await asyncio.sleep(0.02)
        loop.flush()

    try:
        for number in range(3):
            await happens(number)
            await replayed.check()
        assert replayed.compared == 3
        table, column = ("digests", "method") if service == "gossip-bridge" else ("workers", "body")
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute(f"UPDATE {table} SET {column} = X'90'")
            other.commit()
        with pytest.raises(AssertionError, match=f"{service}-0.db at event . is not what the log says"):
            await replayed.check()
    finally:
        loop.stop()
        await asyncio.wait_for(running, 10)
        projection.close()
        await log.close()
