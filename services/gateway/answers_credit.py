"""Shapes of receipts and credit."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from shardy_gateway.answer_base import Count, Ms, Next, Strict


class Signature(Strict):
    """Ed25519, hex: over "shardy-receipt-v1", a zero byte and the canonical statement."""

    key: str
    sig: str


class Receipt(Strict):
    """docs/receipts.md says what a statement holds. tasks: the statements of all tasks, in a job's receipt. keys: the
    verification keys of its proofs, as canonical text by hash."""

    statement: dict[str, Any]
    signature: Signature
    tasks: list[dict[str, Any]] | UnsetType = UNSET
    keys: dict[str, str] | UnsetType = UNSET


class CreditSum(Strict):
    """credit: one for 10⁹ verified operations."""

    tasks: Count
    ops: Count
    credit: Annotated[float, Meta(ge=0)]


class WorkerCredit(CreditSum):
    """name: what the worker calls itself."""

    worker: str
    name: str


class Credit(Strict):
    """used: by the jobs of the caller's owner."""

    workers: list[WorkerCredit]
    total: CreditSum
    used: CreditSum
    next: Next


class LedgerEntry(Strict):
    """seq: of the verdict in the log."""

    seq: Count
    at_ms: Ms
    worker: str
    task: str
    job: str
    ops: Count
    method: str


class Ledger(Strict):
    """Oldest first. next: `after` of the next page."""

    entries: list[LedgerEntry]
    next: Annotated[int | None, Meta(examples=[None])]
