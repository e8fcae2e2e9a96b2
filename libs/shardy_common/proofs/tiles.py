"""A result larger than a circuit: a commitment to all its tiles, and which of them a challenge asks proofs of.

The worker commits to C by the root of a tree over its tiles. Then it is told, or works out, which tiles to prove; each
proof's context names root and tile. What that finds and what it does not is said in docs/proofs.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from blake3 import blake3

from shardy_common.wire import merkle

ITEM_BYTES = 4  # int32
TILES_MAX = 2**24

_LEAF = b"\x00shardy-tile-v2\x00"
_CHALLENGE = b"shardy-tile-challenge-v2\x00"


class Tile(NamedTuple):
    """Rows [row0, row0+rows) and columns [col0, col0+cols) of C."""

    row0: int
    rows: int
    col0: int
    cols: int


@dataclass(frozen=True, slots=True)
class Grid:
    """C of rows×cols cut into tiles of tile_rows×tile_cols, the last ones smaller; numbered row by row from 0."""

    rows: int
    cols: int
    tile_rows: int
    tile_cols: int

    def __post_init__(self) -> None:
        if min(self.rows, self.cols, self.tile_rows, self.tile_cols) < 1:
            raise ValueError("rows and columns of a grid and of its tiles are at least 1")
        if self.count > TILES_MAX:
            raise ValueError(f"{self.count} tiles: at most {TILES_MAX} are possible")

    @property
    def across(self) -> int:
        return -(-self.cols // self.tile_cols)

    @property
    def count(self) -> int:
        return -(-self.rows // self.tile_rows) * self.across

    def tile(self, index: int) -> Tile:
        """ValueError where there is no such tile."""
        if not 0 <= index < self.count:
            raise ValueError(f"there is no tile {index} of {self.count}")
        row0, col0 = index // self.across * self.tile_rows, index % self.across * self.tile_cols
        return Tile(row0, min(self.tile_rows, self.rows - row0), col0, min(self.tile_cols, self.cols - col0))

    def tile_bytes(self, index: int, c: bytes) -> bytes:
        """The tile's int32 in row-major order, out of C's bytes in row-major order."""
        if len(c) != ITEM_BYTES * self.rows * self.cols:
            raise ValueError(f"C has {len(c)} bytes, not {ITEM_BYTES * self.rows * self.cols}")
        tile, view = self.tile(index), memoryview(c)
        starts = (ITEM_BYTES * (row * self.cols + tile.col0) for row in range(tile.row0, tile.row0 + tile.rows))
        return b"".join(view[start : start + ITEM_BYTES * tile.cols] for start in starts)


def leaf(index: int, data: bytes) -> bytes:
    """BLAKE3 over a tag, the tile's number (u64), the number of its bytes (u64) and their BLAKE3."""
    return leaf_of(index, len(data), blake3(data).digest())


def leaf_of(index: int, size: int, digest: bytes) -> bytes:
    """The leaf of a tile whose bytes are not here: their number and BLAKE3."""
    return blake3(_LEAF + struct.pack("<QQ", index, size) + digest).digest()


def leaves(grid: Grid, c: bytes) -> list[bytes]:
    return [leaf(index, grid.tile_bytes(index, c)) for index in range(grid.count)]


def root(grid: Grid, c: bytes) -> bytes:
    """The commitment to all of C: the tree of `wire/merkle.py` over its tiles."""
    return merkle.root(leaves(grid, c))


def opens(root: bytes, grid: Grid, index: int, data: bytes, path: Sequence[bytes]) -> bool:
    """Whether `data` is what the root says of tile `index`, by its audit path (`merkle.path` over `leaves`)."""
    try:
        tile = grid.tile(index)
        climbed = merkle.climb(leaf(index, data), index, grid.count, path)
    except ValueError:
        return False
    return len(data) == ITEM_BYTES * tile.rows * tile.cols and climbed == root


def tile_field(root: bytes, index: int) -> bytes:
    """What the context of a tile's proof carries in its field `tile`: the root and the tile's number (u64)."""
    if len(root) != merkle.HASH_BYTES:
        raise ValueError(f"a root has {merkle.HASH_BYTES} bytes, this one {len(root)}")
    return root + struct.pack("<Q", index)


def challenge(root: bytes, binding: bytes, nonce: bytes, tiles: int, checked: int) -> list[int]:
    """`checked` different tiles out of `tiles`, rising; all of them where there are no more.

    binding: what the proofs are for, as the 32 bytes of the task context without a tile. nonce: drawn by the checker
    after it got the root; empty where nobody can be asked (Fiat–Shamir), and then a cheater may try many roots: see
    `escape_bound`. Uniform over all sets: numbers of 64 bits from a BLAKE3 output stream, too large ones thrown away.
    """
    if len(root) != merkle.HASH_BYTES:
        raise ValueError(f"a root has {merkle.HASH_BYTES} bytes, this one {len(root)}")
    if not (1 <= tiles <= TILES_MAX and checked >= 1):
        raise ValueError(f"{checked} of {tiles} tiles cannot be asked for")
    if checked >= tiles:
        return list(range(tiles))
    hasher = blake3(_CHALLENGE + root)
    for field in (binding, nonce):
        hasher.update(struct.pack("<I", len(field)) + field)
    hasher.update(struct.pack("<QQ", tiles, checked))
    fair = 2**64 - 2**64 % tiles
    found: set[int] = set()
    at = 0
    while len(found) < checked:
        number = int.from_bytes(hasher.digest(8, seek=at), "little")
        at += 8
        if number < fair:
            found.add(number % tiles)
    return sorted(found)


def detection(tiles: int, bad: int, checked: int) -> float:
    """Probability that any of `bad` wrong tiles is asked for: 1 − C(tiles−bad, checked) / C(tiles, checked)."""
    if not (0 <= bad <= tiles and checked >= 1):
        raise ValueError(f"{bad} bad tiles of {tiles}, {checked} checked")
    if bad + checked > tiles:
        return 1.0 if bad else 0.0
    fewer, more = sorted((bad, checked))  # the two can be exchanged, so the shorter product serves
    return -math.expm1(math.fsum(math.log1p(-more / (tiles - i)) for i in range(fewer)))


def detection_bound(fraction: float, checked: int) -> float:
    """1 − (1 − f)^t: at least this is found where a fraction f of the tiles is wrong and t of them are proved."""
    if not (0.0 <= fraction <= 1.0 and checked >= 1):
        raise ValueError("a fraction is 0 to 1, and at least one tile is checked")
    return 1.0 if fraction == 1.0 else -math.expm1(checked * math.log1p(-fraction))


def checks_for(fraction: float, wanted: float) -> int:
    """The fewest tiles to prove so that `detection_bound` reaches `wanted`."""
    if not (0.0 < fraction <= 1.0 and 0.0 < wanted < 1.0):
        raise ValueError("a fraction is over 0 and at most 1, and what is wanted lies between 0 and 1")
    if fraction == 1.0:
        return 1
    count = max(1, math.ceil(math.log1p(-wanted) / math.log1p(-fraction)))
    return count - 1 if count > 1 and detection_bound(fraction, count - 1) >= wanted else count


def escape_bound(fraction: float, checked: int, tries: float) -> float:
    """At most this is a cheater's chance who may try `tries` roots before it shows one: tries·(1 − f)^t, 1 at most.

    With a nonce of the checker's it has one try. Without, each costs it two hashes and log₂(tiles) more.
    """
    if not (0.0 <= fraction <= 1.0 and checked >= 1 and tries >= 1):
        raise ValueError("a fraction is 0 to 1, and at least one tile is checked and one root tried")
    # Not by detection_bound: what it lacks to 1 may be too small for a float beside 1, and still be a chance.
    return min(1.0, tries * (0.0 if fraction == 1.0 else math.exp(checked * math.log1p(-fraction))))
