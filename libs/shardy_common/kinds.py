"""The registry of job kinds: what a job may ask for, how it splits, what a worker is told, what its parts are.

Everything that differs between kinds is here, so a new kind is one class (and a compute function in the workers).
All functions are pure. Shapes are (rows, columns); bytes are those of docs/protocol.md §4.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

from shardy_common import limits
from shardy_common.errors import Refused
from shardy_common.ids import is_digest
from shardy_common.proofs.needs import prover_mib
from shardy_common.proofs.signals import Circuit
from shardy_common.wire.job import JobSpec, Operand, Pre, ProofPlan, Tile

ITEM_BYTES = {"int8": 1, "float32": 4}
PROOF = "proof"
POLICIES = ("quorum", "audit", "adaptive", PROOF)
CANARY = "canary"  # policy of the jobs that the mesh gives out to test its workers; no requester may ask for it


@dataclass(frozen=True, slots=True)
class Part:
    """A named array of a job's result. source: how the assembler finds it in the tiles' bytes (gateway/assemble.py)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: str


class Kind:
    name: str
    operand_names: tuple[str, ...]
    auditable: bool

    def shape(self, spec: JobSpec) -> tuple[int, int]:
        """Rows and columns of the job's result."""
        raise NotImplementedError

    def check(self, spec: JobSpec) -> None:
        """Refused with what to change, if the job cannot be run."""
        raise NotImplementedError

    def row_quantum(self, spec: JobSpec) -> int:
        """A task's first row is a multiple of this."""
        raise NotImplementedError

    def col_quantum(self, spec: JobSpec) -> int:
        """A task's first column is a multiple of this; 0: columns are never split."""
        raise NotImplementedError

    def ops(self, spec: JobSpec, rows: int, cols: int) -> int:
        """Integer operations (or element steps) of a tile of this size: the unit of speed, credit and task size."""
        raise NotImplementedError

    def input_bytes(self, spec: JobSpec, rows: int, cols: int) -> int:
        raise NotImplementedError

    def result_bytes(self, spec: JobSpec, rows: int, cols: int) -> int:
        raise NotImplementedError

    def lease_params(self, spec: JobSpec, tile: Tile) -> dict[str, Any]:
        """`p` of a lease, with the operand slices."""
        raise NotImplementedError

    def parts(self, spec: JobSpec) -> list[Part]:
        raise NotImplementedError


def operand_slice(operand: Operand, row0: int, rows: int, warm_rows: int = 0) -> dict[str, Any]:
    """Rows [row0−warm, row0+rows) of a blob, as the protocol names them; `r` counts the rows without the warm-up."""
    warm = min(warm_rows, row0)
    width = operand.cols * ITEM_BYTES[operand.dtype]
    return {
        "d": operand.digest,
        "o": (row0 - warm) * width,
        "l": (rows + warm) * width,
        "r": rows,
        "c": operand.cols,
    }


class Matmul(Kind):
    """C = A·Bᵀ: a is m×k, b is n×k, C is m×n int32."""

    name = "matmul"
    operand_names = ("a", "b")
    auditable = True

    def shape(self, spec: JobSpec) -> tuple[int, int]:
        return spec.operands["a"].rows, spec.operands["b"].rows

    def check(self, spec: JobSpec) -> None:
        a, b = spec.operands["a"], spec.operands["b"]
        if a.dtype != b.dtype:
            raise Refused(f"operand a is {a.dtype} and b is {b.dtype}: give both the same dtype, int8 or float32")
        if a.cols != b.cols:
            raise Refused(
                f"a has {a.cols} columns and b has {b.cols}: the product A·Bᵀ needs both to have the same inner length "
                "k (b is stored n×k, so send the transpose of a k×n matrix)"
            )
        if a.cols > limits.K_MAX:
            raise Refused(
                f"k = {a.cols} is over the limit of {limits.K_MAX}: split the inner dimension and add the products",
                limit=f"k ≤ {limits.K_MAX}",
            )
        if a.dtype == "int8" and spec.pre is not None:
            raise Refused("pre is for float32 operands: leave it out for int8")
        if a.dtype == "float32" and spec.pre is None:
            raise Refused("float32 operands need pre: clamp bounds lo and hi, and how to quantise")

    def row_quantum(self, spec: JobSpec) -> int:
        return _segment(spec.pre)

    def col_quantum(self, spec: JobSpec) -> int:
        return _segment(spec.pre)

    def ops(self, spec: JobSpec, rows: int, cols: int) -> int:
        return 2 * rows * cols * spec.operands["a"].cols

    def input_bytes(self, spec: JobSpec, rows: int, cols: int) -> int:
        a = spec.operands["a"]
        warm = spec.pre.warm_rows if spec.pre else 0
        return (rows + cols + 2 * warm) * a.cols * ITEM_BYTES[a.dtype]

    def result_bytes(self, spec: JobSpec, rows: int, cols: int) -> int:
        return 4 * rows * cols + (4 * (rows + cols) if spec.pre else 0)

    def lease_params(self, spec: JobSpec, tile: Tile) -> dict[str, Any]:
        a, b, pre = spec.operands["a"], spec.operands["b"], spec.pre
        warm = pre.warm_rows if pre else 0
        params: dict[str, Any] = {
            "dtype": a.dtype,
            "k": a.cols,
            "a": operand_slice(a, tile.row0, tile.rows, warm),
            "b": operand_slice(b, tile.col0, tile.cols, warm),
        }
        if pre:
            params["pre"] = {**pre_params(pre), "row0_a": tile.row0, "row0_b": tile.col0}
        return params

    def parts(self, spec: JobSpec) -> list[Part]:
        m, n = self.shape(spec)
        if not spec.pre:
            return [Part("c", "int32", (m, n), "product")]
        return [
            Part("c", "int32", (m, n), "product"),
            Part("a_scale", "float32", (m,), "row_scale"),
            Part("b_scale", "float32", (n,), "col_scale"),
            Part("d", "float32", (m, n), "dequantised"),
        ]


class Stream(Kind):
    """Clamp, EMA and quantise a float32 matrix. No Freivalds audit exists for it: disputes go to further replicas."""

    name = "stream"
    operand_names = ("x",)
    auditable = False

    def shape(self, spec: JobSpec) -> tuple[int, int]:
        x = spec.operands["x"]
        return x.rows, x.cols

    def check(self, spec: JobSpec) -> None:
        if spec.operands["x"].dtype != "float32":
            raise Refused("a stream's operand x is float32: convert it first")
        if spec.pre is None:
            raise Refused("a stream needs pre: clamp bounds lo and hi, and how to smooth and quantise")

    def row_quantum(self, spec: JobSpec) -> int:
        return _segment(spec.pre)

    def col_quantum(self, spec: JobSpec) -> int:
        return 0

    def ops(self, spec: JobSpec, rows: int, cols: int) -> int:
        # per element: four arithmetic steps, but bound by memory traffic; 40 makes a GOPS figure of the integer
        # probe predict its time within a factor of about two. Each segment also runs through its warm-up rows.
        return math.ceil(40 * rows * cols * _warm_factor(spec.pre))

    def input_bytes(self, spec: JobSpec, rows: int, cols: int) -> int:
        warm = spec.pre.warm_rows if spec.pre else 0
        return 4 * (rows + warm) * cols

    def result_bytes(self, spec: JobSpec, rows: int, cols: int) -> int:
        return 4 * rows + rows * cols

    def lease_params(self, spec: JobSpec, tile: Tile) -> dict[str, Any]:
        x, pre = spec.operands["x"], spec.pre
        assert pre is not None
        return {
            "dtype": "float32",
            "x": operand_slice(x, tile.row0, tile.rows, pre.warm_rows),
            "rows": tile.rows,
            "cols": x.cols,
            "pre": {**pre_params(pre), "row0": tile.row0},
        }

    def parts(self, spec: JobSpec) -> list[Part]:
        rows, cols = self.shape(spec)
        return [Part("q", "int8", (rows, cols), "stream_q"), Part("scale", "float32", (rows,), "row_scale")]


KINDS: dict[str, Kind] = {kind.name: kind for kind in (Matmul(), Stream())}


def pre_params(pre: Pre) -> dict[str, Any]:
    return {
        "lo": pre.lo,
        "hi": pre.hi,
        "ema_axis": pre.ema_axis,
        "alpha": pre.alpha,
        "warm_rows": pre.warm_rows,
        "segment_rows": pre.segment_rows,
        "scale": pre.scale,
    }


def warm_rows(ema_axis: int, alpha: float) -> int:
    """Rows after which an EMA's memory of what came before is under 2⁻²⁵ of it: invisible in float32."""
    if ema_axis != 0 or alpha >= 1:
        return 0
    return math.ceil(25 * math.log(2) / -math.log1p(-alpha))


def answers_wanted(spec: JobSpec, need: int = 0) -> int:
    """How many workers compute a task. need: what its `task.created` says, 0 for what the policy says."""
    return need or (1 if spec.policy in ("audit", PROOF, CANARY) else spec.redundancy)


def proving_mib(spec: JobSpec) -> int:
    """Memory that a worker needs to prove its result, in MiB; 0 where nothing is proved."""
    return prover_mib(Circuit.named(spec.proof.circuit)) if spec.proof is not None else 0


def checked(spec: JobSpec) -> JobSpec:
    """The specification, completed (warm_rows) and within every limit, or Refused saying what to change."""
    kind = KINDS.get(spec.kind)
    if kind is None:
        raise Refused(f"kind {spec.kind!r} is not known: use one of {', '.join(KINDS)}")
    if spec.policy not in POLICIES:
        raise Refused(f"policy {spec.policy!r} is not known: use one of {', '.join(POLICIES)}")
    if spec.policy == "audit" and not kind.auditable:
        raise Refused(f"kind {kind.name} cannot be audited: use policy quorum or adaptive")
    if spec.policy == PROOF and (kind.name != Matmul.name or spec.pre is not None):
        raise Refused(
            "policy proof is for products of int8 matrices: quantise first (kind stream), or use policy audit"
        )
    if spec.proof is not None:
        _check_plan(spec, spec.proof)
    if set(spec.operands) != set(kind.operand_names):
        raise Refused(f"kind {kind.name} takes the operands {', '.join(kind.operand_names)}")
    if not 2 <= spec.redundancy <= limits.REDUNDANCY_MAX:
        raise Refused(f"redundancy is 2 to {limits.REDUNDANCY_MAX}", limit=f"redundancy ≤ {limits.REDUNDANCY_MAX}")
    if not 2 <= spec.audit_rounds <= limits.AUDIT_ROUNDS_MAX:
        raise Refused(f"audit_rounds is 2 to {limits.AUDIT_ROUNDS_MAX}")
    if len(spec.label) > limits.LABEL_CHARS_MAX:
        raise Refused(f"the label has {len(spec.label)} characters: at most {limits.LABEL_CHARS_MAX}")
    for name, operand in spec.operands.items():
        _check_operand(name, operand)
    pre = _checked_pre(spec.pre) if spec.pre else None
    spec = JobSpec(
        kind=spec.kind,
        operands=spec.operands,
        policy=spec.policy,
        redundancy=spec.redundancy,
        audit_rounds=spec.audit_rounds,
        label=spec.label,
        pre=pre,
        task_rows=spec.task_rows,
        proof=spec.proof,
    )
    kind.check(spec)
    if spec.task_rows is not None and (spec.task_rows < 1 or spec.task_rows % kind.row_quantum(spec)):
        raise Refused(f"task_rows is a positive multiple of {kind.row_quantum(spec)}")
    return spec


def _check_plan(spec: JobSpec, plan: ProofPlan) -> None:
    if spec.policy != PROOF:
        raise Refused(f"proof is for policy proof, and not for policy {spec.policy}: leave it out")
    if not 1 <= plan.tiles <= limits.PROOF_TILES_MAX:
        raise Refused(f"proof.tiles is 1 to {limits.PROOF_TILES_MAX}", limit=f"proof.tiles ≤ {limits.PROOF_TILES_MAX}")


def _check_operand(name: str, operand: Operand) -> None:
    if operand.dtype not in ITEM_BYTES:
        raise Refused(f"operand {name} has dtype {operand.dtype!r}: use int8 or float32")
    if not is_digest(operand.digest):
        raise Refused(f"operand {name}'s digest is not 64 lower-case hex digits")
    for what, n in (("rows", operand.rows), ("cols", operand.cols)):
        if not 1 <= n <= limits.SIDE_MAX:
            raise Refused(
                f"operand {name} has {n} {what}: 1 to {limits.SIDE_MAX} are possible",
                limit=f"{what} ≤ {limits.SIDE_MAX}",
            )
    size = operand.rows * operand.cols * ITEM_BYTES[operand.dtype]
    if size > limits.BLOB_BYTES_MAX:
        raise Refused(
            f"operand {name} has {size} bytes: at most {limits.BLOB_BYTES_MAX}; split it by rows",
            status=413,
            limit=f"blob ≤ {limits.BLOB_BYTES_MAX} bytes",
        )


def _checked_pre(pre: Pre) -> Pre:
    if not (math.isfinite(pre.lo) and math.isfinite(pre.hi)):
        raise Refused(f"pre.lo and pre.hi must be finite with lo < hi (got {pre.lo} and {pre.hi})")
    if max(abs(pre.lo), abs(pre.hi)) > 2.0**126:
        raise Refused("pre.lo and pre.hi are at most 2¹²⁶ (8.5e37) in size, so that no step can overflow float32")
    if not _float32(pre.lo) < _float32(pre.hi):
        raise Refused(f"pre.lo and pre.hi must be finite with lo < hi, in float32 too (got {pre.lo} and {pre.hi})")
    if pre.ema_axis not in (-1, 0, 1):
        raise Refused("pre.ema_axis is −1 (none), 0 (down the rows) or 1 (along each row)")
    if not (0 < pre.alpha <= 1 and _float32(pre.alpha) > 0):
        raise Refused(f"pre.alpha is over 0 and at most 1, in float32 too (got {pre.alpha})")
    if pre.scale not in ("row", "tensor"):
        raise Refused("pre.scale is row or tensor")
    if not 1 <= pre.segment_rows <= limits.SIDE_MAX:
        raise Refused(f"pre.segment_rows is 1 to {limits.SIDE_MAX}")
    warm = warm_rows(pre.ema_axis, pre.alpha)
    if warm > limits.WARM_ROWS_MAX:
        raise Refused(
            f"pre.alpha = {pre.alpha} remembers {warm} rows: at most {limits.WARM_ROWS_MAX} are possible; "
            "use alpha ≥ 0.0003",
            limit=f"warm-up ≤ {limits.WARM_ROWS_MAX} rows",
        )
    if warm > limits.WARM_FACTOR_MAX * pre.segment_rows:
        least = math.ceil(warm / limits.WARM_FACTOR_MAX)
        raise Refused(
            f"pre.alpha = {pre.alpha} remembers {warm} rows, and each segment of {pre.segment_rows} rows runs through "
            f"them first: use segment_rows ≥ {least}",
            limit=f"warm-up ≤ {limits.WARM_FACTOR_MAX} segments",
        )
    return Pre(pre.lo, pre.hi, pre.ema_axis, pre.alpha, pre.segment_rows, pre.scale, warm)


def _float32(x: float) -> float:
    """The value that the engine sees. It refuses what float32 makes equal or zero, so the check is made on that."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def _warm_factor(pre: Pre | None) -> float:
    """Rows run through for each row produced."""
    return 1.0 + pre.warm_rows / pre.segment_rows if pre is not None else 1.0


def _segment(pre: Pre | None) -> int:
    return pre.segment_rows if pre is not None and pre.ema_axis == 0 else 1
