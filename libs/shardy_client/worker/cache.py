"""Operand bytes a worker keeps: least recently used first out, bounded in bytes, never what a lease still needs."""

from __future__ import annotations

from collections import OrderedDict

Key = tuple[str, int, int]
"""(blob digest in hex, byte offset, byte length)"""


class _Entry:
    __slots__ = ("data", "refs")

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data
        self.refs = 0


class OperandCache:
    """Maps keys to bytes. Pinned entries stay whatever the capacity; `bytes_pinned` tells how much that is."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.bytes_held = 0
        self.bytes_pinned = 0
        self._entries: dict[Key, _Entry] = {}
        self._idle: OrderedDict[Key, _Entry] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: Key, data: bytes | bytearray) -> None:
        """Keep `data`, dropping others to stay within the capacity. A known key keeps the bytes it has."""
        if key in self._entries:
            return
        entry = self._entries[key] = _Entry(data)
        self._idle[key] = entry
        self.bytes_held += len(data)
        if self.bytes_held > self.capacity:
            self._evict(keep=key)

    def pin(self, key: Key) -> bytes | bytearray | None:
        """The bytes, kept until a matching `unpin`; None when they are not here."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.refs == 0:
            del self._idle[key]
            self.bytes_pinned += len(entry.data)
        entry.refs += 1
        return entry.data

    def unpin(self, key: Key) -> None:
        """End one `pin`. The entry becomes the most recently used of the droppable ones."""
        entry = self._entries[key]
        entry.refs -= 1
        if entry.refs == 0:
            self.bytes_pinned -= len(entry.data)
            self._idle[key] = entry
            if self.bytes_held > self.capacity:
                self._evict(keep=None)

    def resize(self, capacity: int) -> None:
        """A new capacity, enforced at once."""
        self.capacity = capacity
        self._evict(keep=None)

    def _evict(self, keep: Key | None) -> None:
        # A new entry is the last to go: whoever put it is about to pin it.
        while self.bytes_held > self.capacity and self._idle:
            key = next(iter(self._idle))
            if key == keep:
                return
            entry = self._idle.pop(key)
            del self._entries[key]
            self.bytes_held -= len(entry.data)
