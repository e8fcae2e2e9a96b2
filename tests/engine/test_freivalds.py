"""Freivalds' check accepts every right product and refuses every changed one."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardy_common.engine import Engine
from shardy_common.engine import reference as ref

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def product(m: int, n: int, k: int, seed: int) -> tuple[np.ndarray[Any, Any], ...]:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-128, 128, (m, k), dtype=np.int8), rng.integers(-128, 128, (n, k), dtype=np.int8)
    return a, b, ref.matmul_i8(a, b)


sizes = {"m": st.integers(1, 20), "n": st.integers(1, 70), "k": st.integers(1, 70), "seed": st.integers(0, 2**32)}


@QUICK
@given(**sizes, rounds=st.integers(1, 5))
def test_right_products_pass(engine: Engine, m: int, n: int, k: int, seed: int, rounds: int) -> None:
    a, b, c = product(m, n, k, seed)
    assert engine.freivalds(a, b, c, secrets.token_bytes(32), rounds) == []


@QUICK
@given(**sizes, bit=st.integers(0, 31), place=st.integers(0, 2**16))
def test_one_changed_bit_is_refused(engine: Engine, m: int, n: int, k: int, seed: int, bit: int, place: int) -> None:
    a, b, c = product(m, n, k, seed)
    flat = c.reshape(-1).view(np.uint32)
    flat[place % flat.size] ^= np.uint32(1 << bit)
    assert engine.freivalds(a, b, c, secrets.token_bytes(32), 1) == [place % flat.size // n]


@QUICK
@given(**sizes, data=st.data())
def test_changed_operands_are_refused(engine: Engine, m: int, n: int, k: int, seed: int, data: st.DataObject) -> None:
    a, b, c = product(m, n, k, seed)
    row, column = data.draw(st.integers(0, m - 1)), data.draw(st.integers(0, k - 1))
    other = a.copy()
    other[row, column] ^= 1
    # The product changes only where B's column is not zero.
    expected = [row] if b[:, column].any() else []
    assert engine.freivalds(other, b, c, secrets.token_bytes(32), 2) == expected


@QUICK
@given(**sizes, place=st.integers(0, 2**16), sign=st.sampled_from([-1, 1]))
def test_a_multiple_of_p_is_refused(engine: Engine, m: int, n: int, k: int, seed: int, place: int, sign: int) -> None:
    a, b, c = product(m, n, k, seed)
    wide = c.astype(np.int64)
    at = place % wide.size
    wide.reshape(-1)[at] += sign * ref.P
    if not -(2**31) <= wide.reshape(-1)[at] < 2**31:
        wide.reshape(-1)[at] -= 2 * sign * ref.P
    assert engine.freivalds(a, b, wide.astype(np.int32), secrets.token_bytes(32), 2) == [at // n]


@pytest.mark.parametrize("value", [-128, 127])
def test_the_largest_sums(engine: Engine, value: int) -> None:
    a, b = np.full((3, 65_535), value, np.int8), np.full((9, 65_535), -128, np.int8)
    c = np.full((3, 9), 65_535 * -128 * value, np.int32)
    assert engine.freivalds(a, b, c, secrets.token_bytes(32), 3) == []
    c[1, 8] -= 1
    assert engine.freivalds(a, b, c, secrets.token_bytes(32), 3) == [1]


def test_every_wrong_row_is_named(engine: Engine) -> None:
    a, b, c = product(300, 40, 50, 11)
    wrong = sorted(np.random.default_rng(5).choice(300, 77, replace=False).tolist())
    c[wrong, 7] += 1
    assert engine.freivalds(a, b, c, secrets.token_bytes(32), 2) == wrong


def test_extreme_wrong_values_do_not_confuse_other_rows(engine: Engine) -> None:
    a, b, c = product(4, 4096, 65, 12)
    c[1], c[3] = -(2**31), 2**31 - 1
    assert engine.freivalds(a, b, c, secrets.token_bytes(32), 2) == [1, 3]


def test_agrees_with_the_oracle_round_by_round(engine: Engine) -> None:
    """With p's multiples out of reach, only the seed decides; the same seed gives the same answer in both."""
    a, b, c = product(6, 19, 23, 13)
    c[2, 3] += 4
    for rounds in (1, 2, 3):
        seed = secrets.token_bytes(32)
        assert engine.freivalds(a, b, c, seed, rounds) == ref.freivalds(a, b, c, seed, rounds) == [2]


def test_buffers_are_checked_in_place(engine: Engine) -> None:
    a, b, c = product(60, 30, 20, 14)
    c[59, 29] ^= 1
    with engine.load(a) as left, engine.load(b) as right, engine.load(c) as result:
        seed = secrets.token_bytes(32)
        assert engine.freivalds(left, right, result, seed) == [59]
        assert engine.freivalds(left, b, c, seed) == [59]
        assert engine.freivalds(a, right, result, seed) == [59]
        result.array[59, 29] ^= 1
        assert engine.freivalds(left, right, result, seed) == []


def test_challenge_is_uniform_enough() -> None:
    source = ref.challenge(bytes(32), 0)
    values = [next(source) for _ in range(20_000)]
    assert all(0 <= value < ref.P for value in values)
    counts = np.histogram(values, 16, (0, ref.P))[0]
    assert abs(counts - 1250).max() < 6 * 1250**0.5
