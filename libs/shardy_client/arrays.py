"""Arrays on their way to and from the mesh: what fits, their bytes without copies, and streamed `.npy` bodies."""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from shardy_client.errors import InvalidInput, ShardyError
from shardy_common.limits import BLOB_BYTES_MAX, K_MAX, SIDE_MAX

DTYPES = ("int8", "float32")
CHUNK_BYTES = 1 << 20
NPY_HEADER_MAX = 65_536
HASH_THREADED_BYTES = 1 << 20


@dataclass(slots=True, frozen=True)
class Operand:
    """A matrix that the mesh stores: row-major, named by the BLAKE3 digest (hex) of its bytes."""

    digest: str
    dtype: str
    rows: int
    cols: int


@dataclass(slots=True, frozen=True)
class PreExec:
    """What happens to float32 operands before the product: clamp to [lo, hi], smooth, quantise to int8.

    ema_axis: −1 no smoothing, 0 down the rows, 1 along each row. alpha: weight of the new value, 0 < alpha ≤ 1.
    segment_rows: with ema_axis 0, smoothing can be split among devices at multiples of this many rows.
    scale: `row`, each row's own largest value becomes 127; `tensor`, the larger bound does, in every row.
    """

    lo: float
    hi: float
    ema_axis: int = -1
    alpha: float = 1.0
    segment_rows: int = 4096
    scale: str = "row"

    def __post_init__(self) -> None:
        try:
            lo, hi, alpha = float(self.lo), float(self.hi), float(self.alpha)
        except (TypeError, ValueError):
            raise InvalidInput("pre: lo, hi and alpha must be numbers") from None
        if not (math.isfinite(lo) and math.isfinite(hi)):
            raise InvalidInput(f"pre: the bounds are {lo} and {hi}; NaN and infinite bounds are not possible")
        if lo >= hi:
            raise InvalidInput(f"pre: lo = {lo} must be below hi = {hi}")
        if max(abs(lo), abs(hi)) > 2.0**126:
            raise InvalidInput("pre: bounds over 2**126 leave no room in float32; use smaller ones")
        if self.ema_axis not in (-1, 0, 1):
            raise InvalidInput(
                f"pre: ema_axis is {self.ema_axis!r}; use -1 (none), 0 (down the rows) or 1 (along rows)"
            )
        if not 0 < alpha <= 1:
            raise InvalidInput(f"pre: alpha is {alpha}; it must be over 0 and at most 1")
        if not 1 <= self.segment_rows <= SIDE_MAX:
            raise InvalidInput(f"pre: segment_rows is {self.segment_rows}; use 1 to {SIDE_MAX:,}")
        if self.scale not in ("row", "tensor"):
            raise InvalidInput(f"pre: scale is {self.scale!r}; use 'row' or 'tensor'")

    def to_json(self) -> dict[str, Any]:
        """The map of docs/api.md."""
        return {name: getattr(self, name) for name in self.__slots__}


class FloatProduct(NamedTuple):
    """A float32 product: exact integers c int32[m,n], scales f32[m] and f32[n], and d f32[m,n], the dequantised c."""

    c: NDArray[np.int32]
    a_scale: NDArray[np.float32]
    b_scale: NDArray[np.float32]
    d: NDArray[np.float32]


class Quantised(NamedTuple):
    """A pre-executed matrix: q int8[rows,cols]; q·scale[:, None] is the clamped, smoothed value. scale f32[rows]."""

    q: NDArray[np.int8]
    scale: NDArray[np.float32]


def checked(name: str, array: Any, *, dtypes: tuple[str, ...] = DTYPES) -> NDArray[Any]:
    """`array` as a matrix the mesh takes; InvalidInput saying what to change. Nothing is copied."""
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"{name} is a {type(array).__name__}; give a NumPy array (numpy.asarray)")
    if array.dtype.name not in dtypes or array.dtype.byteorder == ">":
        hint = {
            "float64": "convert it with .astype(numpy.float32)",
            "float16": "convert it with .astype(numpy.float32)",
            "uint8": "subtract 128 or check the range, then .astype(numpy.int8)",
            "float32": "quantise it to int8 first",
        }.get(array.dtype.name, f"check that its values fit, then .astype(numpy.{dtypes[0]})")
        raise InvalidInput(f"{name} has dtype {array.dtype}; the mesh takes {' or '.join(dtypes)}: {hint}")
    if array.ndim != 2:
        raise InvalidInput(f"{name} has {array.ndim} dimensions; a matrix has 2 (use .reshape or [None, :])")
    rows, cols = array.shape
    if not 1 <= rows <= SIDE_MAX or not 1 <= cols <= SIDE_MAX:
        raise InvalidInput(f"{name} is {rows:,}×{cols:,}; each side must be 1 to {SIDE_MAX:,}: split it into blocks")
    if array.nbytes > BLOB_BYTES_MAX:
        raise InvalidInput(
            f"{name} has {array.nbytes:,} bytes; one operand has at most {BLOB_BYTES_MAX:,}: split its rows"
        )
    return array


def check_product(a: Operand, b: Operand, pre: PreExec | None) -> None:
    """Whether A·Bᵀ of stored operands (A m×k, B n×k) can be asked for."""
    if a.cols != b.cols:
        raise InvalidInput(
            f"inner lengths differ: A has {a.cols:,} columns, B has {b.cols:,} rows"
            " (if B is stored as n×k already, say b_layout='nk')"
        )
    if a.cols > K_MAX:
        raise InvalidInput(
            f"k = {a.cols:,}; at most {K_MAX:,} keep every sum inside int32: split k and add the products"
        )
    if a.dtype != b.dtype:
        raise InvalidInput(f"A is {a.dtype}, B is {b.dtype}; both must be the same")
    if a.dtype == "float32" and pre is None:
        raise InvalidInput("float32 operands need pre=PreExec(lo, hi): the bounds that they are quantised within")
    if a.dtype == "int8" and pre is not None:
        raise InvalidInput("pre applies to float32 operands; int8 operands are used as they are")
    if 4 * a.rows * b.rows > BLOB_BYTES_MAX * 64:
        raise InvalidInput(f"a product of {a.rows:,}×{b.rows:,} is too large for one job: split A by rows")


def byte_view(array: NDArray[Any]) -> memoryview:
    """The bytes of a matrix, row-major, without a copy when it is so already."""
    return np.ascontiguousarray(array).data.cast("B")


def digest(data: memoryview) -> str:
    """hex BLAKE3; large data on several threads."""
    threads = blake3.AUTO if len(data) >= HASH_THREADED_BYTES else 1
    return blake3(data, max_threads=threads).hexdigest()


def chunks(data: memoryview) -> Iterator[memoryview]:
    """Views of 1 MiB each."""
    for at in range(0, len(data), CHUNK_BYTES):
        yield data[at : at + CHUNK_BYTES]


class NpyReader:
    """Takes a `.npy` body in pieces and writes its values straight into the array that it allocates.

    out: an array to fill instead; its dtype and shape must be the body's.
    """

    def __init__(self, out: NDArray[Any] | None = None) -> None:
        self._out = out
        self._head: bytearray | None = bytearray()
        self._view = memoryview(b"")
        self._at = 0
        self.array: NDArray[Any] | None = None

    def feed(self, data: bytes) -> None:
        """The next piece. ShardyError when the body is not a plain C-ordered array, or longer than it says."""
        if self._head is not None:
            self._head += data
            end = _header_end(self._head)
            if end is None:
                if len(self._head) > NPY_HEADER_MAX:
                    raise ShardyError("the mesh sent something that is not a .npy array")
                return
            head, self._head = self._head, None
            self._allocate(bytes(head[:end]))
            data = bytes(head[end:])
        end = self._at + len(data)
        if end > len(self._view):
            raise ShardyError("the mesh sent more bytes than the array has")
        self._view[self._at : end] = data
        self._at = end

    def finish(self) -> NDArray[Any]:
        """The array; ShardyError when the body ended early."""
        if self.array is None or self._at != len(self._view):
            raise ShardyError("the result ended before the array did; ask for it again")
        return self.array

    def _allocate(self, head: bytes) -> None:
        start = 10 if head[6] == 1 else 12
        try:
            fields = ast.literal_eval(head[start:].decode("latin1").strip())
            dtype, shape = np.dtype(fields["descr"]), tuple(fields["shape"])
            plain = not fields["fortran_order"] and dtype.kind in "if" and all(type(n) is int for n in shape)
        except (ValueError, SyntaxError, KeyError, TypeError):
            plain = False
        if not plain:
            raise ShardyError("the mesh sent a .npy array of a kind that results never have")
        if self._out is not None and (
            self._out.dtype != dtype or self._out.shape != shape or not self._out.flags.c_contiguous
        ):
            raise InvalidInput(f"out must be a C-ordered {dtype} array of shape {shape}")
        self.array = np.empty(shape, dtype) if self._out is None else self._out
        self._view = self.array.reshape(-1).data.cast("B")


def check_npy(file: IO[bytes]) -> None:
    """ShardyError when a received file is not a whole .npy array."""
    try:
        file.seek(0)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        whole = file.tell() + dtype.itemsize * math.prod(shape) == file.seek(0, os.SEEK_END)
    except ValueError:
        whole = False
    if not whole:
        raise ShardyError("the mesh sent something that is not a whole .npy array; ask for it again")


def _header_end(head: bytearray) -> int | None:
    if len(head) >= 6 and head[:6] != b"\x93NUMPY":
        raise ShardyError("the mesh sent something that is not a .npy array")
    if len(head) < 12:
        return None
    if head[6] not in (1, 2, 3):
        raise ShardyError(f"the mesh sent a .npy array of unknown version {head[6]}")
    size = int.from_bytes(head[8:10], "little") + 10 if head[6] == 1 else int.from_bytes(head[8:12], "little") + 12
    if size > NPY_HEADER_MAX:
        raise ShardyError("the mesh sent something that is not a .npy array")
    return size if len(head) >= size else None
