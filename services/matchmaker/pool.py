"""The devices that have room for more work in this round, and how one is picked.

A pick looks at a few devices at random and takes the least loaded: nearly as even as sorting all of them, at a
constant cost, and no requester or worker can foresee who gets a task ("The power of two choices in randomized load
balancing", Mitzenmacher 2001). What is known of the devices is kept from round to round, and only those are looked at
again of which something changed: a round costs what happened in it, however many thousands are idle.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shardy_matchmaker.fold import Fold
from shardy_matchmaker.reliability import leases_allowed, rests_until_ms
from shardy_matchmaker.tiers import BY_NAME, Tier, tier_shown

if TYPE_CHECKING:
    from shardy_matchmaker.decide import Overlay
    from shardy_matchmaker.state import WorkerState

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
    proves_mib: int = 0


class Devices:
    """Every device that may get work, as the last round left it. items: those with room, in no order that matters;
    places: devices by what makes them different (address, or id), whether they have room or not."""

    def __init__(self) -> None:
        self.items: list[Candidate] = []
        self.places: Counter[str] = Counter()
        self._at: dict[str, int] = {}  # where a candidate is among the items
        self._place: dict[str, str] = {}
        self._resting: set[str] = set()  # until a time, so they are looked at in each round
        self._whole = False

    def look(self, fold: Fold, overlay: Overlay, same: bool, now_ms: int) -> None:
        """Take in what changed since the last round. In the order of ids: the same log gives the same rounds."""
        if self._whole:
            changed = fold.moved | fold.touched["workers"] | overlay.moved | self._resting
        else:
            changed, self._whole = set(fold.workers), True
        for worker_id in sorted(changed):
            worker = fold.workers.get(worker_id)
            tier = BY_NAME.get(worker.tier) if worker is not None else None
            if worker is None or not worker.present or worker.banned or tier is None:
                self._settle(worker_id, "")
                self.drop(worker_id)
                continue
            self._settle(worker_id, worker_id if same else worker.address)
            found = self._candidate(worker, tier, overlay.of_worker.get(worker_id, {}), now_ms)
            if found is None:
                self.drop(worker_id)
            elif worker_id in self._at:
                self.items[self._at[worker_id]] = found
            else:
                self._at[worker_id] = len(self.items)
                self.items.append(found)
        fold.moved.clear()
        overlay.moved.clear()

    def _candidate(self, worker: WorkerState, tier: Tier, proposed: dict[str, float], now_ms: int) -> Candidate | None:
        """None without room. proposed: work by lease, not read back yet."""
        self._resting.discard(worker.id)
        room = worker.max_leases - len(worker.leases) - len(proposed)
        if worker.strikes:
            room -= worker.max_leases - leases_allowed(worker)
            if rests_until_ms(worker.strikes, worker.late_ms) > now_ms:
                self._resting.add(worker.id)
                return None
        if room <= 0:
            return None
        tier = tier_shown(tier, worker.gops, worker.memory_mib)
        load = worker.queued_ops / worker.gops / 1e6 + TASK_OVERHEAD_MS * len(worker.leases) + sum(proposed.values())
        if load >= tier.queue_ms:
            return None
        memory, proves = worker.memory_mib, worker.proves_mib
        return Candidate(worker.id, worker.session, worker.address, tier, worker.gops, memory, room, load, proves)

    def _settle(self, worker_id: str, place: str) -> None:
        before = self._place.get(worker_id, "")
        if before == place:
            return
        if before:
            self.places[before] -= 1
            if not self.places[before]:
                del self.places[before]
        if place:
            self._place[worker_id] = place
            self.places[place] += 1
        else:
            del self._place[worker_id]

    def drop(self, worker_id: str) -> None:
        """It has no room: the last of the items takes its place."""
        at = self._at.pop(worker_id, None)
        if at is not None:
            last = self.items.pop()
            if last.id != worker_id:
                self.items[at] = last
                self._at[last.id] = at

    def get(self, worker_id: str) -> Candidate | None:
        at = self._at.get(worker_id)
        return None if at is None else self.items[at]


class Pool:
    """One round's look at the devices. size: devices present and fit for work, busy or not, that could serve as
    replicas of each other. Those that rest count: they come back, and a task that needs them waits better uncarved than
    half lent."""

    def __init__(self, fold: Fold, overlay: Overlay, allow_same_address: bool, rng: random.Random, now_ms: int) -> None:
        self._same = allow_same_address
        self._rng = rng
        self._devices = overlay.devices
        self._devices.look(fold, overlay, allow_same_address, now_ms)
        self._items = self._devices.items
        self.size = len(self._devices.places)

    def free(self) -> bool:
        return bool(self._items)

    def pick(self, barred_workers: set[str], barred_addresses: set[str], proves_mib: int = 0) -> Candidate | None:
        """The least loaded of a few random devices that differ from those barred, and give so much memory for proving;
        None when no free one does."""

        def fits(c: Candidate) -> bool:
            apart = c.id not in barred_workers and (self._same or c.address not in barred_addresses)
            return apart and c.proves_mib >= proves_mib

        fitting = [c for c in self._sample() if fits(c)] or [c for c in self._items if fits(c)]
        if not fitting:
            return None
        return min(fitting, key=lambda c: (c.load_ms, self._rng.random()))

    def pick_by(self, rank: Callable[[str], float]) -> Candidate | None:
        """Of a few random devices the one with the highest rank, by worker id."""
        return max(self._sample(), key=lambda c: (rank(c.id), self._rng.random()), default=None)

    def _sample(self) -> list[Candidate]:
        return self._items if len(self._items) <= SAMPLE else self._rng.sample(self._items, SAMPLE)

    def pick_again(self, returning: set[str], strangers: dict[str, set[str]], proves_mib: int = 0) -> Candidate | None:
        """One of the returning workers, unless somebody else had the task at the address where it is now, or it gives
        less memory for proving than it did."""
        known = [self._devices.get(worker) for worker in sorted(returning)]
        able = [c for c in known if c is not None and c.proves_mib >= proves_mib]
        fitting = [c for c in able if self._same or c.address not in strangers[c.id]]
        return min(fitting, key=lambda c: c.load_ms) if fitting else None

    def lend(self, candidate: Candidate, work_ms: float) -> None:
        candidate.room -= 1
        candidate.load_ms += work_ms
        if candidate.room <= 0 or candidate.load_ms >= candidate.tier.queue_ms:
            self._devices.drop(candidate.id)
