"""Two forms of the tree of `wire/merkle.py`: one that gives many paths, and one whose root grows leaf by leaf."""

from __future__ import annotations

from collections.abc import Sequence

from shardy_common.wire import merkle


class Tree:
    """All levels of one tree, kept: a path costs look-ups, no hashing."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.count = len(leaves)
        self._levels = [list(leaves)]
        while len(level := self._levels[-1]) > 1:
            self._levels.append([merkle.root(level[at : at + 2]) for at in range(0, len(level), 2)])

    def leaf(self, index: int) -> bytes:
        return self._levels[0][index]

    def path(self, index: int) -> list[bytes]:
        """As `merkle.path`."""
        if not 0 <= index < self.count:
            raise ValueError(f"there is no leaf {index} of {self.count}")
        siblings = []
        for level in self._levels[:-1]:
            if (index ^ 1) < len(level):
                siblings.append(level[index ^ 1])
            index >>= 1
        return siblings


class GrowingRoot:
    """The root over leaves that come one by one, in memory for log₂ of their number: full subtrees are kept alone."""

    def __init__(self) -> None:
        self.count = 0
        self._full: list[bytes] = []  # roots of full subtrees, the largest first: one for each bit of count

    def add(self, leaf: bytes) -> None:
        node, bits = leaf, self.count
        while bits & 1:
            node = merkle.root((self._full.pop(), node))
            bits >>= 1
        self._full.append(node)
        self.count += 1

    def root(self) -> bytes:
        """ValueError when there is no leaf."""
        if not self._full:
            raise ValueError("a tree has at least one leaf")
        node = self._full[-1]
        for left in reversed(self._full[:-1]):
            node = merkle.root((left, node))
        return node
