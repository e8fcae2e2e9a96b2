"""The leases a worker has not finished, the operands they need, and which to fetch and compute next.

A lease is in exactly one place: blocked (an operand is missing), the ready heap, or running. No sockets, no clock.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from typing import Any

from shardy_client.worker import kinds
from shardy_client.worker.cache import Key, OperandCache
from shardy_client.worker.messages import Counters, Fetch, Instruction, Work

FETCHES_MAX = 4


class LeaseQueue:
    """See the module's docstring. may_fetch: whether there is a session to fetch in."""

    def __init__(self, cache_bytes: int) -> None:
        self.cache = OperandCache(cache_bytes)
        self.counters = Counters()
        self._seq = 0
        self._works: dict[str, Work] = {}
        self._ready: list[Work] = []
        self._ready_count = 0
        self._running: set[str] = set()
        self._waiters: dict[Key, list[Work]] = {}
        self._fetching: dict[Key, int] = {}
        self._fetching_bytes = 0
        self.may_fetch = False

    def _give_back(self, lease: str, code: str, message: str) -> None:
        """Tell the mesh that `lease` is not computed here; see protocol §5 for the codes."""
        raise NotImplementedError

    @property
    def has_ready(self) -> bool:
        """Whether `take` would return something."""
        return self._ready_count > 0

    def _admit(self, lease: dict[str, Any], now: float) -> None:
        name = lease["lease"]
        if name in self._works:
            return
        self.counters.leases += 1
        try:
            plan = kinds.parse(lease["kind"], lease["p"])
        except kinds.LeaseError as error:
            self._give_back(name, "unsupported", str(error))
            return
        self._seq += 1
        work = Work(lease, plan, now, self._seq)
        self._works[name] = work
        pin = self.cache.pin
        for operand in plan.operands:
            key = operand.key
            data = pin(key)
            if data is None:
                work.missing += 1
                self._waiters.setdefault(key, []).append(work)
            else:
                work.data.append(data)
        if work.missing == 0:
            heapq.heappush(self._ready, work)
            self._ready_count += 1

    def take(self, ops_max: float, leases_max: int, now: float) -> list[Work]:
        """Leases to compute together: the oldest ready one, and followers within the bounds. Empty: none is ready."""
        batch: list[Work] = []
        ops, ready = 0, self._ready
        while ready and len(batch) < leases_max:
            work = ready[0]
            if work.dropped:
                heapq.heappop(ready)
                continue
            if work.deadline < now:
                # The mesh may have given it to somebody else by now; fresher leases come first to it as well.
                self._drop(work)
                self.counters.expired += 1
                continue
            if batch and ops + work.plan.ops > ops_max:
                break
            ops += work.plan.ops
            heapq.heappop(ready)
            self._ready_count -= 1
            self._running.add(work.lease)
            batch.append(work)
        return batch

    def _drop(self, work: Work) -> None:
        del self._works[work.lease]
        work.dropped = True
        if work.missing == 0:
            self._ready_count -= 1
        self._release(work)

    def _end(self, work: Work) -> None:
        """`work` was computed, or cannot be."""
        self._running.discard(work.lease)
        del self._works[work.lease]
        self._release(work)

    def _drop_waiting(self) -> None:
        for work in [*self._works.values()]:
            if work.lease not in self._running:
                self._drop(work)

    def _forget_fetches(self) -> None:
        self._fetching.clear()
        self._fetching_bytes = 0

    def _release(self, work: Work) -> None:
        unpin = self.cache.unpin
        waiting: Iterable[Key] = ()
        if work.missing:
            waiting = {key for key, works in self._waiters.items() if work in works}
            for key in waiting:
                works = [other for other in self._waiters[key] if other is not work]
                if works:
                    self._waiters[key] = works
                else:
                    del self._waiters[key]
        for operand in work.plan.operands:
            if operand.key not in waiting:
                unpin(operand.key)
        work.data = []

    # --- operands -------------------------------------------------------------------------------------------

    def fetched(self, key: Key, data: bytes | bytearray) -> list[Instruction]:
        """The bytes of `Fetch(key)` are here."""
        self._fetching_bytes -= self._fetching.pop(key, 0)
        return [*self._arrived(key, data), *self._prefetch()]

    def fetch_failed(self, key: Key, message: str) -> list[Instruction]:
        """`Fetch(key)` failed for good: the leases that need it go back."""
        self._fetching_bytes -= self._fetching.pop(key, 0)
        for work in self._waiters.get(key, [])[:]:
            if work.lease in self._works:
                self._drop(work)
                self._give_back(work.lease, "fetch", message)
        return self._prefetch()

    def _arrived(self, key: Key, data: bytes | bytearray) -> list[Instruction]:
        if len(data) != key[2]:
            return self.fetch_failed(key, f"{len(data)} bytes came where {key[2]} were named")
        self.cache.put(key, data)
        for work in self._waiters.pop(key, ()):
            self.cache.pin(key)
            work.missing -= 1
            if work.missing == 0:
                # Pinned operands never leave the cache, so a second pin finds each and its release restores the count.
                work.data = []
                for operand in work.plan.operands:
                    held = self.cache.pin(operand.key)
                    assert held is not None
                    work.data.append(held)
                    self.cache.unpin(operand.key)
                heapq.heappush(self._ready, work)
                self._ready_count += 1
        return []

    def _prefetch(self) -> list[Instruction]:
        """Fetch what the oldest leases miss, as far as connections and the cache allow."""
        if not self._waiters or not self.may_fetch:
            return []
        out: list[Instruction] = []
        for key in self._waiters:
            if len(self._fetching) >= FETCHES_MAX:
                break
            if key in self._fetching:
                continue
            room = self.cache.capacity - self.cache.bytes_pinned - self._fetching_bytes
            # One operand larger than the cache must still be possible, alone.
            alone = not self._fetching and not self._ready_count and not self._running
            if key[2] > room and not alone:
                break
            self._fetching[key] = key[2]
            self._fetching_bytes += key[2]
            out.append(Fetch(key))
        return out

    def check(self) -> None:
        """Raise AssertionError unless each lease is blocked, ready or running, and every pin has an owner."""
        ready = {work.lease for work in self._ready if not work.dropped}
        blocked = {work.lease for works in self._waiters.values() for work in works}
        assert len(ready) == self._ready_count
        assert set(self._works) == ready | blocked | self._running
        assert not (ready & blocked or ready & self._running or blocked & self._running)
        pins: Counter[Key] = Counter()
        for work in self._works.values():
            for operand in work.plan.operands:
                if not any(work is other for other in self._waiters.get(operand.key, ())):
                    pins[operand.key] += 1
        assert pins == {key: entry.refs for key, entry in self.cache._entries.items() if entry.refs}
        assert self.cache.bytes_held == sum(len(entry.data) for entry in self.cache._entries.values())
        assert self._fetching_bytes == sum(self._fetching.values())
