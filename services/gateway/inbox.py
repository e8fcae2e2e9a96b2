"""Results on their way from sockets into the log: a queue for each worker, taken from in turn, bounded. Pure.

A worker's burst stands in its own queue, so another's result is in the next batch whatever the first one sends. What a
worker has handed in counts until it is in the log. At its bound its socket is not read any more, and TCP tells it so:
a slow disk or a slow log slows the workers down, and takes no memory.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")
EACH_ITEMS_MAX, EACH_BYTES_MAX = 1_024, 32 * 1024 * 1024  # and a frame: of one worker
ALL_ITEMS_MAX, ALL_BYTES_MAX = 20_000, 256 * 1024 * 1024


class Inbox(Generic[Item]):
    def __init__(self) -> None:
        self._queues: dict[str, deque[tuple[Item, int]]] = {}  # by worker, in the order of their turns
        self._held: dict[str, tuple[int, int]] = {}  # items and bytes that are not in the log yet
        self.items = self.bytes = 0
        self.queued = 0

    def put(self, worker: str, item: Item, size: int) -> None:
        queue = self._queues.get(worker)
        if queue is None:
            queue = self._queues[worker] = deque()
        queue.append((item, size))
        self.queued += 1
        self._count(worker, 1, size)

    def take(self, items_max: int, bytes_max: int) -> list[tuple[str, Item, int]]:
        """(worker, item, bytes) of the next batch: one of each worker in turn. At least one, if there is any."""
        out: list[tuple[str, Item, int]] = []
        size = 0
        while self._queues and len(out) < items_max and (size < bytes_max or not out):
            worker, queue = next(iter(self._queues.items()))
            item, count = queue.popleft()
            del self._queues[worker]
            if queue:
                self._queues[worker] = queue  # behind the others
            out.append((worker, item, count))
            size += count
        self.queued -= len(out)
        return out

    def done(self, batch: list[tuple[str, Item, int]]) -> None:
        """They are in the log."""
        for worker, _, size in batch:
            self._count(worker, -1, -size)

    def full_for(self, worker: str) -> bool:
        """Whether nothing more is to be read from this worker now. Whoever has handed in nothing is always read."""
        items, size = self._held.get(worker, (0, 0))
        if not items:
            return False
        return (
            items >= EACH_ITEMS_MAX
            or size >= EACH_BYTES_MAX
            or self.items >= ALL_ITEMS_MAX
            or self.bytes >= ALL_BYTES_MAX
        )

    def _count(self, worker: str, items: int, size: int) -> None:
        held = self._held.get(worker, (0, 0))
        now = held[0] + items, held[1] + size
        if now[0]:
            self._held[worker] = now
        else:
            del self._held[worker]
        self.items += items
        self.bytes += size
