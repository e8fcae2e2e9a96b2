"""A projection without room: what was folded waits for it, with its own checkpoint, and nothing more is folded."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shardy_common.log import Append, MemoryLog, Projection, Recorded, Table
from shardy_common.service import FoldLoop
from shardy_common.wire import events as ev

TABLES = [Table("jobs", {"id": str, "body": bytes})]


class Core:
    filters = ["job.*.*"]

    def __init__(self) -> None:
        self.rows_: list[Sequence[Any]] = []

    def load(self, projection: Projection) -> None:
        pass

    def evolve(self, recorded: Recorded) -> None:
        self.rows_.append((recorded.event.job, recorded.event.cause.encode()))  # type: ignore[union-attr]

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        rows, self.rows_ = self.rows_, []
        return {"jobs": rows} if rows else {}


@pytest.fixture
def projection(tmp_path: Path) -> Projection:
    return Projection(tmp_path / "p.db", TABLES, version=1)


def full(projection: Projection, pages: int) -> None:
    """SQLite's own limit stands for the disk's: the same error at the same places."""
    projection.connection.execute(f"PRAGMA max_page_count = {pages}")


def big(i: int) -> Append:
    return Append(ev.JobFailed(f"j{i}", "x" * 50_000), f"m{i}")


async def test_a_fold_waits_for_room_and_goes_on(projection: Projection, caplog: pytest.LogCaptureFixture) -> None:
    log = MemoryLog(lambda: 1_000)
    loop = FoldLoop("test", log, projection, Core, tick_s=0.05)
    running = asyncio.create_task(loop.run())
    try:
        await log.append([Append(ev.JobFailed("j0", "small"), "m0")])
        await reaches(projection, 1)
        full(projection, 1)
        await log.append([big(1)])
        while "no room" not in caplog.text:
            await asyncio.sleep(0.02)
        await log.append([big(2)])
        await asyncio.sleep(0.3)
        assert projection.checkpoint == 1 and loop.folded == 2, "the third event is not taken in memory either"
        assert not running.done(), "it waits; it does not end to be started again for ever"
        full(projection, 1_000_000)
        await reaches(projection, 3)
        assert [r[0] for r in projection.rows("SELECT id FROM jobs ORDER BY id")] == ["j0", "j1", "j2"]
    finally:
        loop.stop()
        await running
        projection.close()


async def reaches(projection: Projection, checkpoint: int) -> None:
    async with asyncio.timeout(30):
        while projection.checkpoint != checkpoint:
            await asyncio.sleep(0.02)


def test_rows_that_waited_keep_their_checkpoint(projection: Projection) -> None:
    """What was folded after them, as a rebuild may have done, is written after them, each with its own checkpoint."""
    loop = FoldLoop("test", MemoryLog(lambda: 1_000), projection, Core)
    full(projection, 1)
    loop.fold([Recorded(1, "job.failed.j1", 1, big(1).event)])
    loop.flush()
    loop.fold([Recorded(2, "job.failed.j2", 1, big(2).event)])
    full(projection, 1_000_000)
    loop.flush()
    assert projection.checkpoint == 2 and len(projection.rows("SELECT id FROM jobs")) == 2


def test_another_error_of_the_file_ends_the_service(projection: Projection) -> None:
    loop = FoldLoop("test", MemoryLog(lambda: 1_000), projection, Core)
    projection.connection.execute("DROP TABLE jobs")
    loop.fold([Recorded(1, "job.failed.j1", 1, big(1).event)])
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        loop.flush()
