"""The protocol's arithmetic and tree, slow and readable: what every worker must produce to the byte."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from blake3 import blake3

F = np.float32


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """C[r,c] = A[r,k]·B[c,k]ᵀ in 64-bit integers, returned as int32."""
    return (a.astype(np.int64) @ b.astype(np.int64).T).astype("<i4")


def clamp(x: np.ndarray, lo: float, hi: float) -> np.ndarray:
    """Step 1 of §4.3."""
    return np.where(np.isnan(x), F(lo), np.minimum(np.maximum(x, F(lo)), F(hi))).astype(F)


def ema(x: np.ndarray, alpha: float) -> np.ndarray:
    """Step 2 down the rows: every operation rounded by itself."""
    y = x.copy()
    for t in range(1, len(x)):
        y[t] = y[t - 1] + F(alpha) * (x[t] - y[t - 1])
    return y


def preexec(x: np.ndarray, pre: dict[str, Any], row0: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """q int8[rows, cols] and scale float32[rows] of rows row0… of the whole operand `x`."""
    y = clamp(x, pre["lo"], pre["hi"])
    axis, alpha = pre.get("ema_axis", -1), pre.get("alpha", 1.0)
    if axis == 1:
        y = np.ascontiguousarray(ema(np.ascontiguousarray(y.T), alpha).T)
    elif axis == 0:
        out = np.empty_like(y)
        segment = pre["segment_rows"]
        for start in range(0, len(y), segment):
            first = max(0, start - pre["warm_rows"])
            end = min(len(y), start + segment)
            out[start:end] = ema(y[first:end], alpha)[start - first :]
        y = out
    y = y[row0 : row0 + rows]
    m = np.abs(y).max(axis=1)
    if pre["scale"] == "tensor":
        m = np.full_like(m, max(abs(F(pre["lo"])), abs(F(pre["hi"]))))
    q = np.zeros(y.shape, np.int8)
    scale = np.zeros(rows, F)
    for i in range(rows):
        if m[i] >= F(2.0**-100):
            q[i] = np.clip(np.rint(y[i] * (F(127) / m[i])), -127, 127)
            scale[i] = m[i] / F(127)
    return q, scale


def probe(seed: bytes, m: int, n: int, k: int, rounds: int) -> bytes:
    """The digest of §2.1."""
    state = seed
    for _ in range(rounds):
        a = np.frombuffer(blake3(state + b"A").digest(length=m * k), np.int8).reshape(m, k)
        b = np.frombuffer(blake3(state + b"B").digest(length=n * k), np.int8).reshape(n, k)
        state = blake3(matmul(a, b).tobytes()).digest()
    return state


def leaf(lease: str, digest: bytes, size: int) -> bytes:
    """The leaf of §5.1."""
    return blake3(b"\x00shardy-result-v2\x00" + lease.encode() + b"\x00" + digest + size.to_bytes(8, "little")).digest()


def root(leaves: list[bytes]) -> bytes:
    """The tree of §5.1, as RFC 9162 §2.1 defines it."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return blake3(b"\x01" + root(leaves[:k]) + root(leaves[k:])).digest()


def signed(results: list[dict[str, Any]]) -> bytes:
    """What the signature of a `result` frame covers."""
    leaves = [leaf(result["lease"], result["digest"], result["len"]) for result in results]
    return b"shardy-results-v2\x00" + root(leaves)


def warm_rows(axis: int, alpha: float) -> int:
    """What the mesh sets: an EMA's memory is under 2⁻²⁵ after so many rows."""
    return 0 if axis != 0 or alpha >= 1 else math.ceil(25 * math.log(2) / -math.log1p(-alpha))
