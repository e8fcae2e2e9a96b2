"""A service's disk: what `Projection` promises, with committed rows in a dict, and failures on demand.

Queries go to SQLite in memory, which gets the committed rows when somebody asks: most worlds ask seldom. Rows of one
commit are kept in the order of their keys, so that a seed replays whatever order a set of Python's had.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from shardy_common.log import Projection, Skipped, Table, gone

Row = tuple[Any, ...]


class SimulatedDisk(Projection):
    """fails: asked before each commit; true: the disk is full, and nothing of the commit is kept."""

    def __init__(self, tables: Sequence[Table], *, version: int) -> None:
        super().__init__(":memory:", tables, version=version)
        self.connection.execute("PRAGMA synchronous=OFF")
        self._written: set[str] = set()
        self._tables_of = {name: table for table in self.tables for name in (table, gone(table))}
        self._of_nothing: dict[str, list[Row]] = {}  # what each query says of empty tables
        self.wipe()

    def wipe(self) -> None:
        """As new: the next world begins."""
        for name in self._written:
            self.connection.execute(f"DELETE FROM {name}")
        self._written = set()
        self._checkpoint = 0
        self._behind: dict[str, dict[Any, Row | None]] = {}  # committed, and not in SQLite yet; None: the row is gone
        self.committed: dict[str, dict[Any, Row]] = {name: {} for name in self.tables}
        self.fails: Callable[[], bool] = lambda: False

    @property
    def checkpoint(self) -> int:
        return self._checkpoint

    def commit(
        self,
        upserts: Mapping[str, Iterable[Sequence[Any]]],
        checkpoint: int,
        anchor: str = "",
        skipped: Iterable[Skipped] = (),
    ) -> None:
        taken = {name: sorted({row[0]: tuple(row) for row in rows}.values()) for name, rows in upserts.items()}
        if self.fails():
            raise sqlite3.OperationalError("database or disk is full")
        for name, table in self._tables_of.items():
            committed, behind = self.committed[table], self._behind.setdefault(table, {})
            for row in taken.get(name, ()):
                behind.pop(row[0], None)  # a row that is replaced moves to the end, as in SQLite
                if name == table:
                    behind[row[0]] = committed[row[0]] = row
                else:
                    committed.pop(row[0], None)
                    behind[row[0]] = None
        self._checkpoint = checkpoint

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        if not self._written and not self._behind:  # every world begins with empty tables
            if sql not in self._of_nothing:
                self._of_nothing[sql] = super().rows(sql, parameters)
            return list(self._of_nothing[sql])
        self.write_back()
        return super().rows(sql, parameters)

    def write_back(self) -> None:
        behind, self._behind = {name: rows for name, rows in self._behind.items() if rows}, {}
        if behind:
            there = {name: [row for row in rows.values() if row is not None] for name, rows in behind.items()}
            left = {gone(name): [(key,) for key, row in rows.items() if row is None] for name, rows in behind.items()}
            super().commit({**there, **left}, self._checkpoint)
            self._written |= behind.keys()
