"""Token buckets: how much may be asked in a time. Pure: the time, in seconds of any steady clock, is an argument."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

BUCKETS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Rate:
    """per_s: how fast a bucket fills; burst: what it holds when full, and so what may come at once."""

    per_s: float
    burst: float


@dataclass(frozen=True, slots=True)
class Taken:
    """left: whole units that may still be taken now; wait_s: until the refused cost fits; full_s: until it is full."""

    ok: bool
    left: int
    wait_s: float
    full_s: float


class Buckets:
    """One bucket for each name (a key, an address), all of one rate; those unused longest are forgotten.

    A forgotten bucket begins full again. With BUCKETS_MAX names in use at once somebody may so get a burst more than
    his share, which costs less than memory that strangers can fill.
    """

    def __init__(self, rate: Rate, buckets_max: int = BUCKETS_MAX) -> None:
        self.rate, self._max = rate, buckets_max
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # name → (level, when)

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, name: str, now_s: float, cost: float = 1.0) -> Taken:
        """Take `cost` if it is there; nothing is taken otherwise. A cost beyond the burst is met by a full bucket."""
        per_s, burst = self.rate.per_s, self.rate.burst
        known = self._levels.get(name)
        level = burst
        if known is not None:
            self._levels.move_to_end(name)
            level = min(burst, known[0] + max(now_s - known[1], 0.0) * per_s)
        want = min(cost, burst)
        ok = want <= level
        if ok:
            level -= want
        self._levels[name] = (level, now_s if known is None else max(now_s, known[1]))
        if len(self._levels) > self._max:
            self._levels.popitem(last=False)
        return Taken(ok, int(level), 0.0 if ok else (want - level) / per_s, (burst - level) / per_s)


def policy_item(name: str, quota: int, window_s: int) -> str:
    """An item of the field RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers)."""
    return f'"{name}";q={quota};w={window_s}'


def limit_item(name: str, taken: Taken) -> str:
    """An item of the field RateLimit. r: what is left; t: seconds until all of it is there again."""
    return f'"{name}";r={taken.left};t={math.ceil(taken.full_s)}'


def retry_after(taken: Taken) -> str:
    """Whole seconds, never 0: a client that comes back at once would be refused again."""
    return str(max(1, math.ceil(taken.wait_s)))
