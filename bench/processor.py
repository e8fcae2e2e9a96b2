"""Processor time of processes, from /proc (Linux): what work costs, however busy the machine is with other things."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def used_ms(pids: Iterable[int]) -> float:
    """User and system milliseconds of these processes and all their threads so far; a process that is gone counts 0."""
    total = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) * _TICK_MS
    return total


class Meter:
    """`with Meter(names) as meter:` then meter.ms: what each name's processes used in between."""

    def __init__(self, pids: Mapping[str, Iterable[int]]) -> None:
        self._pids = {name: list(some) for name, some in pids.items()}
        self.ms: dict[str, float] = {}

    def __enter__(self) -> Meter:
        self._before = {name: used_ms(pids) for name, pids in self._pids.items()}
        return self

    def __exit__(self, *_: object) -> None:
        self.ms = {name: used_ms(pids) - self._before[name] for name, pids in self._pids.items()}
