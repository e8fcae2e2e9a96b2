"""Rows and checkpoint are one; a rebuilt projection equals the live one; poison stops nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shardy_common.log import Append, MemoryLog, Projection, Recorded, Table, gone
from shardy_common.service import FoldLoop
from shardy_common.wire import events as ev

TABLES = [Table("counts", {"id": str, "n": int, "body": bytes}, [["n"]])]


def test_version_and_file_changes_start_anew(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "p.db"
    projection = Projection(path, TABLES, version=1)
    assert projection.checkpoint == 0
    projection.commit({"counts": [("a", 1, b"x"), ("b", 2, b"")]}, 7)
    projection.commit({"counts": [("a", 3, b"y")]}, 9)
    projection.close()
    again = Projection(path, TABLES, version=1)
    assert again.checkpoint == 9 and again.rows("SELECT * FROM counts ORDER BY id") == [("a", 3, b"y"), ("b", 2, b"")]
    again.close()
    newer = Projection(path, TABLES, version=2)
    assert newer.checkpoint == 0 and newer.rows("SELECT * FROM counts") == []
    newer.commit({"counts": [("a", 1, b"")]}, 1)
    newer.reset()
    assert newer.checkpoint == 0 and newer.rows("SELECT * FROM counts") == []
    newer.close()


def test_rows_that_are_gone_leave_in_the_same_transaction(tmp_path: Path) -> None:
    projection = Projection(tmp_path / "p.db", TABLES, version=1)
    projection.commit({"counts": [("a", 1, b""), ("b", 2, b"")]}, 3)
    projection.commit({"counts": [("c", 3, b"")], gone("counts"): [("a",), ("never there",)]}, 5)
    assert projection.rows("SELECT id FROM counts ORDER BY id") == [("b",), ("c",)] and projection.checkpoint == 5
    with pytest.raises(sqlite3.Error):
        projection.commit({gone("counts"): [("b",), ("c", "too many")]}, 6)
    assert projection.rows("SELECT id FROM counts ORDER BY id") == [("b",), ("c",)] and projection.checkpoint == 5
    with pytest.raises(KeyError):
        projection.commit({gone("nothing"): [("b",)]}, 6)
    projection.close()


def test_a_failed_commit_changes_nothing(tmp_path: Path) -> None:
    projection = Projection(tmp_path / "p.db", TABLES, version=1)
    projection.commit({"counts": [("a", 1, b"")]}, 1)
    before = projection.checksum()
    with pytest.raises(sqlite3.Error):
        projection.commit({"counts": [("b", 1, b""), ("c", object(), b"")]}, 2)
    assert projection.checkpoint == 1 and projection.checksum() == before
    projection.commit({"counts": [("b", 1, b"")]}, 2)
    projection.close()


def test_checksums_depend_on_rows_alone(tmp_path: Path) -> None:
    one, two = (Projection(tmp_path / name, TABLES, version=1) for name in ("one.db", "two.db"))
    one.commit({"counts": [("a", 1, b"x"), ("b", 2, b"")]}, 5)
    two.commit({"counts": [("b", 0, b"old")]}, 1)
    two.commit({"counts": [("b", 2, b"")]}, 2)
    assert one.checksum() != two.checksum()
    two.commit({"counts": [("a", 1, b"x")]}, 5)
    assert one.checksum() == two.checksum()
    two.commit({"counts": [("a", 1, b"X")]}, 6)
    assert one.checksum() != two.checksum()
    one.close()
    two.close()


CHILD = """
import sys
from shardy_common.log import Projection, Table
projection = Projection(sys.argv[1], [Table("counts", {"id": str, "n": int, "body": bytes}, [["n"]])], version=1)
n = projection.checkpoint
print("ready", flush=True)
while True:
    n += 1
    projection.commit({"counts": [(str(i), n, b"x" * 500) for i in range(40)]}, n)
"""


def test_killed_in_the_middle_of_commits(tmp_path: Path) -> None:
    path, last = tmp_path / "p.db", 0
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        time.sleep(0.15)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
        child.stdout.close()
        projection = Projection(path, TABLES, version=1)
        assert projection.checkpoint >= last
        last = projection.checkpoint
        rows = projection.rows("SELECT n FROM counts")
        assert len(rows) == (40 if last else 0) and {n for (n,) in rows} <= {last}
        projection.close()
    assert last > 0


class Counting:
    """A core that counts the events of each subject."""

    filters = ("job.*.*", "dlq.*.*")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._touched: set[str] = set()

    def load(self, projection: Projection) -> None:
        self.counts = dict(projection.rows("SELECT id, n FROM counts"))

    def evolve(self, recorded: Recorded) -> None:
        self.counts[recorded.subject] = self.counts.get(recorded.subject, 0) + 1
        self._touched.add(recorded.subject)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        touched, self._touched = self._touched, set()
        return {"counts": [(subject, self.counts[subject], b"") for subject in touched]} if touched else {}


async def caught_up(loop: FoldLoop, log: MemoryLog) -> None:
    async with asyncio.timeout(20):
        while (await loop.status())["checkpoint"] < await log.last_seq():
            await asyncio.sleep(0.01)


async def test_the_loop_folds_restarts_and_rebuilds_to_the_same_rows(tmp_path: Path) -> None:
    log = MemoryLog(lambda: 1)
    projection = Projection(tmp_path / "p.db", TABLES, version=1)
    events = [Append(ev.JobFailed(f"j{i % 7}", "x"), f"m{i}") for i in range(500)]
    await log.append(events[:200])
    for part in (events[200:210], events[210:400], events[400:]):
        loop = FoldLoop("test", log, projection, Counting, tick_s=0.05)
        running = asyncio.create_task(loop.run())
        await log.append(part)
        await caught_up(loop, log)
        live = projection.checksum()
        assert loop.live.is_set()
        answer = await asyncio.wait_for(loop.rebuild(), 20)
        assert answer["checksum"] == live and answer["events"] == await log.last_seq() == answer["checkpoint"]
        loop.stop()
        await asyncio.wait_for(running, 5)
    assert sum(n for (n,) in projection.rows("SELECT n FROM counts")) == 500
    projection.close()


class Full(Projection):
    """Its disk is full for a number of commits."""

    refuses = 0

    def commit(self, *more: Any) -> None:
        if self.refuses:
            self.refuses -= 1
            raise sqlite3.OperationalError("database or disk is full")
        super().commit(*more)


async def test_a_full_disk_loses_no_rows_though_a_later_commit_finds_room(tmp_path: Path) -> None:
    """Whoever flushes after a commit that failed, a look-up or the end of the process, writes all of it or nothing."""
    log = MemoryLog(lambda: 1)
    projection = Full(tmp_path / "p.db", TABLES, version=1)
    loop = FoldLoop("test", log, projection, Counting)
    await log.append([Append(ev.JobFailed(f"j{i}", "x"), f"m{i}") for i in range(3)])
    loop.fold(log.events[:2])
    projection.refuses = 2
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError):
            loop.flush()
    assert projection.checkpoint == 0 and projection.rows("SELECT * FROM counts") == []
    loop.fold(log.events[2:])
    loop.flush()
    assert projection.checkpoint == 3
    assert projection.rows("SELECT id FROM counts ORDER BY id") == [(f"job.failed.j{i}",) for i in range(3)]
    projection.close()


async def test_a_process_that_ends_on_a_full_disk_leaves_no_checkpoint_ahead_of_its_rows(tmp_path: Path) -> None:
    log = MemoryLog(lambda: 1)
    await log.append([Append(ev.JobFailed("j0", "x"), "m0")])
    projection = Full(tmp_path / "p.db", TABLES, version=1)
    projection.refuses = 1
    loop = FoldLoop("test", log, projection, Counting, tick_s=0.05)
    with pytest.raises(sqlite3.OperationalError):
        await asyncio.wait_for(loop.run(), 20)
    assert (projection.checkpoint, projection.rows("SELECT n FROM counts")) in ((0, []), (1, [(1,)]))
    projection.close()


async def test_poison_is_dead_lettered_once_and_skipped(tmp_path: Path) -> None:
    log = MemoryLog(lambda: 1)
    await log.append([Append(ev.JobFailed("j0", "x"), "m0")])
    log.events.append(Recorded(2, "job.failed.j9", 1, None, "its trace", b"\xff garbage", "why it is odd"))
    projection = Projection(tmp_path / "p.db", TABLES, version=1)
    loop = FoldLoop("test", log, projection, Counting, tick_s=0.05)
    running = asyncio.create_task(loop.run())
    await log.append([Append(ev.JobFailed("j1", "x"), "m1")])
    await caught_up(loop, log)
    async with asyncio.timeout(5):
        while len(log.events) < 4:
            await asyncio.sleep(0.01)
    await caught_up(loop, log)
    letter = log.events[3].event
    assert isinstance(letter, ev.DlqRecorded)
    assert (letter.cause, letter.subject_of, letter.seq_of) == ("poison", "job.failed.j9", 2)
    assert bytes.fromhex(letter.evidence["bytes"]) == b"\xff garbage"
    assert letter.evidence["error"] == "why it is odd" and letter.evidence["subject"] == "job.failed.j9"
    assert letter.evidence["trace"] == log.events[3].trace == "its trace"
    assert loop.poisoned == 1 and set(loop.core.counts) >= {"job.failed.j0", "job.failed.j1"}  # type: ignore[attr-defined]
    await asyncio.wait_for(loop.rebuild(), 20)
    await caught_up(loop, log)
    assert len(log.events) == 4, "read again, recorded once"
    loop.stop()
    await asyncio.wait_for(running, 5)
    projection.close()


async def test_a_poison_letter_that_is_there_already_holds_nothing_up(tmp_path: Path) -> None:
    """Another service met the same bytes, and the letter was closed since: nothing is written, all goes on."""
    log = MemoryLog(lambda: 1)
    log.events.append(Recorded(1, "job.failed.j9", 1, None, "", b"\xff garbage"))
    letter = ev.DlqRecorded("poison-1", "poison", "job.failed.j9", 1, {})
    await log.append([Append(letter, "long ago"), Append(ev.DlqDiscarded("poison-1", "op", "x"), "closed")])
    projection = Projection(tmp_path / "p.db", TABLES, version=1)
    loop = FoldLoop("test", log, projection, Counting, tick_s=0.05)
    running = asyncio.create_task(loop.run())
    await log.append([Append(ev.JobFailed("j1", "x"), "m1")])
    await caught_up(loop, log)
    assert loop.poisoned == 1 and len(log.events) == 4
    loop.stop()
    await asyncio.wait_for(running, 5)
    projection.close()


async def test_what_is_read_beside_the_log_is_written_at_the_same_checkpoint(tmp_path: Path) -> None:
    log = MemoryLog(lambda: 1)
    await log.append([Append(ev.JobFailed("j0", "x"), "m0")])
    projection = Projection(tmp_path / "p.db", TABLES, version=1)
    reads = 0

    async def beside() -> None:
        nonlocal reads
        reads += 1
        if "beside" not in loop.core.counts:  # type: ignore[attr-defined]
            loop.core.counts["beside"] = 7  # type: ignore[attr-defined]
            loop.core._touched.add("beside")  # type: ignore[attr-defined]
            loop.changed()

    for again in (False, True):
        loop = FoldLoop("test", log, projection, Counting, beside=beside, tick_s=0.02)
        running = asyncio.create_task(loop.run())
        await caught_up(loop, log)
        async with asyncio.timeout(5):
            while not projection.rows("SELECT n FROM counts WHERE id = 'beside'"):
                await asyncio.sleep(0.01)
        assert projection.checkpoint == 1
        if not again:
            projection.connection.execute("DELETE FROM counts WHERE id = 'beside'")
        else:
            live = projection.checksum()
            answer = await asyncio.wait_for(loop.rebuild(), 20)
            assert answer["checksum"] == live and answer["checkpoint"] == 1, "a rebuild reads that too"
        loop.stop()
        await asyncio.wait_for(running, 5)
    assert reads > 2
    projection.close()


async def test_proposals_settle_and_a_refusal_makes_the_loop_react_again(tmp_path: Path) -> None:
    log = MemoryLog(lambda: 1)
    await log.append([Append(ev.JobFailed("j", "taken"), "m")])
    projection = Projection(tmp_path / "p.db", TABLES, version=1)
    settled: list[tuple[str, bool]] = []
    reactions = 0

    async def react() -> None:
        nonlocal reactions
        reactions += 1
        if reactions == 1:
            loop.propose([Append(ev.JobFailed("j", "x"), "a", 0), Append(ev.JobFailed("k", "x"), "b", 0)])

    loop = FoldLoop(
        "test", log, projection, Counting, react=react, tick_s=30.0,
        settled=lambda item, accepted: settled.append((item.event.entity_id, accepted)),
    )  # fmt: skip
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(10):
        while len(settled) < 2 or reactions < 2:
            await asyncio.sleep(0.01)
    assert settled == [("j", False), ("k", True)] and loop.conflicts == 1
    loop.stop()
    await asyncio.wait_for(running, 5)
    projection.close()
