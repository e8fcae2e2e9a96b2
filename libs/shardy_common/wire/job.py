"""What a requester asks for: the job specification, as it stands in `job.submitted` and in the API."""

from __future__ import annotations

import msgspec


class Operand(msgspec.Struct, frozen=True):
    """A row-major matrix stored as one blob. digest: hex BLAKE3 of its rows·cols·itemsize bytes."""

    digest: str
    dtype: str
    rows: int
    cols: int


class Pre(msgspec.Struct, frozen=True):
    """Pre-execution of a float32 operand: docs/protocol.md §4.3. warm_rows is set by the mesh, never by a requester."""

    lo: float
    hi: float
    ema_axis: int = -1
    alpha: float = 1.0
    segment_rows: int = 4096
    scale: str = "row"
    warm_rows: int = 0


class ProofPlan(msgspec.Struct, frozen=True):
    """For policy `proof`. circuit: in which products are proved, by name; tiles: how many of a task's tiles are proved,
    drawn after its result stands in the log (docs/proofs.md)."""

    circuit: str
    tiles: int


class JobSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """kind: a name in shardy_common.kinds; operands: by the kind's own names (a and b, or x)."""

    kind: str
    operands: dict[str, Operand]
    policy: str = "quorum"
    redundancy: int = 2
    audit_rounds: int = 2
    label: str = ""
    pre: Pre | None = None
    task_rows: int | None = None
    proof: ProofPlan | None = None


class Tile(msgspec.Struct, frozen=True, array_like=True):
    """The part of a job's result that one task makes: rows [row0, row0+rows), columns [col0, col0+cols)."""

    row0: int
    rows: int
    col0: int
    cols: int

    @property
    def cells(self) -> int:
        return self.rows * self.cols
