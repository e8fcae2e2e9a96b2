"""The devices that have room for more work in this round, and how one is picked.

A pick looks at a few devices at random and takes the least loaded: nearly as even as sorting all of them, at a
constant cost, and no requester or worker can foresee who gets a task ("The power of two choices in randomized load
balancing", Mitzenmacher 2001).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shardy_matchmaker.fold import Fold
from shardy_matchmaker.reliability import leases_allowed, rests_until_ms
from shardy_matchmaker.tiers import BY_NAME, Tier, tier_shown

if TYPE_CHECKING:
    from shardy_matchmaker.decide import Overlay

SAMPLE = 6
TASK_OVERHEAD_MS = 0.05


@dataclass(slots=True)
class Candidate:
    id: str
    session: str
    address: str
    tier: Tier
    gops: float
    memory_mib: int
    room: int
    load_ms: float


class Pool:
    """size: devices present and fit for work, busy or not, that could serve as replicas of each other. Those that rest
    count: they come back, and a task that needs them waits better uncarved than half lent."""

    def __init__(self, fold: Fold, overlay: Overlay, allow_same_address: bool, rng: random.Random, now_ms: int) -> None:
        self._same = allow_same_address
        self._rng = rng
        distinct: set[str] = set()
        self._items: list[Candidate] = []
        proposed: dict[str, list[float]] = {}
        for worker_id, work_ms in overlay.leases.values():
            proposed.setdefault(worker_id, []).append(work_ms)
        for worker in fold.workers.values():
            tier = BY_NAME.get(worker.tier)
            if not worker.present or worker.banned or tier is None:
                continue
            distinct.add(worker.id if allow_same_address else worker.address)
            waiting = proposed.get(worker.id, ())
            room = worker.max_leases - len(worker.leases) - len(waiting)
            if worker.strikes:
                room -= worker.max_leases - leases_allowed(worker)
                if rests_until_ms(worker.strikes, worker.late_ms) > now_ms:
                    continue
            if room <= 0:
                continue
            tier = tier_shown(tier, worker.gops, worker.memory_mib)
            load = worker.queued_ops / worker.gops / 1e6 + TASK_OVERHEAD_MS * len(worker.leases) + sum(waiting)
            if load >= tier.queue_ms:
                continue
            self._items.append(
                Candidate(
                    worker.id,
                    worker.session,
                    worker.address,
                    tier,
                    worker.gops,
                    worker.memory_mib,
                    room,
                    load,
                )
            )

        self.size = len(distinct)

    def free(self) -> bool:
        return bool(self._items)

    def pick(self, barred_workers: set[str], barred_addresses: set[str]) -> Candidate | None:
        """The least loaded of a few random devices that differ from those barred; None when no free one does."""

        def fits(c: Candidate) -> bool:
            return c.id not in barred_workers and (self._same or c.address not in barred_addresses)

        fitting = [c for c in self._sample() if fits(c)] or [c for c in self._items if fits(c)]
        if not fitting:
            return None
        return min(fitting, key=lambda c: (c.load_ms, self._rng.random()))

    def pick_by(self, rank: Callable[[str], float]) -> Candidate | None:
        """Of a few random devices the one with the highest rank, by worker id."""
        return max(self._sample(), key=lambda c: (rank(c.id), self._rng.random()), default=None)

    def _sample(self) -> list[Candidate]:
        return self._items if len(self._items) <= SAMPLE else self._rng.sample(self._items, SAMPLE)

    def pick_again(self, returning: set[str], strangers: dict[str, set[str]]) -> Candidate | None:
        """One of the returning workers, unless somebody else had the task at the address where it is now."""
        fitting = [c for c in self._items if c.id in returning and (self._same or c.address not in strangers[c.id])]
        return min(fitting, key=lambda c: c.load_ms) if fitting else None

    def lend(self, candidate: Candidate, work_ms: float) -> None:
        candidate.room -= 1
        candidate.load_ms += work_ms
        if candidate.room <= 0 or candidate.load_ms >= candidate.tier.queue_ms:
            self._items.remove(candidate)
