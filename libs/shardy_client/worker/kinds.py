"""The kinds of work a worker knows: what a lease's parameters mean, and the bytes they ask for (protocol §4).

A kind is one entry of `KINDS`: `parse` turns the map `p` into a plan or raises LeaseError, `run` turns plan and
operand bytes into result bytes. Everything else (fetching, queues, hashing, sending) is the same for all kinds.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shardy_client.worker.cache import Key
from shardy_common.limits import K_MAX, RESULT_BYTES_MAX

if TYPE_CHECKING:
    from shardy_client.worker.backends import Backend

Bytes = bytes | bytearray | memoryview


class LeaseError(ValueError):
    """The lease asks for something this worker does not do: it goes back with the code `unsupported`."""


@dataclass(slots=True)
class Operand:
    """`rows`×`cols` elements that a lease needs, in the blob bytes that `key` names (warm-up rows included)."""

    key: Key
    rows: int
    cols: int


@dataclass(slots=True, frozen=True)
class Pre:
    """Pre-execution parameters of one lease (protocol §4.3). ema_axis −1: no EMA; scale: `row` or `tensor`."""

    lo: float
    hi: float
    ema_axis: int
    alpha: float
    warm_rows: int
    segment_rows: int
    scale: str

    def warm(self, row0: int) -> int:
        """How many rows before `row0` the operand's slice begins with."""
        return min(self.warm_rows, row0) if self.ema_axis == 0 else 0


class Plan(Protocol):
    """What a kind's `parse` returns; nobody changes it afterwards.

    ops: arithmetic operations, to judge how long it will take.
    group: leases of one job with an equal, not-None group may be computed as one product.
    """

    operands: tuple[Operand, ...]
    ops: int
    group: Any


@dataclass(slots=True)
class MatmulPlan:
    """C = A·Bᵀ over int8, or over float32 through pre-execution."""

    a: Operand
    b: Operand
    k: int
    pre: Pre | None
    row0_a: int
    row0_b: int
    operands: tuple[Operand, ...]
    ops: int
    group: Key | None


@dataclass(slots=True)
class StreamPlan:
    """Pre-execution alone."""

    x: Operand
    row0: int
    pre: Pre
    operands: tuple[Operand, ...]
    ops: int
    group: Key | None = None


def _operand(value: Any, cols: int) -> Operand:
    digest, offset, length, rows = value["d"], value["o"], value["l"], value["r"]
    if not (type(offset) is type(length) is type(rows) is int and rows > 0 and offset >= 0 and length > 0):
        raise LeaseError("an operand needs whole, positive o, l and r")
    if not isinstance(digest, str) or len(digest) != 64:
        raise LeaseError("an operand's d is 64 hex digits")
    return Operand((digest, offset, length), rows, cols)


def _check_length(name: str, operand: Operand, rows: int, item: int) -> None:
    if operand.key[2] != rows * operand.cols * item:
        raise LeaseError(f"operand {name}: {operand.key[2]} bytes for {rows}×{operand.cols} elements of {item} bytes")


def _count(value: Any, name: str) -> int:
    if type(value) is not int or value < 0:
        raise LeaseError(f"{name} is {value!r}; a whole number of at least 0 is needed")
    return value


def _pre(value: Any) -> Pre:
    if not isinstance(value, dict):
        raise LeaseError("float32 work needs the map pre")
    lo, hi, alpha = float(value["lo"]), float(value["hi"]), float(value.get("alpha", 1.0))
    axis, scale = value.get("ema_axis", -1), value.get("scale", "row")
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        raise LeaseError(f"clamp bounds {lo} and {hi} must be finite, the first below the second")
    if axis not in (-1, 0, 1) or not 0 < alpha <= 1:
        raise LeaseError(f"ema_axis {axis!r} with alpha {alpha} is not defined")
    if scale not in ("row", "tensor"):
        raise LeaseError(f"scale {scale!r} is neither row nor tensor")
    warm, segment = _count(value.get("warm_rows", 0), "warm_rows"), _count(value.get("segment_rows", 0), "segment_rows")
    if axis == 0 and segment == 0:
        raise LeaseError("an EMA down the rows needs segment_rows")
    return Pre(lo, hi, axis, alpha, warm, segment, scale)


def parse_matmul(p: dict[str, Any]) -> MatmulPlan:
    """Plan of a `matmul` lease, or LeaseError."""
    k, dtype = p["k"], p["dtype"]
    if type(k) is not int or not 0 < k <= K_MAX:
        raise LeaseError(f"k is {k!r}; 1 to {K_MAX} keep every sum inside int32")
    a, b = _operand(p["a"], k), _operand(p["b"], k)
    if a.rows * b.rows * 4 > RESULT_BYTES_MAX:
        raise LeaseError(f"a result of {a.rows}×{b.rows} is over {RESULT_BYTES_MAX} bytes")
    ops = 2 * a.rows * b.rows * k
    if dtype == "int8":
        if a.key[2] != a.rows * k or b.key[2] != b.rows * k:
            _check_length("a", a, a.rows, 1)
            _check_length("b", b, b.rows, 1)
        return MatmulPlan(a, b, k, None, 0, 0, (a, b), ops, b.key)
    if dtype != "float32":
        raise LeaseError(f"dtype {dtype!r} is neither int8 nor float32")
    pre = _pre(p.get("pre"))
    row0_a, row0_b = _count(p["pre"].get("row0_a", 0), "row0_a"), _count(p["pre"].get("row0_b", 0), "row0_b")
    _check_length("a", a, a.rows + pre.warm(row0_a), 4)
    _check_length("b", b, b.rows + pre.warm(row0_b), 4)
    return MatmulPlan(a, b, k, pre, row0_a, row0_b, (a, b), ops + 8 * k * (a.rows + b.rows), None)


def parse_stream(p: dict[str, Any]) -> StreamPlan:
    """Plan of a `stream` lease, or LeaseError."""
    rows, cols = _count(p["rows"], "rows"), _count(p["cols"], "cols")
    if p["dtype"] != "float32" or cols == 0:
        raise LeaseError("a stream lease has float32 rows of at least one column")
    x = _operand(p["x"], cols)
    pre = _pre(p.get("pre"))
    row0 = _count(p["pre"].get("row0", 0), "row0")
    if x.rows != rows:
        raise LeaseError(f"rows is {rows}, but the operand has {x.rows}")
    _check_length("x", x, rows + pre.warm(row0), 4)
    return StreamPlan(x, row0, pre, (x,), 8 * rows * cols)


def _int8(data: Bytes, operand: Operand) -> NDArray[np.int8]:
    return np.frombuffer(data, np.int8).reshape(operand.rows, operand.cols)


def _float32(data: Bytes, operand: Operand) -> NDArray[np.float32]:
    return np.frombuffer(data, np.dtype("<f4")).reshape(-1, operand.cols)


def run_matmul(plan: MatmulPlan, data: Sequence[Bytes], backend: Backend) -> Bytes:
    """Result bytes: C for int8; a_scale ‖ b_scale ‖ C for float32."""
    if plan.pre is None:
        return backend.matmul(_int8(data[0], plan.a), _int8(data[1], plan.b), plan.b.key).data.cast("B")
    qa, sa = backend.preexec(_float32(data[0], plan.a), plan.a, plan.row0_a, plan.pre, keep=False)
    qb, sb = backend.preexec(_float32(data[1], plan.b), plan.b, plan.row0_b, plan.pre, keep=True)
    out = bytearray(4 * (plan.a.rows + plan.b.rows + plan.a.rows * plan.b.rows))
    view = memoryview(out)
    heads = 4 * plan.a.rows, 4 * (plan.a.rows + plan.b.rows)
    view[: heads[0]] = sa.tobytes()
    view[heads[0] : heads[1]] = sb.tobytes()
    c = np.frombuffer(view[heads[1] :], np.dtype("<i4")).reshape(plan.a.rows, plan.b.rows)
    backend.matmul(qa, qb, (*plan.b.key, plan.row0_b, plan.pre), out=c)
    return view


def run_stream(plan: StreamPlan, data: Sequence[Bytes], backend: Backend) -> Bytes:
    """Result bytes: scale ‖ q."""
    q, scale = backend.preexec(_float32(data[0], plan.x), plan.x, plan.row0, plan.pre, keep=False)
    return b"".join((scale.tobytes(), q.data.cast("B")))


def run_group(plans: Sequence[MatmulPlan], data: Sequence[Sequence[Bytes]], backend: Backend) -> list[Bytes]:
    """Results of int8 leases that share B, by one product over the stacked rows of their A."""
    first = plans[0]
    rows = sum(plan.a.rows for plan in plans)
    a = np.frombuffer(b"".join([d[0] for d in data]), np.int8).reshape(rows, first.k)
    c = backend.matmul(a, _int8(data[0][1], first.b), first.b.key).data.cast("B")
    row_bytes, at = 4 * first.b.rows, 0
    results: list[Bytes] = []
    for plan in plans:
        end = at + plan.a.rows * row_bytes
        results.append(c[at:end])
        at = end
    return results


@dataclass(slots=True, frozen=True)
class Kind:
    """How one kind of lease is read and computed."""

    parse: Callable[[dict[str, Any]], Any]
    run: Callable[[Any, Sequence[Bytes], Any], Bytes]


KINDS: dict[str, Kind] = {
    "matmul": Kind(parse_matmul, run_matmul),
    "stream": Kind(parse_stream, run_stream),
}


def parse(kind: str, p: Any) -> Plan:
    """The plan of a lease of `kind` with parameters `p`; LeaseError when it cannot be one."""
    known = KINDS.get(kind)
    if known is None:
        raise LeaseError(f"this worker does not know the kind {kind!r}")
    try:
        return known.parse(p)
    except (KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise LeaseError(f"parameters of a {kind} lease: {type(error).__name__}: {error}") from None
    except ValueError as error:
        raise LeaseError(str(error)) from None
