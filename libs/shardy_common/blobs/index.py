"""Where packed blobs lie: an SQLite file that the processes of one host share.

Digests are spread evenly over all that there can be, so in one tree of them each new one changes a page of its own, and
writing one costs more the more there are. Therefore rows stand in parts of PART_ROWS: only the newest part grows, and
its pages stay few and warm. A digest is looked up in the newest part, then in all others at once. The same digest may
stand in two parts: it names the same bytes.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PART_ROWS = 50_000  # about 5 MiB of pages
_CACHE_KIB = 8 * 1024  # so that the newest part stays in it
_CHECKPOINT_PAGES = 4_000  # of 4 KiB
_BEFORE = "packed"  # the table of indexes without parts
_PART = "SELECT n, rows FROM parts ORDER BY n DESC LIMIT 1"
_IN_PART = "SELECT pack, at, size FROM places WHERE part = ? AND digest = ?"
_ANYWHERE = "SELECT pack, at, size FROM places WHERE part IN (SELECT n FROM parts) AND digest = ? LIMIT 1"


class Place(NamedTuple):
    """Bytes [at, at + size) of a pack file are the blob."""

    digest: bytes
    pack: str
    at: int
    size: int


class PackIndex:
    """path: of the file, made when it is missing; one that an earlier version made is taken over."""

    def __init__(self, path: Path) -> None:
        self._rows = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        self._rows.execute("PRAGMA journal_mode=WAL")
        self._rows.execute("PRAGMA synchronous=NORMAL")
        self._rows.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        self._rows.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        self._rows.execute("BEGIN IMMEDIATE")
        self._rows.execute("CREATE TABLE IF NOT EXISTS parts (n INTEGER PRIMARY KEY, rows INTEGER)")
        self._rows.execute(
            "CREATE TABLE IF NOT EXISTS places (part INTEGER, digest BLOB, pack TEXT, at INTEGER, size INTEGER,"
            " PRIMARY KEY (part, digest)) WITHOUT ROWID"
        )
        if _table(self._rows) == _BEFORE:
            self._rows.execute("INSERT INTO places SELECT 0, digest, pack, at, size FROM packed")
            self._rows.execute("INSERT INTO parts SELECT 0, COUNT(*) FROM packed")
            self._rows.execute("DROP TABLE packed")
        self._rows.execute("INSERT OR IGNORE INTO parts SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM parts)")
        self._rows.execute("COMMIT")
        self._newest = int(self._rows.execute(_PART).fetchone()[0])

    def add(self, places: Sequence[Place]) -> None:
        """Raises OSError where the disk is full, or another process holds the file for too long."""
        try:
            self._rows.execute("BEGIN IMMEDIATE")
            self._newest, rows = self._rows.execute(_PART).fetchone()
            if rows >= PART_ROWS:
                self._newest, rows = self._newest + 1, 0
            self._rows.executemany(
                "INSERT OR IGNORE INTO places VALUES (?,?,?,?,?)", [(self._newest, *place) for place in places]
            )
            self._rows.execute("INSERT OR REPLACE INTO parts VALUES (?,?)", (self._newest, rows + len(places)))
            self._rows.execute("COMMIT")
        except sqlite3.Error as error:
            if self._rows.in_transaction:
                self._rows.execute("ROLLBACK")
            raise OSError(errno.EIO, f"the blob index cannot be written: {error}") from error

    def find(self, digest: bytes) -> tuple[str, int, int] | None:
        """(pack, offset, size), or None."""
        found = self._rows.execute(_IN_PART, (self._newest, digest)).fetchone()
        return found or self._rows.execute(_ANYWHERE, (digest,)).fetchone()

    def close(self) -> None:
        self._rows.close()


def _table(connection: sqlite3.Connection) -> str:
    """Of an index that no process of this version has opened yet, the one that it will be taken over from."""
    old = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_BEFORE,)).fetchone()
    return _BEFORE if old else "places"


def places(connection: sqlite3.Connection) -> Iterator[Place]:
    """All that an index says, in the order in which the bytes lie."""
    for row in connection.execute(f"SELECT digest, pack, at, size FROM {_table(connection)} ORDER BY pack, at"):
        yield Place(*row)


def sizes(connection: sqlite3.Connection) -> Iterator[tuple[bytes, int]]:
    """Digest and bytes, each digest once."""
    yield from connection.execute(f"SELECT digest, MAX(size) FROM {_table(connection)} GROUP BY digest")


def pack_ends(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """Each pack file, and how far it is referred to."""
    return connection.execute(f"SELECT pack, MAX(at + size) FROM {_table(connection)} GROUP BY pack").fetchall()
