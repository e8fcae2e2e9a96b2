"""For any input, the module and the NumPy oracle give the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardy_common.engine import Engine
from shardy_common.engine import reference as ref

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

BIAS = np.array([0, 0x8000_0000, 0x7FC0_0000, 0x7F80_0000, 0xFF80_0000, 1, 0x8000_0001, 0x3F80_0000], np.uint32)


@st.composite
def floats(draw: st.DrawFn, *, finite: bool = False, rows_max: int = 40, cols_max: int = 70) -> np.ndarray[Any, Any]:
    """float32[rows, cols] of random bits, one in four of them a special value, or finite values of mixed size."""
    shape = (draw(st.integers(0, rows_max)), draw(st.integers(0, cols_max)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if finite:
        scaled = rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 7, shape)
        return np.where(rng.random(shape) < 0.1, -0.0, scaled).astype(np.float32)
    bits = rng.integers(0, 2**32, shape, dtype=np.uint32)
    return np.where(rng.random(shape) < 0.25, rng.choice(BIAS, shape), bits).view(np.float32)


bounds = st.tuples(
    st.floats(-1e6, 1e6, width=32, allow_nan=False), st.floats(-1e6, 1e6, width=32, allow_nan=False)
).filter(lambda pair: pair[0] < pair[1])
alphas = st.floats(2.0**-20, 1.0, width=32)


Pair = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def both_same(got: Pair, want: Pair) -> None:
    same(got[0], want[0])
    same(got[1], want[1])


def same(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> None:
    assert got.shape == want.shape and got.dtype == want.dtype
    assert ref.as_bytes(got) == ref.as_bytes(want)


@QUICK
@given(x=floats(), limits=bounds)
def test_clamp(engine: Engine, x: np.ndarray[Any, Any], limits: tuple[float, float]) -> None:
    same(engine.clamp(x, *limits), ref.clamp(x, *limits))


@QUICK
@given(x=floats(finite=True), axis=st.sampled_from([-1, 0, 1]), alpha=alphas)
def test_ema(engine: Engine, x: np.ndarray[Any, Any], axis: int, alpha: float) -> None:
    same(engine.ema(x, axis, alpha), ref.ema(x, axis, alpha))


@QUICK
@given(x=floats(finite=True), absmax=st.none() | st.floats(0, 1e6, width=32))
def test_quantise(engine: Engine, x: np.ndarray[Any, Any], absmax: float | None) -> None:
    both_same(engine.quantise(x, absmax), ref.quantise(x, absmax))


@QUICK
@given(
    x=floats(),
    limits=bounds,
    axis=st.sampled_from([-1, 0, 0, 1]),
    alpha=alphas,
    warm=st.integers(0, 30),
    segment=st.integers(1, 20),
    scale=st.sampled_from(["row", "tensor"]),
    cut=st.integers(0, 40),
)
def test_preexec_and_its_splits(
    engine: Engine,
    x: np.ndarray[Any, Any],
    limits: tuple[float, float],
    axis: int,
    alpha: float,
    warm: int,
    segment: int,
    scale: str,
    cut: int,
) -> None:
    rule: dict[str, Any] = {
        "warm_rows": warm, "segment_rows": segment, "lo": limits[0], "hi": limits[1], "ema_axis": axis,
        "alpha": alpha, "scale": scale,
    }  # fmt: skip
    rows = len(x)
    want = ref.preexec(x, row0=0, rows=rows, **rule)
    both_same(engine.preexec(x, row0=0, rows=rows, **rule), want)
    row0 = min(cut, rows) // segment * segment
    part = engine.preexec(x[row0 - min(warm, row0) :], row0=row0, rows=rows - row0, **rule)
    both_same(part, (want[0][row0:], want[1][row0:]))


def test_preexec_equals_its_steps(engine: Engine) -> None:
    x = np.random.default_rng(7).standard_normal((50, 37)).astype(np.float32)
    for axis in (-1, 0, 1):
        q, scale = engine.preexec(
            x, row0=0, rows=50, warm_rows=0, segment_rows=50, lo=-1, hi=1.5, ema_axis=axis, alpha=0.25, scale="row"
        )
        steps = engine.quantise(engine.ema(engine.clamp(x, -1, 1.5), axis, 0.25))
        same(q, steps[0])
        same(scale, steps[1])


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_blocks_do_not_show(engine: Engine, axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((100, 9)).astype(np.float32)
    a, b = rng.integers(-128, 128, (70, 33), dtype=np.int8), rng.integers(-128, 128, (41, 33), dtype=np.int8)
    rule: dict[str, Any] = {
        "row0": 0, "rows": 100, "warm_rows": 13, "segment_rows": 5, "lo": -1.0, "hi": 1.0, "ema_axis": axis,
        "alpha": 0.1, "scale": "row",
    }  # fmt: skip
    monkeypatch.setattr("shardy_common.engine.binding.BLOCK_BYTES", 700)
    monkeypatch.setattr("shardy_common.engine.binding.PACKED_BYTES_MAX", 1000)
    both_same(engine.preexec(x, **rule), ref.preexec(x, **rule))
    c = engine.matmul_i8(a, b)
    same(c, ref.matmul_i8(a, b))
    c[[3, 69], [4, 0]] += 1
    assert engine.freivalds(a, b, c, bytes(32), 2) == [3, 69]
    same(engine.clamp(x, -1, 1), ref.clamp(x, -1, 1))
    assert engine.blake3(x) == ref.blake3(x.tobytes())


@QUICK
@given(m=st.integers(0, 30), n=st.integers(0, 40), k=st.integers(0, 90), seed=st.integers(0, 2**32))
def test_products(engine: Engine, m: int, n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-128, 128, (m, k), dtype=np.int8), rng.integers(-128, 128, (n, k), dtype=np.int8)
    want = ref.matmul_i8(a, b)
    same(engine.matmul_i8(a, b), want)
    with engine.pack_b(b) as packed:
        same(engine.matmul_packed(a, packed), want)
        same(engine.matmul_packed(a[::-2], packed), want[::-2])


@QUICK
@given(rows=st.integers(0, 20), cols=st.integers(0, 40), seed=st.integers(0, 2**32))
def test_dequantise(engine: Engine, rows: int, cols: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    c = rng.integers(-(2**31), 2**31, (rows, cols), dtype=np.int32)
    a_scale, b_scale = (rng.random(size).astype(np.float32) for size in (rows, cols))
    same(engine.dequantise(c, a_scale, b_scale), ref.dequantise(c, a_scale, b_scale))


@QUICK
@given(data=st.binary(max_size=5000), nbytes=st.integers(0, 300))
def test_digests(engine: Engine, data: bytes, nbytes: int) -> None:
    assert engine.blake3(data) == ref.blake3(data)
    assert engine.xof(data, nbytes) == ref.xof(data, nbytes)


@settings(QUICK, max_examples=15)
@given(
    m=st.integers(1, 20),
    n=st.integers(1, 20),
    k=st.integers(1, 40),
    rounds=st.integers(1, 4),
    seed=st.binary(min_size=32, max_size=32),
)
def test_probe(engine: Engine, m: int, n: int, k: int, rounds: int, seed: bytes) -> None:
    assert engine.probe(seed, m, n, k, rounds) == ref.probe(seed, m, n, k, rounds)
