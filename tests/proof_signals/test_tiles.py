"""Tiles cover a result just once, open only as what was committed to, and are drawn evenly after the commitment."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardy_common.proofs import tiles
from shardy_common.proofs.tiles import Grid, challenge
from shardy_common.wire import merkle

sides = st.integers(1, 20)
grids = st.builds(Grid, sides, sides, sides, sides)
ROOT, BINDING = bytes(range(32)), b"\x07" * 32


def counted(grid: Grid) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in range(grid.rows * grid.cols))


@given(grids)
def test_tiles_cover_the_result_just_once(grid: Grid) -> None:
    c, seen = counted(grid), []
    for index in range(grid.count):
        tile, data = grid.tile(index), grid.tile_bytes(index, c)
        assert tile.rows <= grid.tile_rows and tile.cols <= grid.tile_cols
        assert len(data) == 4 * tile.rows * tile.cols
        seen += [data[at : at + 4] for at in range(0, len(data), 4)]
        assert int.from_bytes(data[:4], "little") == tile.row0 * grid.cols + tile.col0
    assert sorted(seen) == sorted(c[at : at + 4] for at in range(0, len(c), 4))


@given(grids, st.data())
def test_a_tile_opens_as_itself_alone(grid: Grid, data: st.DataObject) -> None:
    c = counted(grid)
    root, leaves = tiles.root(grid, c), tiles.leaves(grid, c)
    index = data.draw(st.integers(0, grid.count - 1))
    mine, path = grid.tile_bytes(index, c), merkle.path(leaves, index)
    assert tiles.opens(root, grid, index, mine, path)
    at = data.draw(st.integers(0, len(mine) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    assert not tiles.opens(root, grid, index, mine[:at] + bytes([mine[at] ^ bit]) + mine[at + 1 :], path)
    assert not tiles.opens(root, grid, index, mine + b"\0", path)
    assert not tiles.opens(root, grid, index, mine, [*path, bytes(32)])
    assert not tiles.opens(bytes([root[0] ^ 1]) + root[1:], grid, index, mine, path)
    other = data.draw(st.integers(-1, grid.count))
    if other != index:
        assert not tiles.opens(root, grid, other, mine, path)
    if path:
        assert not tiles.opens(root, grid, index, mine, path[:-1])


def test_tiles_of_the_same_bytes_cannot_be_exchanged() -> None:
    grid = Grid(8, 16, 8, 8)
    first, second = tiles.leaves(grid, bytes(4 * 8 * 16))
    assert first != second
    assert not tiles.opens(merkle.root([first, second]), grid, 1, bytes(256), [second])


def test_a_tile_of_another_size_does_not_open() -> None:
    """A cheater commits to a tree of its own, whose leaf is of fewer bytes than the tile has."""
    grid = Grid(8, 8, 8, 8)
    short = bytes(4)
    assert not tiles.opens(merkle.root([tiles.leaf(0, short)]), grid, 0, short, [])


@given(st.integers(1, 300), st.integers(1, 400), st.binary(max_size=40))
def test_a_challenge_is_of_different_tiles_in_order(count: int, checked: int, nonce: bytes) -> None:
    found = challenge(ROOT, BINDING, nonce, count, checked)
    assert len(found) == min(count, checked) and found == sorted(set(found))
    assert found[0] >= 0 and found[-1] < count


def test_whatever_is_bound_changes_the_challenge() -> None:
    found = [
        challenge(ROOT, BINDING, b"", 10**6, 8),
        challenge(ROOT[::-1], BINDING, b"", 10**6, 8),
        challenge(ROOT, BINDING[:-1], b"", 10**6, 8),
        challenge(ROOT, BINDING, b"\0", 10**6, 8),
        challenge(ROOT, BINDING[:-1], BINDING[-1:], 10**6, 8),
        challenge(ROOT, BINDING, b"", 10**6 + 1, 8),
        challenge(ROOT, BINDING, b"", 10**6, 9)[:8],
    ]
    assert len({tuple(one) for one in found}) == len(found)


def test_tiles_are_drawn_evenly() -> None:
    """χ² over 4,000 draws of 5 of 20 tiles: 19 degrees of freedom, far from its 10⁻⁶ quantile of 63."""
    seen = [0] * 20
    for number in range(4000):
        for index in challenge(ROOT, BINDING, number.to_bytes(4, "little"), 20, 5):
            seen[index] += 1
    assert sum((count - 1000) ** 2 / 1000 for count in seen) < 63


@settings(max_examples=300)
@given(st.integers(1, 60), st.data())
def test_detection_is_what_counting_says(count: int, data: st.DataObject) -> None:
    bad, checked = data.draw(st.integers(0, count)), data.draw(st.integers(1, count))
    exact = 1 - Fraction(math.comb(count - bad, checked), math.comb(count, checked))
    assert tiles.detection(count, bad, checked) == pytest.approx(float(exact), rel=1e-12, abs=1e-15)
    assert tiles.detection(count, bad, checked) >= tiles.detection_bound(bad / count, checked) - 1e-12


def test_detection_seen_in_draws() -> None:
    bad = {3, 11}
    hits = sum(bool(bad & set(challenge(ROOT, BINDING, number.to_bytes(4, "little"), 20, 5))) for number in range(4000))
    expected = tiles.detection(20, 2, 5)  # 0.447: five standard deviations are 0.04
    assert abs(hits / 4000 - expected) < 0.04


@given(st.floats(1e-6, 1.0), st.floats(0.01, 0.999999))
def test_checks_for_is_the_fewest(fraction: float, wanted: float) -> None:
    count = tiles.checks_for(fraction, wanted)
    assert tiles.detection_bound(fraction, count) >= wanted - 1e-12
    assert count == 1 or tiles.detection_bound(fraction, count - 1) < wanted


def test_figures_that_the_document_states() -> None:
    assert tiles.checks_for(0.01, 0.99) == 459 and tiles.checks_for(0.1, 0.99) == 44
    assert tiles.detection_bound(0.01, 10) == pytest.approx(0.0956, abs=5e-5)
    assert tiles.detection(1024, 1, 16) == pytest.approx(1 / 64)
    assert tiles.escape_bound(0.5, 60, 2**40) == pytest.approx(2**-20)
    assert tiles.escape_bound(0.1, 395, 2**40) <= 2**-20 < tiles.escape_bound(0.1, 394, 2**40)
    assert 0 < tiles.escape_bound(0.5, 64, 1) < 1e-19
    assert tiles.escape_bound(0.01, 459, 1) < 0.01 and tiles.escape_bound(0.01, 459, 1e4) == 1.0


def test_refused() -> None:
    for shape in ((0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0), (2**13, 2**13, 1, 1)):
        with pytest.raises(ValueError):
            Grid(*shape)
    with pytest.raises(ValueError, match="bytes"):
        tiles.root(Grid(2, 2, 1, 1), bytes(15))
    for root, count, checked in ((b"", 2, 1), (ROOT, 0, 1), (ROOT, 2**24 + 1, 1), (ROOT, 5, 0)):
        with pytest.raises(ValueError):
            challenge(root, b"", b"", count, checked)
    with pytest.raises(ValueError, match="root"):
        tiles.tile_field(b"", 0)
    for fraction in (-0.1, 1.1):
        with pytest.raises(ValueError):
            tiles.detection_bound(fraction, 1)
        with pytest.raises(ValueError):
            tiles.escape_bound(fraction, 1, 1)
