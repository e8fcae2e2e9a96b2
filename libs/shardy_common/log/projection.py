"""A projection: one SQLite file that a service folds from the log, and can lose at any time.

The checkpoint (last sequence folded) is written in the same transaction as the rows that follow from it, so a crash
repeats nothing and skips nothing. Tables are declared once; another schema version throws the file away and the
service folds anew.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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


class Projection:
    def __init__(self, path: Path | str, tables: Sequence[Table], *, version: int) -> None:
        self.path, self.tables, self.version = Path(path), {t.name: t for t in tables}, version
        self.connection = self._open()

    @property
    def checkpoint(self) -> int:
        """Last sequence of the log that these rows contain."""
        return int(self.connection.execute("SELECT checkpoint FROM _meta").fetchone()[0])

    def commit(self, upserts: Mapping[str, Iterable[Sequence[Any]]], checkpoint: int) -> None:
        """Write rows (coalesced by the caller: each key once) and the checkpoint in one transaction."""
        cursor = self.connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            for name, rows in upserts.items():
                cursor.executemany(self.tables[name].upsert_sql, rows)
            cursor.execute("UPDATE _meta SET checkpoint = ?", (checkpoint,))
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, parameters).fetchall()

    def reset(self) -> None:
        """Forget everything: the next fold starts at the log's beginning."""
        self.connection.close()
        self._remove()
        self.connection = self._open()

    def checksum(self) -> str:
        """SHA-256 over all rows in key order: equal checksums at equal checkpoints mean equal projections."""
        digest = hashlib.sha256()
        for name in sorted(self.tables):
            digest.update(name.encode())
            for row in self.connection.execute(f"SELECT * FROM {name} ORDER BY {self.tables[name].key}"):
                digest.update(repr(row).encode())
        return digest.hexdigest()

    def close(self) -> None:
        self.connection.close()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._connect()
        try:
            row = connection.execute("SELECT version FROM _meta").fetchone()
        except sqlite3.OperationalError:
            row = None
        if row is not None and row[0] == self.version:
            return connection
        connection.close()
        self._remove()
        connection = self._connect()
        import sqlite_utils  # only where a schema is made: it takes longer to import than a restart may cost

        database = sqlite_utils.Database(connection)
        for table in self.tables.values():
            made = database.table(table.name).create(table.columns, pk=table.key)
            for columns in table.indexes:
                made.create_index(list(columns))
        meta = database.table("_meta").create({"checkpoint": int, "version": int})
        meta.insert({"checkpoint": 0, "version": self.version})
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
