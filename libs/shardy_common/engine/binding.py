"""`Engine`: the module's functions on NumPy arrays, with large arrays passed through in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .module import Buffer, Instance

K_MAX = 65_535
BLOCK_BYTES = 64 << 20
"""About what one call's operand and result rows take in linear memory; B is resident besides."""
PACKED_BYTES_MAX = 256 << 20
"""Most that one packed part of B takes; a larger B is passed through in parts of rows."""

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


def _want(name: str, array: NDArray[Any] | Buffer, dtype: type, ndim: int | None = 2) -> None:
    if not isinstance(array, np.ndarray | Buffer):
        raise ValueError(f"{name} must be a NumPy array, not {type(array).__name__}")
    if array.dtype != np.dtype(dtype):
        raise ValueError(f"{name} must be {np.dtype(dtype).name}, not {array.dtype}")
    if ndim is not None and len(array.shape) != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, not {len(array.shape)}")


def _want_inner(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if a[1] != b[1]:
        raise ValueError(f"inner lengths differ: A has {a[1]} columns, B has {b[1]}")
    if a[1] > K_MAX:
        raise ValueError(f"k is {a[1]:,}; at most {K_MAX:,} keeps every sum inside int32")


def _blocks(rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """[start, end) blocks of at least one row and at most about BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


class PackedB:
    """B prepared for many products with the same engine. n, k: its shape. Free it, or use it in a `with`."""

    def __init__(self, engine: Engine, b: Int8) -> None:
        _want("b", b, np.int8)
        self.n, self.k = b.shape
        if self.k > K_MAX:
            raise ValueError(f"k is {self.k:,}; at most {K_MAX:,} keeps every sum inside int32")
        size = engine.instance.call("packed_size", self.n, self.k)
        if size == 0 and b.size:
            raise ValueError("B is too large to be packed at once: pack parts of its rows")
        self.engine = engine
        self.buffer = engine.alloc(size)
        with engine.load(b) as raw:
            engine.instance.checked("pack_b", raw.ptr, self.n, self.k, self.buffer.ptr)

    def free(self) -> None:
        self.buffer.free()

    def __enter__(self) -> PackedB:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.free()


class Engine:
    """The engine on NumPy arrays. One instance per thread; the compiled module is shared by the process.

    Arrays may be strided; results are new C-ordered arrays. Every method raises ValueError for a wrong dtype, shape
    or limit, and MemoryError when linear memory (4 GiB) is exhausted.
    """

    def __init__(self, source: bytes | None = None) -> None:
        self.instance = Instance(source)

    @property
    def memory_bytes(self) -> int:
        """Size of linear memory now; it never shrinks."""
        return self.instance.memory_bytes

    def alloc(self, nbytes: int) -> Buffer:
        """A block of linear memory; see `Buffer`."""
        return self.instance.alloc(nbytes)

    def load(self, array: NDArray[Any]) -> Buffer:
        """An array copied into linear memory once, to be given to `freivalds`."""
        return self.instance.load(array)

    # Products

    def pack_b(self, b: Int8) -> PackedB:
        """B int8[n, k] prepared for `matmul_packed`."""
        return PackedB(self, b)

    def matmul_packed(self, a: Int8, b: PackedB, out: Int32 | None = None) -> Int32:
        """C int32[m, n] = A int8[m, k] · B[n, k]ᵀ, exact. out: where to put C instead of a new array."""
        _want("a", a, np.int8)
        _want_inner(a.shape, (b.n, b.k))
        if b.engine is not self or (b.buffer.ptr == 0):
            raise ValueError("this PackedB was freed or belongs to another engine")
        m = a.shape[0]
        c = np.empty((m, b.n), np.int32) if out is None else out
        if c.shape != (m, b.n) or c.dtype != np.int32:
            raise ValueError(f"out must be int32 of shape {(m, b.n)}")
        for start, end in _blocks(m, b.k + 4 * b.n):
            with self.load(a[start:end]) as left, self.instance.alloc_array((end - start, b.n), np.int32) as right:
                self.instance.checked("matmul_i8_packed", left.ptr, b.buffer.ptr, right.ptr, end - start, b.n, b.k)
                c[start:end] = right.array
        return c

    def matmul_i8(self, a: Int8, b: Int8) -> Int32:
        """C int32[m, n] = A int8[m, k] · B int8[n, k]ᵀ, exact; k ≤ 65,535."""
        _want("a", a, np.int8)
        _want("b", b, np.int8)
        _want_inner(a.shape, b.shape)
        (m, k), n = a.shape, b.shape[0]
        c = np.empty((m, n), np.int32)
        step = max(8, PACKED_BYTES_MAX // max(1, 2 * (k + 1)) // 8 * 8)
        for start in range(0, n, step):
            with self.pack_b(b[start : start + step]) as packed:
                self.matmul_packed(a, packed, c[:, start : start + step])
        return c

    def freivalds(
        self, a: Int8 | Buffer, b: Int8 | Buffer, c: Int32 | Buffer, seed: bytes, rounds: int = 2
    ) -> list[int]:
        """The rows where C int32[m, n] is not A int8[m, k] · B int8[n, k]ᵀ, ascending; [] when C is right.

        seed: 32 random bytes that nobody who made C could know. A right row is never listed; a wrong one is missed
        with probability at most (2³¹−1)^−rounds. Buffers from `load` are used where they are; arrays are copied in
        blocks of rows, B as a whole.
        """
        _want("a", a, np.int8)
        _want("b", b, np.int8)
        _want("c", c, np.int32)
        _want_inner(a.shape, b.shape)
        (m, k), n = a.shape, b.shape[0]
        if c.shape != (m, n):
            raise ValueError(f"c must have shape {(m, n)}, not {c.shape}")
        if len(seed) != 32:
            raise ValueError("seed must be 32 bytes")
        if not 1 <= rounds < 1 << 31:
            raise ValueError("rounds must be at least 1")
        bad: list[int] = []
        with ExitStack() as stack:

            def place(whole: NDArray[Any] | Buffer, start: int, end: int, inner: ExitStack) -> int:
                if isinstance(whole, Buffer):
                    return whole.ptr + start * whole.shape[1] * whole.dtype.itemsize
                return inner.enter_context(self.load(whole[start:end])).ptr

            right = place(b, 0, n, stack)
            key = stack.enter_context(self.load(np.frombuffer(seed, np.uint8))).ptr
            resident = isinstance(a, Buffer) and isinstance(c, Buffer)
            for start, end in [(0, m)] if resident else _blocks(m, k + 4 * n):
                with ExitStack() as inner:
                    left, product = place(a, start, end, inner), place(c, start, end, inner)
                    flags = inner.enter_context(self.alloc(end - start))
                    self.instance.checked(
                        "freivalds_i8", left, right, product, end - start, n, k, key, rounds, flags.ptr
                    )
                    bad.extend((np.flatnonzero(flags.view) + start).tolist())
        return bad

    # Pre-execution

    def clamp(self, x: Float32, lo: float, hi: float) -> Float32:
        """x < lo → lo, x > hi → hi, NaN → lo. Any shape; lo < hi within ±2¹²⁶."""
        _want("x", x, np.float32, None)
        flat = np.ascontiguousarray(x).reshape(-1)
        out = np.empty_like(flat)
        for start, end in _blocks(flat.size, 4):
            with self.load(flat[start:end]) as part:
                self.instance.checked("clamp_f32", part.ptr, end - start, float(lo), float(hi))
                out[start:end] = part.array
        if not flat.size:
            self.instance.checked("clamp_f32", 0, 0, float(lo), float(hi))
        return out.reshape(x.shape)

    def ema(self, x: Float32, axis: int, alpha: float) -> Float32:
        """y_t = y_{t−1} + alpha·(x_t − y_{t−1}) of finite x [rows, cols], unsegmented.

        axis: 0 runs down the rows, 1 along each row, −1 changes nothing; 0 < alpha ≤ 1.
        """
        _want("x", x, np.float32)
        with self.load(x) as part:
            self.instance.checked("ema_f32", part.ptr, *x.shape, axis, float(alpha))
            return part.array.copy()

    def quantise(self, x: Float32, tensor_absmax: float | None = None) -> tuple[Int8, Float32]:
        """(q int8[rows, cols], scale float32[rows]) of finite x; m is `tensor_absmax`, or each row's own."""
        _want("x", x, np.float32)
        rows, cols = x.shape
        q, scale = np.empty((rows, cols), np.int8), np.empty(rows, np.float32)
        absmax = -1.0 if tensor_absmax is None else float(tensor_absmax)
        if tensor_absmax is not None and not tensor_absmax >= 0:
            raise ValueError("tensor_absmax must not be negative")
        for start, end in _blocks(rows, 5 * cols):
            with (
                self.load(x[start:end]) as values,
                self.instance.alloc_array((end - start, cols), np.int8) as whole,
                self.instance.alloc_array((end - start,), np.float32) as steps,
            ):
                self.instance.checked("quantise_f32", values.ptr, end - start, cols, absmax, whole.ptr, steps.ptr)
                q[start:end], scale[start:end] = whole.array, steps.array
        return q, scale

    def dequantise(self, c: Int32, a_scale: Float32, b_scale: Float32) -> Float32:
        """d float32[m, n] = f32(c)·(a_scale[i]·b_scale[j]), each operation rounded."""
        _want("c", c, np.int32)
        _want("a_scale", a_scale, np.float32, 1)
        _want("b_scale", b_scale, np.float32, 1)
        rows, cols = c.shape
        if a_scale.shape != (rows,) or b_scale.shape != (cols,):
            raise ValueError(f"scales must have shapes {(rows,)} and {(cols,)}")
        d = np.empty((rows, cols), np.float32)
        with self.load(b_scale) as of_b:
            for start, end in _blocks(rows, 8 * cols):
                with (
                    self.load(c[start:end]) as sums,
                    self.load(a_scale[start:end]) as of_a,
                    self.instance.alloc_array((end - start, cols), np.float32) as out,
                ):
                    self.instance.checked("dequantise_i32", sums.ptr, end - start, cols, of_a.ptr, of_b.ptr, out.ptr)
                    d[start:end] = out.array
        return d

    def preexec(
        self,
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
        """(q int8[rows, cols], scale float32[rows]) of rows [row0, row0 + rows) of an operand, docs/protocol.md §4.3.

        x float32[min(warm_rows, row0) + rows, cols] is the slice that begins that many rows before row0. With
        ema_axis 0, row0 is a multiple of segment_rows ≥ 1. scale: "row" or "tensor".
        """
        _want("x", x, np.float32)
        if min(row0, rows, warm_rows) < 0:
            raise ValueError("row0, rows and warm_rows must not be negative")
        first = row0 - min(warm_rows, row0)
        if x.shape[0] != row0 - first + rows:
            raise ValueError(f"x must have {row0 - first + rows} rows, {row0 - first} of them before row0")
        if scale not in {"row", "tensor"}:
            raise ValueError('scale must be "row" or "tensor"')
        if ema_axis == 0 and (segment_rows < 1 or row0 % segment_rows):
            raise ValueError("row0 must be a multiple of segment_rows ≥ 1")
        absmax = float(max(abs(np.float32(lo)), abs(np.float32(hi)))) if scale == "tensor" else -1.0
        if not np.isfinite(absmax):
            raise ValueError("bounds must be finite")
        cols, lo, hi, alpha = x.shape[1], float(lo), float(hi), float(alpha)
        q, steps = np.empty((rows, cols), np.int8), np.empty(rows, np.float32)
        segment = segment_rows if ema_axis == 0 else max(1, BLOCK_BYTES // max(1, 5 * cols))
        halo_rows = warm_rows if ema_axis == 0 else 0
        # A slab holds whole segments, as many as fit a block: their halos then overlap inside it and are copied once.
        slab_rows = max(1, BLOCK_BYTES // max(1, 5 * cols) // segment) * segment
        for start in range(row0, row0 + rows, slab_rows):
            end = min(start + slab_rows, row0 + rows)
            top = max(0, start - halo_rows)
            with (
                self.load(x[top - first : end - first]) as values,
                self.instance.alloc_array((end - start, cols), np.int8) as whole,
                self.instance.alloc_array((end - start,), np.float32) as scales,
            ):
                for at in range(start, end, segment):
                    warm = min(halo_rows, at)
                    stop = min(at + segment, end)
                    self.instance.checked(
                        "preexec_f32", values.ptr + (at - warm - top) * cols * 4, stop - at + warm, warm, cols, lo, hi,
                        ema_axis, alpha, absmax, whole.ptr + (at - start) * cols, scales.ptr + (at - start) * 4,
                    )  # fmt: skip
                q[start - row0 : end - row0] = whole.array
                steps[start - row0 : end - row0] = scales.array
        if not rows:
            self.instance.checked("preexec_f32", 0, 0, 0, cols, lo, hi, ema_axis, alpha, absmax, 0, 0)
        return q, steps

    # Digests

    def blake3(self, data: bytes | NDArray[Any]) -> bytes:
        """The 32-byte digest of the data's bytes."""
        source = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data
        flat = np.ascontiguousarray(source).reshape(-1).view(np.uint8)
        handle = self.instance.call("blake3_new")
        for start, end in _blocks(flat.size, 1):
            with self.load(flat[start:end]) as part:
                self.instance.checked("blake3_update", handle, part.ptr, end - start)
        with self.alloc(32) as out:
            self.instance.checked("blake3_finish", handle, out.ptr)
            return out.view.tobytes()

    def xof(self, data: bytes, nbytes: int) -> bytes:
        """The first `nbytes` bytes of BLAKE3's extendable output over `data`."""
        with self.load(np.frombuffer(data, np.uint8)) as source, self.alloc(nbytes) as out:
            self.instance.checked("blake3_xof", source.ptr, len(data), out.ptr, nbytes)
            return out.view.tobytes()

    def probe(self, seed: bytes, m: int, n: int, k: int, rounds: int) -> bytes:
        """The digest of the joining probe, docs/protocol.md §2.1. seed: 32 bytes. Nothing leaves linear memory."""
        if len(seed) != 32 or k > K_MAX or min(m, n, k) < 1 or rounds < 1:
            raise ValueError(f"a probe needs a seed of 32 bytes, sizes of at least 1 and k up to {K_MAX:,}")
        call = self.instance.checked
        with ExitStack() as stack:
            key, digest = stack.enter_context(self.alloc(33)), stack.enter_context(self.alloc(32))
            a, b, c = (stack.enter_context(self.alloc(size)) for size in (m * k, n * k, 4 * m * n))
            digest.view[:] = np.frombuffer(seed, np.uint8)
            for _ in range(rounds):
                for letter, operand in ((b"A", a), (b"B", b)):
                    key.view[:] = np.frombuffer(digest.view.tobytes() + letter, np.uint8)
                    call("blake3_xof", key.ptr, 33, operand.ptr, operand.nbytes)
                call("matmul_i8", a.ptr, b.ptr, c.ptr, m, n, k)
                call("blake3_hash", c.ptr, c.nbytes, digest.ptr)
            return digest.view.tobytes()
