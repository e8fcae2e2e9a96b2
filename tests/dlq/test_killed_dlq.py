"""kill -9 of the dlq between reading and recording, with a real nats-server: each letter and closing comes once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mesh_events import JOB, created, matmul, reopened, submitted
from nats_process import NatsProcess

from shardy_common.log import Append, JetStreamLog, read_all
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_common.wire.job import Tile

pytestmark = pytest.mark.connected
TILE = Tile(0, 8, 0, 4)
# The service as it is, but nothing that it proposes ever leaves the process.
DEAF = """
import asyncio
from shardy_common.log import JetStreamLog

async def never(*_):
    await asyncio.Event().wait()

JetStreamLog.append = never
from shardy_dlq.main import main
main()
"""


class Child:
    """The dlq as a process over a folder; stopped by its own process id."""

    def __init__(self, server: NatsProcess, folder: Path, *argv: str) -> None:
        environment = {**os.environ, "SHARDY_DATA_DIR": str(folder), "SHARDY_NATS_URL": server.url}
        self.process = subprocess.Popen([sys.executable, *argv], env=environment)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsProcess]:
    server = NatsProcess(tmp_path / "nats").start()
    yield server
    server.stop()


async def happened(log: JetStreamLog, events: list[ev.Event]) -> None:
    for event in events:
        (outcome,) = await log.append([Append(event, f"m/{event.subject}")])
        assert getattr(outcome, "seq", 0) > 0, outcome


def state_of(folder: Path) -> tuple[int, set[str]]:
    """Checkpoint, and what is wanted, as it stands in the file."""
    with contextlib.closing(sqlite3.connect(f"file:{folder}/projections/dlq-0.db?mode=ro", uri=True)) as file:
        wanted = {name for (name,) in file.execute("SELECT id FROM wanted WHERE open = 1")}
        return file.execute("SELECT checkpoint FROM _meta").fetchone()[0], wanted


async def until(look: Any, what: str) -> Any:
    for _ in range(600):
        with contextlib.suppress(sqlite3.Error):
            found = await look()
            if found:
                return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"never happened: {what}")


async def of_letters(log: JetStreamLog) -> list[Any]:
    reader = log.read(["dlq.*.*"], 0)
    found = [recorded.event async for recorded in read_all(reader)]
    await reader.close()
    return found


async def test_letters_that_were_read_and_not_recorded_are_recorded_once(server: NatsProcess, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    log = await JetStreamLog.open(server.url, name="test")
    await happened(
        log,
        [
            submitted(matmul()),
            created("t1", TILE, "a", "b"),
            ev.ResultFailed("t1", JOB, "t1-0", "a", "oom", "x"),
            ev.FraudDetected("t1", JOB, "b", "t1-1", "bb", "audit", 3, 2, "agent b"),
            ev.TaskUnresolved("t1", JOB, "given up"),
        ],
    )
    child = Child(server, folder, "-c", DEAF)
    try:

        async def wanted() -> bool:
            return state_of(folder) == (5, {"fraud-t1-1", "task-t1"})

        await until(wanted, "both letters are wanted, and the checkpoint is past their causes")
        child.kill()
        assert await of_letters(log) == []

        child = Child(server, folder, "-m", "shardy_dlq.main")
        await until(lambda: _recorded(log, 2), "both are recorded")
        letters = {event.entry: event for event in await of_letters(log)}
        assert set(letters) == {"fraud-t1-1", "task-t1"}
        assert letters["task-t1"].evidence["leases"] == "2" and "failed (oom)" in letters["task-t1"].evidence["lent"]
        child.kill()

        await happened(log, [ev.JobFailed(JOB, "x"), reopened(("again", TILE), entry="task-t1")])
        child = Child(server, folder, "-c", DEAF)

        async def to_close() -> bool:
            checkpoint, open_ones = state_of(folder)
            return checkpoint == 9 and open_ones == {"replayed/task-t1"}

        await until(to_close, "the closing is wanted")
        child.kill()
        child = Child(server, folder, "-m", "shardy_dlq.main")
        await until(lambda: _recorded(log, 3), "the letter is closed")
        await asyncio.sleep(1.5)
        events = await of_letters(log)
        assert len(events) == 3 and isinstance(events[-1], ev.DlqReplayed) and events[-1].entry == "task-t1"

        async def settled() -> bool:
            return state_of(folder) == (10, set())

        await until(settled, "nothing is wanted any more")
    finally:
        child.kill()
        await log.close()


async def test_poison_is_read_again_until_its_letter_is_there(server: NatsProcess, tmp_path: Path) -> None:
    """The checkpoint waits, so a killed reader meets the bytes again; a reader that meets them later writes nothing."""
    folder = tmp_path / "data"
    log = await JetStreamLog.open(server.url, name="test")
    await log.client.request("fraud.detected.t1", b"\xff odd", timeout=5)
    child = Child(server, folder, "-c", DEAF)
    try:

        async def begun() -> bool:
            return state_of(folder)[0] >= 0

        await until(begun, "the reader is there")
        await asyncio.sleep(1)
        assert state_of(folder)[0] == 0
        child.kill()
        child = Child(server, folder, "-m", "shardy_dlq.main")
        await until(lambda: _recorded(log, 1), "the poison's letter")
        child.kill()
        (letter,) = await of_letters(log)
        await happened(log, [ev.DlqDiscarded(letter.entry, "operator", "odd")])
        for suffix in ("", "-wal", "-shm"):
            Path(f"{folder}/projections/dlq-0.db{suffix}").unlink(missing_ok=True)
        # as long after as a rebuild may be: the log remembers no message id any more
        await shorten_window(log)
        child = Child(server, folder, "-m", "shardy_dlq.main")

        async def folded() -> bool:
            return state_of(folder)[0] == 3

        await until(folded, "all is folded anew")
        assert len(await of_letters(log)) == 2, "a closed letter is not opened again"
    finally:
        child.kill()
        await log.close()


async def shorten_window(log: JetStreamLog) -> None:
    import json

    info = json.loads((await log.client.request(f"$JS.API.STREAM.INFO.{subjects.STREAM}", b"", timeout=5)).data)
    config = {**info["config"], "duplicate_window": 100_000_000}
    reply = await log.client.request(f"$JS.API.STREAM.UPDATE.{subjects.STREAM}", json.dumps(config).encode(), timeout=5)
    assert "error" not in json.loads(reply.data), reply.data
    await asyncio.sleep(1)


async def _recorded(log: JetStreamLog, count: int) -> bool:
    return len(await of_letters(log)) >= count
