"""A map of which only a part is in memory: what nobody has used for long lies in the projection's rows alone.

So memory does not grow with every key that ever joined. Pure but for `recall`, which reads a row. What is dropped from
memory has its row written already, and is read back when it is asked for: rows are the same whatever was dropped, and
whenever.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from itertools import islice
from typing import TypeVar

Value = TypeVar("Value")
KEEP_MAX = 10_000
LOOKED_MAX = 1_000  # entries looked at in one go, beside those that have to leave
ABSENT_MAX = 10_000


class Shelf(dict[str, Value]):
    """`find` looks in the rows too; everything else is of what is in memory. recall: reads one, None if there is none.

    spilled: whether the rows may hold what memory does not.
    """

    def __init__(self, keep_max: int | None = None) -> None:
        super().__init__()
        self.keep_max = KEEP_MAX if keep_max is None else keep_max
        self.recall: Callable[[str], Value | None] = lambda _key: None
        self.spilled = False
        self._absent: set[str] = set()

    def find(self, key: str) -> Value | None:
        value = self.get(key)
        if value is None and self.spilled and key not in self._absent:
            value = self.recall(key)
            if value is not None:
                self[key] = value
            else:
                if len(self._absent) >= ABSENT_MAX:
                    self._absent.clear()
                self._absent.add(key)
        return value

    def trim(self, touched: Container[str], idle: Callable[[Value], bool] = lambda _value: True) -> int:
        """Drop what is over keep_max, but nothing whose row is not written yet (touched), and nothing in use: what has
        been here longest first. How many were dropped."""
        over = len(self) - self.keep_max
        if over <= 0:
            return 0
        dropped = 0
        for key in list(islice(self, over + LOOKED_MAX)):
            value = self.pop(key)
            if key in touched or not idle(value):
                self[key] = value  # behind the others: it is not looked at again so soon
                continue
            dropped += 1
            self._absent.discard(key)
            if dropped >= over:
                break
        self.spilled = self.spilled or dropped > 0
        return dropped
