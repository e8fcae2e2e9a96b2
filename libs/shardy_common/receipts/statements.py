"""What a receipt states, byte for byte: its fields, their canonical form, the signature over it.

A statement holds maps with ASCII keys, lists, strings, null and integers below 2⁵³, so Python's sorted JSON and
RFC 8785 give the same bytes. Floats are strings (`repr`); what can pass 2⁵³ is a string of decimal digits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta

from shardy_common import kinds
from shardy_common.receipts.proofs import Proved
from shardy_common.wire.job import JobSpec, Tile
from shardy_common.wire.job import Pre as WirePre

FORMAT: Literal["shardy-receipt/1"] = "shardy-receipt/1"
SIGN_TAG = b"shardy-receipt-v1\x00"
TASK_TAG = b"\x00shardy-receipt-task-v1\x00"
PROTOCOL: Literal[2] = 2  # of workers: the version whose rule their signatures follow
INTEGER_MAX = 2**53 - 1  # what every JSON reader keeps exactly
FREIVALDS_PRIME = 2**31 - 1

Count = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
Hash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Token = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,160}\Z")]
Signed = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{128})?\Z")]
Decimal = Annotated[str, Meta(pattern=r"\A(?:0|[1-9][0-9]{0,40})\Z")]
Text = Annotated[str, Meta(max_length=200)]

AUDITED, AGREED, TRUSTED, KNOWN, PROVED = "audited", "agreed", "trusted", "known", "proved"
CLAIMS = {
    AUDITED: (
        "every row of the result passed a product check with secret random vectors drawn after its digest stood",
        "that a wrong row can never pass: error_bound says how seldom it does",
    ),
    AGREED: (
        "all workers named here gave these very bytes, each under its own key",
        "that the keys belong to different people, or that they did not agree on a wrong answer",
    ),
    TRUSTED: (
        "a worker with a long record of right results gave these bytes",
        "that anybody checked this very result",
    ),
    KNOWN: (
        "the bytes equal an answer that the mesh had computed before it asked",
        "anything beyond that: the mesh's own computation is the reference",
    ),
    PROVED: (
        "each tile that is listed was drawn after the result stood, and is proved to be the product of the rows named",
        "tiles that were not drawn; nor anything where somebody knows the randomness of the key's set-up",
    ),
}
"""What stands behind a verdict → (claimed, not claimed): the only words that a statement may use."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Operand(_Part, frozen=True):
    digest: Hash
    dtype: str
    rows: Count
    cols: Count


class Pre(_Part, frozen=True):
    lo: Text
    hi: Text
    ema_axis: Annotated[int, Meta(ge=-1, le=1)]
    alpha: Text
    segment_rows: Count
    scale: Text
    warm_rows: Count


class Result(_Part, frozen=True):
    digest: Hash
    bytes: Count


class Bound(_Part, frozen=True):
    """A wrong row passes with a probability of at most base^−exponent."""

    base: Decimal
    exponent: Annotated[int, Meta(ge=1, le=64)]


class Credited(_Part, frozen=True):
    """A worker whose result this is. sig: over the root of its frame's tree, in which the result's leaf is `index` of
    `count` and has the audit path `path`; empty for results from before workers signed, which the statement lists."""

    worker: Token
    key: Hash
    lease: Token
    engine: Text
    kernels: Text
    sig: Signed
    index: Count
    count: Annotated[int, Meta(ge=1, le=1 << 20)]
    path: Annotated[list[Hash], Meta(max_length=20)]


class TaskStatement(_Part, frozen=True):
    """tile: row0, rows, col0, cols. unsigned: credited workers without a signature. proof: of tiles of the result,
    for policy proof; null otherwise."""

    format: Literal["shardy-receipt/1"]
    type: Literal["task"]
    mesh: Text
    job: Token
    task: Token
    kind: Text
    tile: Annotated[list[Count], Meta(min_length=4, max_length=4)]
    operands: dict[str, Operand]
    pre: Pre | None
    result: Result
    policy: Text
    redundancy: Count
    audit_rounds: Count
    method: Text
    rounds: Count
    claimed: Text
    not_claimed: Text
    error_bound: Bound | None
    workers: Annotated[list[Credited], Meta(min_length=1, max_length=64)]
    unsigned: list[Token]
    proof: Proved | None
    protocol: Literal[2]
    verified_ms: Count
    seq: Count


class JobStatement(_Part, frozen=True):
    """shape: of the result. tasks_root: over the task statements in the order of carving. ops: of all tasks, counted
    once. methods: tasks by method."""

    format: Literal["shardy-receipt/1"]
    type: Literal["job"]
    mesh: Text
    job: Token
    requester: Text
    kind: Text
    shape: Annotated[list[Count], Meta(min_length=2, max_length=2)]
    operands: dict[str, Operand]
    pre: Pre | None
    policy: Text
    redundancy: Count
    audit_rounds: Count
    tasks: Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
    tasks_root: Hash
    methods: dict[str, Count]
    ops: Decimal
    submitted_ms: Count
    completed_ms: Count
    seq: Count


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no white space, in UTF-8: what is signed and hashed."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()


def task_leaf(statement: dict[str, Any]) -> bytes:
    """A task statement's leaf in its job's tree."""
    return blake3(TASK_TAG + canonical(statement)).digest()


class Signer:
    """The mesh's private key, and the one thing that is done with it. key: its public half in hex."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.key = private.public_key().public_bytes_raw().hex()

    def sign(self, statement: dict[str, Any]) -> dict[str, str]:
        """The signature of a receipt: always the same for the same statement."""
        return {"key": self.key, "sig": self._private.sign(SIGN_TAG + canonical(statement)).hex()}


def basis(method: str, rounds: int) -> str:
    """What stands behind a verdict: a key of CLAIMS. ValueError for a method that no mesh uses."""
    if method in ("audit", "arbitration") and rounds:
        return AUDITED
    if method in ("quorum", "arbitration"):
        return AGREED
    if method == "proof" and not rounds:
        return PROVED
    if method in ("trust", "canary"):
        return TRUSTED if method == "trust" else KNOWN
    raise ValueError(f"a verdict by {method!r} after {rounds} rounds is none that a mesh gives")


def error_bound(method: str, rounds: int) -> Bound | None:
    """Freivalds over the field of 2³¹ − 1 elements: each round lets a wrong row pass once in as many."""
    return Bound(str(FREIVALDS_PRIME), rounds) if basis(method, rounds) == AUDITED else None


def task_statement(
    *,
    mesh: str,
    job: str,
    spec: JobSpec,
    task: str,
    tile: Tile,
    result: tuple[str, int],
    method: str,
    rounds: int,
    workers: Sequence[Credited],
    verified_ms: int,
    seq: int,
    proved: Proved | None = None,
) -> dict[str, Any]:
    """result: digest and bytes. verified_ms, seq: of the verdict, in the log."""
    claimed, not_claimed = CLAIMS[basis(method, rounds)]
    return msgspec.to_builtins(
        TaskStatement(
            FORMAT,
            "task",
            mesh,
            job,
            task,
            spec.kind,
            [tile.row0, tile.rows, tile.col0, tile.cols],
            _operands(spec),
            _pre(spec.pre),
            Result(*result),
            spec.policy,
            spec.redundancy,
            spec.audit_rounds,
            method,
            rounds,
            claimed,
            not_claimed,
            error_bound(method, rounds),
            list(workers),
            [entry.worker for entry in workers if not entry.sig],
            proved,
            PROTOCOL,
            verified_ms,
            seq,
        )
    )


def job_statement(
    *,
    mesh: str,
    job: str,
    requester: str,
    spec: JobSpec,
    tasks: int,
    tasks_root: bytes,
    methods: dict[str, int],
    ops: int,
    submitted_ms: int,
    completed_ms: int,
    seq: int,
) -> dict[str, Any]:
    """seq: of the job's completion, in the log."""
    return msgspec.to_builtins(
        JobStatement(
            FORMAT,
            "job",
            mesh,
            job,
            requester,
            spec.kind,
            list(kinds.KINDS[spec.kind].shape(spec)),
            _operands(spec),
            _pre(spec.pre),
            spec.policy,
            spec.redundancy,
            spec.audit_rounds,
            tasks,
            tasks_root.hex(),
            methods,
            str(ops),
            submitted_ms,
            completed_ms,
            seq,
        )
    )


def _operands(spec: JobSpec) -> dict[str, Operand]:
    return {name: Operand(o.digest, o.dtype, o.rows, o.cols) for name, o in spec.operands.items()}


def _pre(pre: WirePre | None) -> Pre | None:
    if pre is None:
        return None
    lo, hi, alpha = (repr(float(x)) for x in (pre.lo, pre.hi, pre.alpha))
    return Pre(lo, hi, pre.ema_axis, alpha, pre.segment_rows, pre.scale, pre.warm_rows)
