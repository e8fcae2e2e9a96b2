"""How far a job is, how fast it goes, and how long it will take at that rate."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

WINDOW_S = 15.0  # the rate is that of the last seconds


@dataclass(slots=True, frozen=True)
class Progress:
    """How far a job is. cells: elements of the result; tasks_verified counts tasks whose result was checked.

    rate: elements a second, seconds_left: at that rate; None while nothing is known. They don't count when two are
    compared.
    """

    state: str
    cells_done: int
    cells: int
    tasks_verified: int
    tasks_active: int
    frauds: int
    waiting_for: str = ""
    rate: float | None = field(default=None, compare=False)
    seconds_left: float | None = field(default=None, compare=False)

    @property
    def fraction(self) -> float:
        """From 0 to 1."""
        return self.cells_done / self.cells if self.cells else 0.0

    @classmethod
    def of(cls, status: dict[str, Any], rate: float | None = None) -> Progress:
        """From a status of docs/api.md."""
        numbers = status.get("progress") or {}
        done, cells, verified, active = (
            int(numbers.get(name) or 0) for name in ("cells_done", "cells", "tasks_verified", "tasks_active")
        )
        left = (cells - done) / rate if rate else None
        frauds, waiting = len(status.get("frauds") or ()), str(status.get("waiting_for") or "")
        return cls(str(status.get("state")), done, cells, verified, active, frauds, waiting, rate, left)


OnProgress = Callable[[Progress], None]


class Meter:
    """The rate of something that grows, from when it was seen."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def rate(self, at_s: float, amount: int) -> float | None:
        """Per second over the window, with this sight of it; None as long as nothing grew."""
        if self._seen and amount < self._seen[-1][1]:
            self._seen.clear()  # it began anew
        self._seen.append((at_s, amount))
        while len(self._seen) > 2 and at_s - self._seen[1][0] > WINDOW_S:
            self._seen.popleft()
        first_s, first = self._seen[0]
        return (amount - first) / (at_s - first_s) if amount > first and at_s > first_s else None
