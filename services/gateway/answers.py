"""The shapes of what the API takes and gives, for its OpenAPI document; tests hold real answers to them.

Fields without a default are in every answer.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from shardy_common import limits
from shardy_gateway.answer_base import Count, Digest, Dtype, Kind, Ms, Next, Policy, State, Strict
from shardy_gateway.answers_ceremonies import CEREMONY_SHAPES
from shardy_gateway.answers_credit import Credit, Ledger, Receipt
from shardy_gateway.answers_log import LogEvent, LogPage, TaskStory
from shardy_gateway.answers_services import ServiceList
from shardy_gateway.answers_verifiers import (
    OneVerifier,
    ProofRequest,
    RevocationRequest,
    Rotation,
    RotationRequest,
    Verifier,
    VerifierList,
    VerifierRequest,
)


class ProblemDetails(Strict):
    """RFC 9457. `type` is stable, and its address explains it."""

    type: Annotated[str, Meta(pattern="^/problems/[a-z0-9-]+$", examples=["/problems/no-such-job"])]
    title: Annotated[str, Meta(examples=["No such job"])]
    status: Annotated[int, Meta(ge=400, le=599, examples=[404])]
    detail: Annotated[str, Meta(description="what to change", examples=["you have no job of this id"])]
    limit: Annotated[str, Meta(description="the limit that was passed", examples=["1000 active jobs"])] | UnsetType = (
        UNSET
    )


# -- blobs ------------------------------------------------------------------------------------------------------------


class Stored(Strict):
    """A blob that is stored."""

    digest: Digest
    bytes: Annotated[int, Meta(ge=0, le=limits.BLOB_BYTES_MAX)]


# -- jobs -------------------------------------------------------------------------------------------------------------


class OperandRequest(Strict):
    """A row-major matrix. digest: of its stored bytes; in a frame, `s` names the segment that holds them instead."""

    dtype: Dtype
    rows: Annotated[int, Meta(ge=1, le=limits.SIDE_MAX)]
    cols: Annotated[int, Meta(ge=1, le=limits.SIDE_MAX)]
    digest: Digest | UnsetType = UNSET
    s: Annotated[int, Meta(ge=0)] | UnsetType = UNSET


class PreRequest(Strict):
    """How a float32 operand is prepared: clamped, smoothed along ema_axis, quantised to int8 (protocol §4.3)."""

    lo: float
    hi: float
    ema_axis: Annotated[int, Meta(ge=-1, le=1)] = -1
    alpha: Annotated[float, Meta(gt=0, le=1)] = 1.0
    segment_rows: Annotated[int, Meta(ge=1)] = 4096
    scale: Annotated[str, Meta(description="row | tensor: what shares a scale")] = "row"


class JobRequest(Strict):
    """kind matmul has the operands a and b (C = A·Bᵀ: b is stored n×k), kind stream has x."""

    kind: Kind
    policy: Policy = "quorum"
    redundancy: Annotated[int, Meta(ge=2, le=limits.REDUNDANCY_MAX, description="devices that must agree")] = 2
    audit_rounds: Annotated[int, Meta(ge=limits.AUDIT_ROUNDS, le=limits.AUDIT_ROUNDS_MAX)] = limits.AUDIT_ROUNDS
    label: Annotated[str, Meta(max_length=limits.LABEL_CHARS_MAX)] = ""
    task_rows: Annotated[int, Meta(ge=1, description="rows of a task, instead of leaving it to the mesh")] | None = None
    a: OperandRequest | UnsetType = UNSET
    b: OperandRequest | UnsetType = UNSET
    x: OperandRequest | UnsetType = UNSET
    pre: PreRequest | None = None
    proof: ProofRequest | None = None


class Progress(Strict):
    """cells of the result: verified, and in all."""

    cells_done: Count
    cells: Count
    tasks_verified: Count
    tasks_active: Count


class Usage(Strict):
    """Verified integer operations of the result; ops_replicas counts them once for each credited device."""

    ops: Count
    ops_replicas: Count


class Fraud(Strict):
    """A proven wrong result. row: a wrong row of the tile; digest: of the wrong bytes, expected: of the right ones."""

    task: str
    job: str
    lease: str
    worker: str
    name: Annotated[str, Meta(description="what the worker calls itself")]
    method: Annotated[str, Meta(description="audit | recompute")]
    row: int
    rounds: Count
    digest: str
    at_ms: Ms
    expected: str | None = None


class ResultPart(Strict):
    """An array of the result, served as .npy."""

    dtype: Annotated[str, Meta(examples=["int32"])]
    shape: list[int]


class JobStatus(Strict):
    """state waiting: waiting_for says for what. error: why it failed or was cancelled. result: parts by name."""

    id: Annotated[str, Meta(examples=["j01jg9v2m3k8x7q4t6"])]
    kind: Annotated[str, Meta(examples=["matmul"])]
    policy: Annotated[str, Meta(examples=["quorum"])]
    label: Annotated[str, Meta(examples=["nightly run"])]
    state: Annotated[State, Meta(examples=["running"])]
    progress: Progress
    usage: Usage
    frauds: Annotated[list[Fraud], Meta(examples=[[]])]
    waiting_for: Annotated[str | None, Meta(examples=[None])]
    error: Annotated[str | None, Meta(examples=[None])]
    created_ms: Ms
    ended_ms: Annotated[Ms | None, Meta(examples=[None])]
    result: Annotated[dict[str, ResultPart], Meta(examples=[{"c": {"dtype": "int32", "shape": [36, 30522]}}])]
    receipt: Annotated[str | None, Meta(description="where the signed receipt is, once completed")] = None


class JobList(Strict):
    """Newest first."""

    jobs: list[JobStatus]
    next: Next


class Task(Strict):
    """A tile of the result, who had it (worker by lease), and the verdict. verified_by: whose results were right."""

    id: str
    row0: Count
    rows: Count
    col0: Count
    cols: Count
    state: Annotated[str, Meta(description="active | verified | unresolved")]
    digest: str | None
    method: Annotated[str | None, Meta(description="quorum | audit | arbitration | trust | canary")]
    verified_by: list[str]
    leases: dict[str, str]


class TaskList(Strict):
    """By place: columns, then rows."""

    tasks: list[Task]
    next: Next


# -- the mesh ---------------------------------------------------------------------------------------------------------


class Worker(Strict):
    """tier: null until it is given. gops: measured, in 10⁹ operations a second. verified: what counted, ever."""

    id: str
    name: str
    present: bool
    banned: bool
    tier: str | None
    backend: str
    gpu: str | None
    gops: float
    memory_mib: Count
    tasks_verified: Count
    ops_verified: Count
    gateway: str
    joined_ms: Ms


class WorkerList(Strict):
    """By id."""

    workers: list[Worker]
    next: Next


class Trust(Strict):
    """What was checked of a device, ever, and what follows for policy adaptive (docs/threat-model.md)."""

    probation: bool
    checked_tasks: Count
    checked_ops: Count
    checked_ms: Ms | None
    replication_probability: Annotated[float, Meta(ge=0, le=1)]
    budget_ops: Count
    exposure_ops: Count
    alone_tasks: Count
    alone_ops: Count
    faults: Count


class Record(Strict):
    """What became of its leases. None but accepted earns anything; none is ever fraud."""

    accepted: Count
    late: Count
    lost: Count
    failed: Count
    malformed: Count


class OneWorker(Worker):
    """A device with its credit (one for 10⁹ verified operations), trust, reliability, and the evidence of what was
    proven against it."""

    credit: Annotated[float, Meta(ge=0)]
    trust: Trust
    record: Record
    frauds: list[Fraud]


class FraudList(Strict):
    """Newest first."""

    frauds: list[Fraud]
    next: Next


class MeshKey(Strict):
    """A public key (Ed25519, hex) that signs receipts, since when."""

    key: str
    since_ms: Ms


class Mesh(Strict):
    """What this mesh is and allows. Limits have their unit in their name. pressure: what it has to do now, as this
    gateway sees it: what admission is decided by, and how full log and store are."""

    name: str
    version: str
    gateway: str
    mesh_key: str
    mesh_keys: list[MeshKey]
    policies: list[str]
    kinds: list[str]
    limits: dict[str, int]
    pressure: dict[str, float]


class RefusalCounts(Strict):
    """Since the gateway started. calls: by the slug of their problem; sockets: by close code (protocol §1.2)."""

    since_ms: Ms
    calls: dict[str, int]
    sockets: dict[str, int]


class Health(Strict):
    """checkpoint: the last event that this gateway has folded; workers: sockets that it holds."""

    status: Literal["ok", "starting"]
    gateway: str
    checkpoint: Count
    workers: Count
    limits: dict[str, int]


# -- keys -------------------------------------------------------------------------------------------------------------

Scopes = Annotated[list[Literal["submit", "operate"]], Meta(min_length=1, examples=[["submit"]])]


class KeyRequest(Strict):
    """expires_s: null for a key that does not expire."""

    label: Annotated[str, Meta(min_length=1, max_length=limits.LABEL_CHARS_MAX, examples=["nightly reports"])]
    scopes: Scopes
    expires_s: Annotated[int, Meta(ge=1, le=10 * 366 * 86_400)] | None = None


class RotateRequest(Strict):
    """grace_s: how long the old key still works."""

    grace_s: Annotated[int, Meta(ge=0, le=30 * 86_400)] | None = 3_600


class NewKey(Strict):
    """key: the secret, told here and never again. owner: whose jobs it sees, kept through rotations."""

    id: Annotated[str, Meta(examples=["5f2b6c0d9e8a7f41"])]
    key: Annotated[str, Meta(examples=["shardy_…"])]
    owner: str
    scopes: Scopes
    label: str
    expires_ms: Ms | None


class ListedKey(Strict):
    """source: log, or file for those of the key file. ends_ms: expiry, revocation, or the end of a rotation's grace."""

    id: str
    owner: str
    scopes: list[str]
    label: str
    state: Literal["valid", "revoked", "expired"]
    source: Literal["log", "file"]
    by: str | None
    replaces: str | None
    created_ms: Ms | None
    expires_ms: Ms | None
    ends_ms: Ms | None


class KeyList(Strict):
    """By id."""

    keys: list[ListedKey]
    next: Next


# -- dead letters -----------------------------------------------------------------------------------------------------


class Letter(Strict):
    """A dead letter with its evidence. subject, seq, trace: of the event that it is about."""

    entry: str
    cause: Literal["fraud", "unresolved", "poison", "handler", "max-deliveries"]
    state: Literal["open", "replayed", "discarded"]
    subject: str
    seq: Count
    at_ms: Ms
    trace: str
    evidence: dict[str, str]
    closed_by: Annotated[str, Meta(description="id of a key")] | None
    closed_ms: Ms | None
    outcome: str | None


class LetterList(Strict):
    """Newest first."""

    entries: list[Letter]
    next: Next


class LetterClosed(Strict):
    """job: what runs because of it."""

    entry: str
    outcome: str
    job: str | UnsetType = UNSET


class DiscardRequest(Struct):
    """Why nothing is to be done."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)]


ALL = (
    ProblemDetails,
    Stored,
    JobRequest,
    JobStatus,
    JobList,
    TaskList,
    WorkerList,
    OneWorker,
    FraudList,
    Receipt,
    Credit,
    Ledger,
    Mesh,
    RefusalCounts,
    ServiceList,
    Health,
    KeyRequest,
    RotateRequest,
    NewKey,
    KeyList,
    VerifierRequest,
    VerifierList,
    Verifier,
    OneVerifier,
    RotationRequest,
    Rotation,
    RevocationRequest,
    *CEREMONY_SHAPES,
    LetterList,
    Letter,
    LetterClosed,
    DiscardRequest,
    LogEvent,
    LogPage,
    TaskStory,
)
