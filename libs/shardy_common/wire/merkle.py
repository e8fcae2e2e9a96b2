"""The tree over a frame's results that a worker signs (docs/protocol.md §5.1): leaves, root, audit paths.

The tree is that of RFC 9162 §2.1 with BLAKE3: a leaf hashes 00 and what it stands for, a node 01 and its children, so
neither passes for the other; n leaves split at the largest power of two below n. Level by level that is: pair what
stands side by side, and take an odd last one up as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

RESULTS_TAG = b"shardy-results-v2\x00"
"""What a worker signs is this and the root: `RESULTS_TAG + root(leaves)`."""

HASH_BYTES = 32

_LEAF = b"\x00shardy-result-v2\x00"
_NODE = b"\x01"


def leaf(lease: str, digest: bytes, size: int) -> bytes:
    """The leaf of one result: its lease's id, the BLAKE3 digest of its bytes, and their number (0 … 2⁶⁴ − 1)."""
    if len(digest) != HASH_BYTES:
        raise ValueError(f"a digest has {HASH_BYTES} bytes, this one {len(digest)}")
    return blake3(_LEAF + lease.encode() + b"\x00" + digest + size.to_bytes(8, "little")).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over `leaves` in their order; a single one is its own root. ValueError when there is none."""
    if not leaves:
        raise ValueError("a tree has at least one leaf")
    level = leaves
    while len(level) > 1:
        level = _above(level)
    return level[0]


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of `leaves[index]`: the siblings from the leaf up, that `climb` makes the root from."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"there is no leaf {index} of {len(leaves)}")
    siblings: list[bytes] = []
    level = leaves
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            siblings.append(level[sibling])
        level = _above(level)
        index >>= 1
    return siblings


def climb(leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes:
    """The root of the tree of `count` leaves in which `leaf` stands at `index`, by its audit path (RFC 9162 §2.1.3.2).

    ValueError where no such tree has a path of this length; that the root is the signed one is the caller's to check.
    """
    if not 0 <= index < count:
        raise ValueError(f"there is no leaf {index} of {count}")
    node, at, last, used = leaf, index, count - 1, 0
    while last:
        # An odd last node has no sibling: it stands a level higher as it is.
        if at & 1 or at < last:
            if used == len(path):
                raise ValueError(f"a path of {used} hashes is too short for leaf {index} of {count}")
            sibling = path[used]
            if len(sibling) != HASH_BYTES:
                raise ValueError(f"hash {used} of the path has {len(sibling)} bytes, not {HASH_BYTES}")
            pair = sibling + node if at & 1 else node + sibling
            node, used = blake3(_NODE + pair).digest(), used + 1
        at, last = at >> 1, last >> 1
    if used < len(path):
        raise ValueError(f"a path of {len(path)} hashes is too long for leaf {index} of {count}")
    return node


def _above(level: Sequence[bytes]) -> list[bytes]:
    """The nodes one level up."""
    pairs = iter(level)
    # `zip` of one iterator with itself takes two at a time and stops before an odd last one.
    nodes = [blake3(_NODE + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]
    if len(level) & 1:
        nodes.append(level[-1])
    return nodes
