"""Snapshots of a projection: copies of its file as it was at a checkpoint, beside it.

`<projection>.snapshot-<checkpoint>.db` is a whole projection (rows, checkpoint, version, the log that it is of), so a
service that lost its own file copies one and folds the rest of the log. A snapshot is written aside and renamed: what
has the name is complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sqlite3
from pathlib import Path
from typing import NamedTuple

from shardy_common.log.archive_file import sync

SNAPSHOT_EVENTS = 200_000  # events after which a further one is made, at least
SNAPSHOT_SHARE = 2  # and no sooner than this part of the log: to copy a file that grows costs each event the same then
STOP_EVENTS = 20_000  # after which one is made at a clean stop
KEPT = 2
log = logging.getLogger("shardy.projection")
_NAME = re.compile(r"\.snapshot-(\d{1,18})\.db\Z")


class Found(NamedTuple):
    path: Path
    checkpoint: int


def found(projection: Path) -> list[Found]:
    """The snapshots of a projection, the newest first."""
    there = []
    for path in projection.parent.glob(f"{projection.stem}.snapshot-*.db"):
        match = _NAME.search(path.name)
        if match is not None:
            there.append(Found(path, int(match[1])))
    return sorted(there, key=lambda f: -f.checkpoint)


def take(projection: Path) -> int:
    """Copy what is committed, while others read and write; the checkpoint of the copy. Runs in a thread.

    OSError or sqlite3.Error when there is no room; nothing is left behind then.
    """
    aside = projection.with_name(f"{projection.stem}.snapshot.tmp")
    aside.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(f"{projection.as_uri()}?mode=ro", uri=True, timeout=10)) as source:
            source.execute("VACUUM INTO ?", (str(aside),))
        with contextlib.closing(sqlite3.connect(aside)) as copy:
            checkpoint = int(copy.execute("SELECT checkpoint FROM _meta").fetchone()[0])
        sync(aside)
        os.replace(aside, projection.with_name(f"{projection.stem}.snapshot-{checkpoint}.db"))
    finally:
        aside.unlink(missing_ok=True)
    for old in found(projection)[KEPT:]:
        old.path.unlink(missing_ok=True)
    return checkpoint


def unfit(path: Path, version: int) -> str:
    """Why a projection's file cannot be used; empty when it can."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
            row = connection.execute("SELECT version, checkpoint, log, anchor FROM _meta").fetchone()
            if row is None or row[0] != version:
                return f"its schema is version {row[0] if row else '?'}, this service writes {version}"
            said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        return f"it is no projection of this version: {error}"
    except sqlite3.DatabaseError as error:
        return f"it is damaged: {error}"
    return "" if said == "ok" else f"it is damaged: {' '.join(str(said).split())[:200]}"


def _due(checkpoint: int) -> int:
    """Where the snapshot after one at this place is made."""
    return checkpoint + max(SNAPSHOT_EVENTS, checkpoint // SNAPSHOT_SHARE)


class Snapshots:
    """When a projection's next snapshot is made, one at a time, in a thread beside the fold."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._making: asyncio.Task[None] | None = None
        self.kept = str(path) != ":memory:"
        there = found(path) if self.kept else []
        self.checkpoint = there[0].checkpoint if there else 0
        self.due = _due(self.checkpoint)

    def begin(self, now_at: int) -> None:
        """Make one, unless one is being made. now_at: last sequence of the log that is committed."""
        if self.kept and (self._making is None or self._making.done()):
            self.due = _due(now_at)  # also after a failure: a full disk is not asked again at once
            self._making = asyncio.get_running_loop().create_task(self._make())

    async def stop(self, now_at: int) -> None:
        """At a clean stop, once all is committed: a last one, if the tail behind the newest has become long."""
        await self.finished()
        if now_at - self.checkpoint >= STOP_EVENTS:
            self.begin(now_at)
            await self.finished()

    async def forget(self) -> None:
        """Before the projection begins anew: no snapshot of what it was may come later."""
        await self.finished()
        self.checkpoint, self.due = 0, _due(0)

    async def finished(self) -> None:
        if self._making is not None:
            await asyncio.wait({self._making})

    async def _make(self) -> None:
        try:
            self.checkpoint = await asyncio.to_thread(take, self._path)
        except (OSError, sqlite3.Error) as error:
            log.warning("no snapshot of %s could be made: %s", self._path.name, error)
