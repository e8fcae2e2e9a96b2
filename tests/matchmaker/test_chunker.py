"""The chunker's tiles: exact cover in order, within memory, on quanta, of about the right duration; and the tiers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_events import matmul, matmul_f32, stream

from shardy_common import kinds
from shardy_common.carving import Cursor
from shardy_common.wire.job import JobSpec, Pre
from shardy_matchmaker.chunker import Device, next_tile
from shardy_matchmaker.tiers import BY_NAME, TIERS, believable_gops, tier_for


def float_pre(segment: int) -> Pre:
    return Pre(-1, 1, 0, 0.9, segment)


SIDES = st.integers(1, 3000)
SPECS = st.one_of(
    st.builds(matmul, SIDES, SIDES, st.integers(1, 4000), task_rows=st.none() | st.integers(400, 900)),
    st.builds(matmul_f32, SIDES, SIDES, st.integers(1, 64), pre=st.integers(30, 400).map(float_pre)),
    st.builds(matmul_f32, SIDES, SIDES, st.integers(1, 64)),
    st.builds(stream, SIDES, SIDES, pre=st.integers(30, 400).map(float_pre)),
).map(kinds.checked)
DEVICES = st.builds(
    Device,
    st.floats(0.5, 30_000),
    st.integers(1 << 21, 1 << 28),
    st.sampled_from([700, 1000]),
    st.sampled_from([8 << 20, 64 << 20]),
)


def cover(spec: JobSpec, device: Device, sharers: int) -> list[Any]:
    """All tiles; what the carving rule accepts covers exactly once and in order."""
    shape = kinds.KINDS[spec.kind].shape(spec)
    cursor, tiles = Cursor(), []
    while not cursor.done(shape):
        tile = next_tile(spec, cursor.row0, cursor.col0, cursor.band_cols, device, sharers)
        assert cursor.accepts(tile, shape), (cursor, tile)
        cursor = cursor.after(tile, shape)
        tiles.append(tile)
        assert len(tiles) < 20_000
    return tiles


@settings(max_examples=60, deadline=None)
@given(SPECS, DEVICES, st.integers(1, 40))
def test_tiles_cover_the_result_and_fit_the_device(spec: JobSpec, device: Device, sharers: int) -> None:
    kind = kinds.KINDS[spec.kind]
    (rows, cols), rq, cq = kind.shape(spec), kind.row_quantum(spec), kind.col_quantum(spec)
    tiles = cover(spec, device, sharers)
    assert sum(tile.cells for tile in tiles) == rows * cols
    for tile in tiles:
        assert tile.row0 % rq == 0 and (tile.rows % rq == 0 or tile.row0 + tile.rows == rows)
        assert tile.col0 % max(cq, 1) == 0 and (cq or tile.cols == cols)
        if spec.task_rows is not None:
            assert tile.rows == min(spec.task_rows, rows - tile.row0)
            continue
        one_quantum = tile.rows <= rq and tile.cols <= max(cq, 1)
        result = kind.result_bytes(spec, tile.rows, tile.cols)
        fits = result <= device.result_bytes_max
        fits = fits and result + kind.input_bytes(spec, tile.rows, tile.cols) <= device.memory_bytes
        assert fits or one_quantum or tile.rows <= rq
        ms = kind.ops(spec, tile.rows, tile.cols) / device.gops / 1e6
        assert ms <= 2.2 * device.task_ms or tile.rows <= rq, "about the tier's duration at most"


def test_a_large_product_is_cut_to_the_devices_pace() -> None:
    spec = kinds.checked(matmul(8192, 8192, 4096))
    device = Device(100.0, 1 << 30, 1000, 256 << 20)
    tiles = cover(spec, device, 4)
    times = [2 * tile.cells * 4096 / 1e8 for tile in tiles]
    assert 900 <= times[0] <= 1000 and max(times) <= 1300, times
    assert min(times[:-1]) >= 49 and len(tiles) < 60, "shares shrink towards the end, but not to crumbs"


def test_every_sharer_gets_something() -> None:
    spec = kinds.checked(matmul(1000, 1000, 1000))
    # each row is 2 Mop, a millisecond on this device: ten sharers get a tenth each
    assert next_tile(spec, 0, 0, 0, Device(2.0, 1 << 30, 1000, 1 << 28), 10).rows == 100
    # but nobody gets less than 50 ms of work
    assert next_tile(spec, 0, 0, 0, Device(20.0, 1 << 30, 1000, 1 << 28), 10).rows == 500


def test_no_crumbs_are_left_at_the_end() -> None:
    spec = kinds.checked(matmul(105, 1000, 1000))
    device = Device(2.0, 1 << 30, 100, 1 << 28)
    rows = [tile.rows for tile in cover(spec, device, 1)]
    assert sum(rows) == 105 and min(rows) > max(rows) // 4


@pytest.mark.parametrize(
    ("gops", "memory_mib", "gpu", "name"),
    [
        (0.5, 15, False, None),
        (0.5, 16, False, "wasm-phone"),
        (7.9, 4096, False, "wasm-phone"),
        (8, 256, False, "wasm-laptop"),
        (8, 255, False, "wasm-phone"),
        (29.9, 512, True, "wasm-laptop"),
        (30, 512, False, "wasm-desktop"),
        (500, 512, False, "wasm-desktop"),
        (200, 512, True, "gpu-integrated"),
        (199, 512, True, "wasm-desktop"),
        (2_000, 1_024, True, "gpu-discrete"),
        (2_000, 1_023, True, "gpu-integrated"),
        (20_000, 4_096, True, "gpu-large"),
        (20_000, 4_095, True, "gpu-discrete"),
        (90_000, 65_536, False, "wasm-desktop"),
        (0, 65_536, True, "wasm-phone"),
    ],
)
def test_tiers(gops: float, memory_mib: int, gpu: bool, name: str | None) -> None:
    tier = tier_for(gops, memory_mib, gpu)
    assert (tier.name if tier else None) == name


def test_tiers_rise() -> None:
    for lower, higher in itertools.pairwise(TIERS):
        assert lower.gops_min < higher.gops_min and lower.memory_mib_min <= higher.memory_mib_min
        assert lower.queue_ms >= 2 * lower.task_ms, "a device has a task in hand while the next travels"
    assert set(BY_NAME) == {tier.name for tier in TIERS} and "banned" not in BY_NAME and "too-small" not in BY_NAME


@pytest.mark.parametrize(
    ("claimed", "gateway_ms", "believed"),
    [
        (10.0, 100.0, 10.0),  # 1 Gop in 100 ms shows 10: believed
        (4_000.0, 100.0, 4_000.0),  # a GPU shows little of itself in small products
        (9_000.0, 100.0, 5_000.0),  # but not that little
        (10.0, 0.0, 10.0),
        (1e12, 0.0, 5_000_000.0),  # a clock that shows nothing still bounds the claim
        (0.0, 100.0, 0.01),
        (-5.0, 100.0, 0.01),
    ],
)
def test_claims_are_cut_to_what_the_gateway_timed(claimed: float, gateway_ms: float, believed: float) -> None:
    assert believable_gops(claimed, 1_000_000_000, gateway_ms) == pytest.approx(believed)
