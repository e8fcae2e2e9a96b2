"""What the engine computes, written to be read: a NumPy oracle that shares no code with the module.

binary32 operations are made one at a time on float32 arrays, so each is rounded by itself, as docs/protocol.md §4.3
demands. Products and field arithmetic use integers that cannot overflow. Slow on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from blake3 import blake3 as _blake3
from numpy.typing import NDArray

P = (1 << 31) - 1
TINY = np.float32(2.0**-100)

Float32 = NDArray[np.float32]
Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]


def matmul_i8(a: Int8, b: Int8) -> Int32:
    """C int32[m, n] = A int8[m, k] · B int8[n, k]ᵀ."""
    c = np.zeros((a.shape[0], b.shape[0]), np.int64)
    for column in range(a.shape[1]):
        c += np.outer(a[:, column].astype(np.int64), b[:, column].astype(np.int64))
    return c.astype(np.int32)


def clamp(x: Float32, lo: float, hi: float) -> Float32:
    """x < lo → lo, x > hi → hi, NaN → lo; everything else, the sign of a zero too, stays."""
    low, high = np.float32(lo), np.float32(hi)
    y = x.copy()
    y[np.isnan(x)] = low
    y[x < low] = low
    y[x > high] = high
    return y


def _ema_step(before: Float32, x: Float32, alpha: np.float32) -> Float32:
    difference = np.subtract(x, before, dtype=np.float32)
    step = np.multiply(alpha, difference, dtype=np.float32)
    return np.add(before, step, dtype=np.float32)


def ema(x: Float32, axis: int, alpha: float) -> Float32:
    """y_0 = x_0, y_t = y_{t−1} + alpha·(x_t − y_{t−1}) down the rows (0) or along each (1); −1: none. Unsegmented."""
    if axis == -1:
        return x.copy()
    lines = x.copy() if axis == 0 else x.T.copy()
    for t in range(1, len(lines)):
        lines[t] = _ema_step(lines[t - 1], lines[t], np.float32(alpha))
    return lines if axis == 0 else np.ascontiguousarray(lines.T)


def quantise(y: Float32, tensor_absmax: float | None = None) -> tuple[Int8, Float32]:
    """(q int8[rows, cols], scale float32[rows]); m is `tensor_absmax`, or each row's own largest magnitude."""
    rows, _ = y.shape
    q, scale = np.zeros(y.shape, np.int8), np.zeros(rows, np.float32)
    for row in range(rows):
        own = max(map(abs, y[row]), default=np.float32(0))
        m = np.float32(own if tensor_absmax is None else tensor_absmax)
        if m < TINY:
            continue
        inv = np.float32(127) / m
        scaled = np.multiply(y[row], inv, dtype=np.float32)
        q[row] = np.clip(np.rint(scaled), -127, 127).astype(np.int8)
        scale[row] = m / np.float32(127)
    return q, scale


def preexec(
    x: Float32,
    *,
    row0: int,
    rows: int,
    warm_rows: int,
    segment_rows: int,
    lo: float,
    hi: float,
    ema_axis: int,
    alpha: float,
    scale: str,
) -> tuple[Int8, Float32]:
    """Clamp, segmented EMA and quantise of rows [row0, row0 + rows); x begins min(warm_rows, row0) rows earlier."""
    first = row0 - min(warm_rows, row0)
    clamped = clamp(x, lo, hi)
    if ema_axis == 0:
        parts = [np.zeros((0, x.shape[1]), np.float32)]
        for start in range(row0, row0 + rows, segment_rows):
            end = min(start + segment_rows, row0 + rows)
            warm_start = max(0, start - warm_rows)
            filtered = ema(clamped[warm_start - first : end - first], 0, alpha)
            parts.append(filtered[start - warm_start :])
        y = np.concatenate(parts)
    else:
        y = ema(clamped[row0 - first :], ema_axis, alpha)
    absmax = float(max(abs(np.float32(lo)), abs(np.float32(hi)))) if scale == "tensor" else None
    return quantise(y, absmax)


def dequantise(c: Int32, a_scale: Float32, b_scale: Float32) -> Float32:
    """d float32[m, n] = f32(c)·(a_scale[i]·b_scale[j])."""
    steps = np.multiply(a_scale[:, None], b_scale[None, :], dtype=np.float32)
    return np.multiply(c.astype(np.float32), steps, dtype=np.float32)


def challenge(seed: bytes, number: int) -> Iterator[int]:
    """The elements of round `number`'s vector r: uniform modulo p, from BLAKE3-XOF(seed ‖ number as u32)."""
    data, size = seed + number.to_bytes(4, "little"), 1024
    offset = 0
    while True:
        block = _blake3(data).digest(length=size, seek=offset)
        offset += size
        for at in range(0, size, 4):
            word = int.from_bytes(block[at : at + 4], "little") & P
            if word != P:
                yield word


def freivalds(a: Int8, b: Int8, c: Int32, seed: bytes, rounds: int) -> list[int]:
    """The rows of C that fail |C| ≤ k·2¹⁴ or C·r = A·(Bᵀ·r) modulo p in any round, ascending."""
    (_, k), n = a.shape, b.shape[0]
    bad = {row for row, values in enumerate(c.tolist()) if any(abs(value) > k << 14 for value in values)}
    for number in range(rounds):
        source = challenge(seed, number)
        r = np.array([next(source) for _ in range(n)], object)
        u = b.astype(object).T.dot(r) % P if n else np.zeros(k, object)
        for row in range(len(a)):
            left = sum(int(x) * int(y) for x, y in zip(a[row], u, strict=True))
            right = sum(int(x) * int(y) for x, y in zip(c[row], r, strict=True))
            if (left - right) % P:
                bad.add(row)
    return sorted(bad)


def blake3(data: bytes) -> bytes:
    """The 32-byte digest."""
    return _blake3(data).digest()


def xof(data: bytes, nbytes: int) -> bytes:
    """The first `nbytes` bytes of the extendable output."""
    return _blake3(data).digest(length=nbytes)


def random_i8(data: bytes, shape: tuple[int, ...]) -> Int8:
    """The extendable output over `data`, read as int8."""
    return np.frombuffer(xof(data, int(np.prod(shape))), np.int8).reshape(shape)


def probe(seed: bytes, m: int, n: int, k: int, rounds: int) -> bytes:
    """The digest of the joining probe, docs/protocol.md §2.1."""
    state = seed
    for _ in range(rounds):
        c = matmul_i8(random_i8(state + b"A", (m, k)), random_i8(state + b"B", (n, k)))
        state = blake3(c.astype("<i4").tobytes())
    return state


def as_bytes(array: NDArray[Any]) -> bytes:
    """The array's bytes, little-endian, row-major."""
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
