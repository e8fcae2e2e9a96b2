"""Snapshots shorten a fold and change nothing; a projection of another log, or of a lost end, is never used."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error as NatsError
from nats_process import NatsProcess
from test_projection import TABLES, Counting

from shardy_common import mending
from shardy_common.log import Append, Appended, JetStreamLog, LogState, MemoryLog, Projection, streams
from shardy_common.log import snapshots as snapshotting
from shardy_common.service import FoldLoop
from shardy_common.wire import events as ev


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshotting, "SNAPSHOT_EVENTS", 100)
    monkeypatch.setattr(snapshotting, "STOP_EVENTS", 30)
    monkeypatch.setattr(mending, "CONFIRM_S", 0.01)


async def written(log: Any, count: int, of: str = "m") -> None:
    there = await log.last_seq()
    items = [Append(ev.JobFailed(f"j{i % 7}", "x"), f"{of}{i}") for i in range(there, there + count)]
    assert all(isinstance(outcome, Appended) for outcome in await log.append(items))


@asynccontextmanager
async def running(log: Any, path: Path, version: int = 1) -> AsyncIterator[FoldLoop]:
    projection = Projection(path, TABLES, version=version)
    loop = FoldLoop("test", log, projection, Counting, tick_s=0.02)
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        loop.stop()
        await asyncio.wait_for(task, 20)
        projection.close()


async def folded(loop: FoldLoop, log: Any) -> str:
    """The checksum, once all is folded."""
    async with asyncio.timeout(20):
        while not loop.live.is_set() or (await loop.status())["checkpoint"] < await log.last_seq():
            await asyncio.sleep(0.01)
    return loop.projection.checksum()


async def anew(log: Any, path: Path) -> str:
    async with running(log, path) as loop:
        return await folded(loop, log)


def snapshots_of(path: Path) -> list[int]:
    return [found.checkpoint for found in snapshotting.found(path)]


async def history(log: MemoryLog, path: Path) -> str:
    """A projection with two snapshots and a tail, stopped; its checksum."""
    async with running(log, path) as loop:
        for _ in range(5):
            await written(log, 90)
            await folded(loop, log)
            await loop.snapshots.finished()
        status = await loop.status()
        assert status["snapshot_checkpoint"] == snapshots_of(path)[0] <= status["checkpoint"]
        assert len(snapshots_of(path)) == 2, "the newest two are kept"
        await written(log, 10)
        return await folded(loop, log)


def lose(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def damage(path: Path) -> None:
    """Pages in the middle become noise; the head still looks like a database."""
    lose(Path(f"{path}-none"))
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def no_database(path: Path) -> None:
    lose(path)
    path.write_bytes(b"not a database at all, " * 400)


def other_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE _meta SET version = 99")
        connection.commit()


def counting(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where each reader of the log began."""
    begun: list[int] = []
    read = MemoryLog.read

    def noted(self: MemoryLog, filters: Any, after: int) -> Any:
        begun.append(after)
        return read(self, filters, after)

    monkeypatch.setattr(MemoryLog, "read", noted)
    return begun


@pytest.mark.parametrize("harm", [lose, damage, no_database, other_version])
async def test_a_projection_that_is_unusable_begins_from_the_newest_snapshot(
    tmp_path: Path, harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, path = MemoryLog(lambda: 1), tmp_path / "p-0.db"
    live = await history(log, path)
    newest = snapshots_of(path)[0]
    await written(log, 25)
    harm(path)
    begun = counting(log, monkeypatch)
    async with running(log, path) as loop:
        started = await folded(loop, log)
        assert begun == [newest] and newest > 0
        rebuilt = await asyncio.wait_for(loop.rebuild(), 20)
        assert begun == [newest, 0], "a rebuild folds from the beginning, never from a snapshot"
        assert rebuilt["checksum"] == started != live
        assert snapshots_of(path)[1:] == [], "and leaves none of what was before"
    assert await anew(log, tmp_path / "other.db") == started


@pytest.mark.parametrize("harm", [damage, no_database, other_version])
async def test_an_unusable_snapshot_is_passed_over_with_a_line(
    tmp_path: Path,
    harm: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, path = MemoryLog(lambda: 1), tmp_path / "p-0.db"
    live = await history(log, path)
    lose(path)
    newest, older = snapshotting.found(path)
    harm(newest.path)
    begun = counting(log, monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert await anew(log, path) == live
    assert begun == [older.checkpoint]
    lines = [r.getMessage() for r in caplog.records if newest.path.name in r.getMessage()]
    assert len(lines) == 1 and "passed over" in lines[0]
    lose(path)
    for found in snapshotting.found(path):
        no_database(found.path)
    assert await anew(log, path) == live and begun[-1] == 0


async def test_a_clean_stop_makes_one_when_the_tail_is_long(tmp_path: Path) -> None:
    log, path = MemoryLog(lambda: 1), tmp_path / "p-0.db"
    await written(log, 29)
    await anew(log, path)
    assert snapshots_of(path) == []
    await written(log, 1)
    await anew(log, path)
    assert snapshots_of(path) == [30]
    await anew(log, path)
    assert snapshots_of(path) == [30]


async def test_a_build_makes_one_at_its_end(tmp_path: Path) -> None:
    log, path = MemoryLog(lambda: 1), tmp_path / "p-0.db"
    await written(log, 450)
    async with running(log, path) as loop:
        await folded(loop, log)
        await loop.snapshots.finished()
        assert snapshots_of(path) == [450], "without a further event, and none on the way"
        await asyncio.wait_for(loop.rebuild(), 20)
        await loop.snapshots.finished()
        assert snapshots_of(path) == [450]


async def test_a_disk_without_room_stops_no_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, path = MemoryLog(lambda: 1), tmp_path / "p-0.db"

    def full(_: Path) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(snapshotting, "take", full)
    async with running(log, path) as loop:
        await written(log, 150)
        await folded(loop, log)
        await loop.snapshots.finished()
        assert loop.snapshots.due == 250, "it is not tried again at once"
    assert snapshots_of(path) == [] and list(tmp_path.glob("*.tmp")) == []


async def test_snapshots_while_others_write(tmp_path: Path) -> None:
    """A copy is one moment of the projection: all rows of its checkpoint, none of a later one."""
    path = tmp_path / "p.db"
    projection = Projection(path, TABLES, version=1)
    projection.commit({"counts": [(str(i), 0, b"x" * 900) for i in range(4_000)]}, 1)
    copying = asyncio.create_task(asyncio.to_thread(snapshotting.take, path))
    n = 1
    while not copying.done():
        n += 1
        projection.commit({"counts": [(str(i), n, b"y" * 900) for i in range(4_000)]}, n)
        await asyncio.sleep(0)
    taken = await copying
    projection.close()
    with closing(sqlite3.connect(tmp_path / f"p.snapshot-{taken}.db")) as copy:
        assert copy.execute("SELECT DISTINCT n FROM counts").fetchall() in ([(taken,)], [(0,)] if taken == 1 else [])


async def test_a_log_that_lost_its_end_is_folded_anew_from_what_still_fits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, path = MemoryLog(lambda: 1), tmp_path / "p-0.db"
    await history(log, path)
    newest, older = snapshots_of(path)
    begun = counting(log, monkeypatch)
    del log.events[newest - 5 :]
    with caplog.at_level(logging.WARNING):
        rebuilt = await anew(log, path)
    assert begun == [older] and "ahead" not in caplog.text and "the log ends at" in caplog.text
    assert await anew(log, tmp_path / "other.db") == rebuilt


async def test_a_log_that_went_on_differently_is_folded_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A backup was restored, and the mesh worked on: sequences are there again, with other events."""
    log, path = MemoryLog(lambda: 1), tmp_path / "p-0.db"
    await history(log, path)
    del log.events[snapshots_of(path)[1] - 5 :]
    log._now_ms = lambda: 2
    await written(log, 500, of="n")
    with caplog.at_level(logging.WARNING):
        rebuilt = await anew(log, path)
    assert "another one than the log's" in caplog.text
    assert await anew(log, tmp_path / "other.db") == rebuilt


async def test_a_projection_of_another_log_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "p-0.db"
    await history(MemoryLog(lambda: 1), path)
    other = MemoryLog(lambda: 1)
    await written(other, 1_000)
    with caplog.at_level(logging.WARNING):
        rebuilt = await anew(other, path)
    assert caplog.text.count("it is of a log that was made at") == 2, (
        "the file, which the newest snapshot is of, and the other"
    )
    assert await anew(other, tmp_path / "other.db") == rebuilt


@pytest.mark.parametrize("lost", [False, True])
async def test_nothing_is_folded_after_a_break_before_the_log_has_been_compared(tmp_path: Path, lost: bool) -> None:
    """The log may have lost its end, and gone on with others' events under the same sequences: the reader goes on
    behind what it took, and sees nothing odd."""
    told, reactions, now_ms = asyncio.Event(), 0, 1

    class Slow(MemoryLog):
        async def state(self) -> LogState:
            await told.wait()
            return await super().state()

    async def react() -> None:
        nonlocal reactions
        reactions += 1

    log = Slow(lambda: now_ms)
    await written(log, 3)
    told.set()
    projection = Projection(tmp_path / "p-0.db", TABLES, version=1)
    loop = FoldLoop("test", log, projection, Counting, react=react, tick_s=0.01)
    running = asyncio.create_task(loop.run())
    await folded(loop, log)
    told.clear()
    for call in log.on_break:
        call()
    now_ms = 2
    if lost:
        del log.events[1:]
        await written(log, 3, of="instead")
    else:
        await written(log, 1, of="more")
    before = reactions
    await asyncio.sleep(0.3)
    assert loop.folded == 3 and not running.done() and reactions <= before + 1, "it waits for the comparison"
    told.set()
    if lost:
        with pytest.raises(RuntimeError, match="starts anew: its event 3 is another one"):
            await asyncio.wait_for(running, 30)
        assert loop.folded == 3
    else:
        await folded(loop, log)
        loop.stop()
        await running
    projection.close()


# -- on a real server -------------------------------------------------------------------------------------------------


async def back(log: JetStreamLog) -> None:
    """Until the log answers again."""
    async with asyncio.timeout(60):
        while True:
            try:
                await log.state()
                return
            except (NatsError, TimeoutError, OSError):
                await asyncio.sleep(0.1)


async def opened(server: NatsProcess) -> JetStreamLog:
    return await JetStreamLog.open(server.url, name="test")


@pytest.mark.connected
async def test_the_identity_survives_restarts_restores_and_purges_but_not_a_new_stream(
    server: NatsProcess, tmp_path: Path
) -> None:
    log = await opened(server)
    await written(log, 60)
    first = await log.state()
    found = await log.get(60)
    reader = log.read([], 59)
    (read,) = await reader.batch(10, 5)
    await reader.close()
    assert found is not None and (found.at_ms, found.subject) == (read.at_ms, read.subject), "to the millisecond"
    assert (await log.last(read.subject)).seq == 60 and await log.last("job.failed.none") is None  # type: ignore[union-attr]
    assert (first.first_seq, first.last_seq) == (1, 60) and first.at_ms <= found.at_ms
    await log.close()
    server.stop()
    shutil.copytree(server.store, tmp_path / "backup")
    shutil.rmtree(server.store)
    shutil.copytree(tmp_path / "backup", server.store)
    server.start()
    log = await opened(server)
    assert await log.state() == first
    reply = await log.client.request(f"$JS.API.STREAM.PURGE.{log.stream}", json.dumps({"seq": 41}).encode(), timeout=5)
    assert json.loads(reply.data)["success"]
    purged = await log.state()
    assert (purged.identity, purged.first_seq, purged.last_seq) == (first.identity, 41, 60)
    await log.client.request(f"$JS.API.STREAM.DELETE.{log.stream}", b"", timeout=5)
    await log.make_stream(streams.events(1))
    assert (await log.state()).identity != first.identity
    await log.close()


@pytest.mark.connected
async def test_a_service_notices_that_its_log_was_replaced_while_it_ran(server: NatsProcess, tmp_path: Path) -> None:
    log = await opened(server)
    await written(log, 40)
    await asyncio.sleep(1.2)  # the server writes what it has
    server.stop()
    shutil.copytree(server.store, tmp_path / "backup")
    server.start()
    await back(log)
    path = tmp_path / "p-0.db"
    projection = Projection(path, TABLES, version=1)
    loop = FoldLoop("test", log, projection, Counting, tick_s=0.02)
    task = asyncio.create_task(loop.run())
    await written(log, 20)
    await folded(loop, log)
    server.kill()
    shutil.rmtree(server.store)
    shutil.copytree(tmp_path / "backup", server.store)
    server.start()
    with pytest.raises(RuntimeError, match="starts anew"):
        await asyncio.wait_for(task, 30)
    projection.close()
    await back(log)
    await written(log, 10, of="again")
    assert await anew(log, path) == await anew(log, tmp_path / "other.db")
    await log.close()


def test_the_longer_the_log_the_rarer_they_are(tmp_path: Path) -> None:
    """Each copies the whole file: at equal distances every event would cost more than those before it."""
    kept = snapshotting.Snapshots(tmp_path / "p.db")
    made, at = [], 0
    while at < 100_000:
        at = kept.due
        made.append(at)
        kept.due = snapshotting._due(at)
    assert made[:3] == [100, 200, 300] and len(made) < 20
    assert sum(made) < 3 * made[-1], "all copies together are no more than a few of the last"
