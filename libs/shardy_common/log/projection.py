"""A projection: one SQLite file that a service folds from the log, and can lose at any time.

The checkpoint (last sequence folded) is written in the same transaction as the rows that follow from it, so a crash
repeats nothing and skips nothing. Beside it stand the log that it was folded from and the event at the checkpoint, so
rows of another log, or of a log that lost its end, are known as such. Tables are declared once. A file that is missing,
damaged or of another schema version begins from the newest snapshot that is none of these (snapshots.py), or empty.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from shardy_common.log import snapshots

CHECKSUM_ROWS = 1_000  # hashed at once
_META = "_meta"
_SKIPPED = "_skipped"
_pack = msgspec.msgpack.Encoder().encode
log = logging.getLogger("shardy.projection")

# Rows of thousands of workers lie all over a table. With SQLite's 2 MiB, and a checkpoint after every 4 MiB, a page
# that many commits change is read and copied again for nearly each of them, the more so the longer the log.
CACHE_KIB = 16 * 1024
CHECKPOINT_PAGES = 8_000  # of 4 KiB


class Table:
    """columns: name → Python type; the first column is the primary key. Rows are tuples in column order."""

    def __init__(self, name: str, columns: dict[str, type], indexes: Sequence[Sequence[str]] = ()) -> None:
        self.name, self.columns, self.indexes = name, columns, indexes
        self.key = next(iter(columns))
        marks = ",".join("?" * len(columns))
        self.upsert_sql = f"INSERT OR REPLACE INTO {name} ({','.join(columns)}) VALUES ({marks})"
        self.delete_sql = f"DELETE FROM {name} WHERE {self.key} = ?"


def gone(table: str) -> str:
    """What the rows that leave a table are given to `commit` under: tuples of their key alone."""
    return f"-{table}"


class Skipped(NamedTuple):
    """An event that these rows do not contain, because the service could not fold it (service.py). entry: its dead
    letter; error: in words; version: of the package that failed."""

    seq: int
    entry: str
    error: str
    version: str


class Origin(NamedTuple):
    """What these rows were folded from. log: the stream's identity; anchor: the event at the checkpoint."""

    log: str
    checkpoint: int
    anchor: str


class Projection:
    def __init__(self, path: Path | str, tables: Sequence[Table], *, version: int) -> None:
        self.path, self.tables, self.version = Path(path), {t.name: t for t in tables}, version
        self._sql = {t.name: t.upsert_sql for t in tables} | {gone(t.name): t.delete_sql for t in tables}
        self.connection = self._open()

    @property
    def checkpoint(self) -> int:
        """Last sequence of the log that these rows contain."""
        return int(self.connection.execute("SELECT checkpoint FROM _meta").fetchone()[0])

    @property
    def origin(self) -> Origin:
        return Origin(*self.connection.execute("SELECT log, checkpoint, anchor FROM _meta").fetchone())

    @property
    def skipped(self) -> list[Skipped]:
        """Events that were passed over, in the order of the log."""
        return [Skipped(*row) for row in self.rows("SELECT seq, entry, error, version FROM _skipped ORDER BY seq")]

    def commit(
        self,
        upserts: Mapping[str, Iterable[Sequence[Any]]],
        checkpoint: int,
        anchor: str = "",
        skipped: Iterable[Skipped] = (),
    ) -> None:
        """Write rows (coalesced by the caller: each key once), remove those that are gone, and write the checkpoint, in
        one transaction."""
        cursor = self.connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            for name, rows in upserts.items():
                cursor.executemany(self._sql[name], rows)
            if skipped:
                cursor.executemany("INSERT OR REPLACE INTO _skipped VALUES (?,?,?,?)", skipped)
            cursor.execute("UPDATE _meta SET checkpoint = ?, anchor = ?", (checkpoint, anchor))
            cursor.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:  # a full disk may have ended it already
                cursor.execute("ROLLBACK")
            raise

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, parameters).fetchall()

    def adopt(self, log_identity: str) -> None:
        """From now on these rows belong to this log."""
        self.connection.execute("UPDATE _meta SET log = ?", (log_identity,))

    def reset(self) -> None:
        """Forget everything, snapshots too: the next fold starts at the log's beginning."""
        for found in snapshots.found(self.path):
            found.path.unlink(missing_ok=True)
        self.discard()

    def discard(self) -> None:
        """Forget these rows, and the snapshot with the same ones; go on from the next older one, if there is one."""
        checkpoint = self.checkpoint
        for found in snapshots.found(self.path):
            if found.checkpoint == checkpoint:
                found.path.unlink(missing_ok=True)
        self.connection.close()
        self._remove()
        self.connection = self._open()

    def checksum(self) -> str:
        """SHA-256 over all rows in key order: equal checksums at equal checkpoints mean equal projections."""
        return checksum(self.connection, self.tables.values())

    def checksum_beside(self) -> str:
        """The same over what is committed, through a connection of its own: for a thread beside the loop."""
        if str(self.path) == ":memory:":
            return self.checksum()
        connection = self._connect()
        try:
            return checksum(connection, self.tables.values())
        finally:
            connection.close()

    def close(self) -> None:
        self.connection.close()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._usable()
        if connection is not None:
            return connection
        for found in snapshots.found(self.path):
            why = snapshots.unfit(found.path, self.version)
            if why:
                log.warning("%s is passed over: %s", found.path.name, why)
                continue
            self._remove()
            try:
                shutil.copyfile(found.path, self.path)
            except OSError as error:
                log.warning("%s is passed over: it cannot be copied (%s)", found.path.name, error)
                continue
            connection = self._usable()
            if connection is not None:
                log.info("%s begins from the snapshot at event %d", self.path.name, found.checkpoint)
                return connection
        self._remove()
        return self._made()

    def _usable(self) -> sqlite3.Connection | None:
        """A connection to the file that is there, if it is whole and of this version. Says what is wrong otherwise."""
        there = str(self.path) != ":memory:" and self.path.exists()
        if not there:
            return None
        why = snapshots.unfit(self.path, self.version)
        if not why:
            return self._connect()
        log.warning("%s cannot be used (%s): it is thrown away", self.path.name, why)
        return None

    def _made(self) -> sqlite3.Connection:
        import sqlite_utils  # only where a schema is made: it takes longer to import than a restart may cost

        connection = self._connect()
        database = sqlite_utils.Database(connection)
        for table in self.tables.values():
            made = database.table(table.name).create(table.columns, pk=table.key)
            for columns in table.indexes:
                made.create_index(list(columns))
        database.table(_SKIPPED).create({"seq": int, "entry": str, "error": str, "version": str}, pk="seq")
        meta = database.table(_META).create({"checkpoint": int, "version": int, "log": str, "anchor": str})
        meta.insert({"checkpoint": 0, "version": self.version, "log": "", "anchor": ""})
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(str(self.path), isolation_level=None, check_same_thread=False, timeout=10)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        return connection

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(str(self.path) + suffix).unlink(missing_ok=True)


def checksum(connection: sqlite3.Connection, tables: Iterable[Table]) -> str:
    """See Projection.checksum."""
    digest = hashlib.sha256()
    for table in sorted(tables, key=lambda t: t.name):
        digest.update(table.name.encode())
        cursor = connection.execute(f"SELECT * FROM {table.name} ORDER BY {table.key}")
        while rows := cursor.fetchmany(CHECKSUM_ROWS):
            digest.update(_pack(rows))
    return digest.hexdigest()
