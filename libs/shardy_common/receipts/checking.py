"""Checking a receipt without the mesh: form, signatures, and that its parts fit together."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shardy_common import ids, kinds
from shardy_common.carving import Cursor
from shardy_common.errors import Refused
from shardy_common.receipts.proofs import ProofChecker, Verify, keys_of
from shardy_common.receipts.statements import (
    AGREED,
    CLAIMS,
    FORMAT,
    INTEGER_MAX,
    SIGN_TAG,
    JobStatement,
    TaskStatement,
    basis,
    canonical,
    error_bound,
    task_leaf,
)
from shardy_common.receipts.tree import GrowingRoot
from shardy_common.wire import merkle
from shardy_common.wire.job import JobSpec, Operand, Pre, Tile

PROBLEMS_MAX = 100
DEPTH_MAX = 8
METHODS = {
    "quorum": ("quorum", "arbitration"),
    "audit": ("audit",),
    "adaptive": ("quorum", "audit", "arbitration", "trust"),
    "canary": ("canary",),
    "proof": ("proof",),
}
"""Policy → methods that its verdicts may have."""

SMALL_ORDER = {
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
}
"""Points of Ed25519 whose order divides 8, in each spelling, without the sign bit."""


@dataclass
class Report:
    """ok: nothing is wrong. vouched: the signing key is one of those that the caller trusts; without it, ok means only
    that whoever holds that key said all this. workers: credited tasks by worker. signed, unsigned: answers credited
    with and without the worker's own signature. ops: verified operations, counted once. proofs: that hold. development:
    some of them are under a development key, where anybody can forge them."""

    problems: list[str] = field(default_factory=list)
    vouched: bool = False
    type: str = ""
    mesh: str = ""
    job: str = ""
    key: str = ""
    tasks: int = 0
    ops: int = 0
    workers: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    signed: int = 0
    unsigned: int = 0
    proofs: int = 0
    development: bool = False

    @property
    def ok(self) -> bool:
        return not self.problems

    def problem(self, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)


def load(data: bytes | str) -> dict[str, Any]:
    """A receipt from its JSON in UTF-8. ValueError for what JSON readers take differently: doubled keys, floats, a byte
    order mark, another encoding; and for what is no object."""

    def no_float(text: str) -> Any:
        raise ValueError(f"{text}: a receipt holds no fractions")

    text = data if isinstance(data, str) else data.decode()  # else the reader would guess at UTF-16 and UTF-32
    value = json.loads(text, object_pairs_hook=_once, parse_float=no_float, parse_constant=no_float)
    if not isinstance(value, dict):
        raise ValueError("a receipt is a JSON object")
    return value


def check(
    receipt: dict[str, Any] | bytes | str,
    *,
    mesh_keys: Collection[str] | None = None,
    verify_proof: Verify | None = None,
) -> Report:
    """Everything that can be said without the mesh and without the arrays. mesh_keys: public keys (hex) that are
    trusted; a receipt signed by another is refused. None: no key is known, and the report is not `vouched`.
    verify_proof: in place of the compiled verifier, as `proofs.pure.verify`."""
    report = Report()
    try:
        document = load(receipt) if isinstance(receipt, (bytes, str)) else receipt
        _plain(document)
        if not isinstance(document, dict):
            raise ValueError("a receipt is a JSON object")
        statement = _map(document, "statement")
        read: TaskStatement | JobStatement
        listed, keys = document.get("tasks"), keys_of(document)
        brought = {"keys"} & set(document)
        if statement.get("type") == "job":
            _fields(document, {"statement", "signature", "tasks", *brought})
            read = msgspec.convert(statement, JobStatement)
        else:
            _fields(document, {"statement", "signature", *brought})
            read = msgspec.convert(statement, TaskStatement)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        report.problem(f"this is no receipt of the format {FORMAT}: {error}")
        return report
    report.type, report.mesh, report.job = read.type, read.mesh, read.job
    _signature(report, document, statement, mesh_keys)
    checker = _Checker(report, ProofChecker(keys, verify_proof))
    if isinstance(read, JobStatement):
        checker.job(read, listed)
    else:
        checker.task(read, _spec(report, read))
    return report


class _Checker:
    """Statements against their own logic. A frame's signature is checked once for all results in it."""

    def __init__(self, report: Report, proofs: ProofChecker) -> None:
        self.report, self._proofs = report, proofs
        self._good: set[tuple[str, str, bytes]] = set()

    def job(self, job: JobStatement, listed: Any) -> None:
        report, spec = self.report, _spec(self.report, job)
        if not isinstance(listed, list) or len(listed) != job.tasks:
            found = len(listed) if isinstance(listed, list) else "no"
            report.problem(f"the statement counts {job.tasks} tasks, and {found} task statements are listed")
            return
        if spec is None:
            return
        shape = kinds.KINDS[job.kind].shape(spec)
        if list(shape) != job.shape:
            report.problem(f"the shape is {job.shape}: the operands make {list(shape)}")
        cursor, tree = Cursor(), GrowingRoot()
        common = ("mesh", "job", "kind", "operands", "pre", "policy", "redundancy", "audit_rounds")
        for index, raw in enumerate(listed):
            where = f"task {index}"
            try:
                read = msgspec.convert(raw, TaskStatement)
            except msgspec.ValidationError as error:
                report.problem(f"{where} is no task statement: {error}")
                return
            tree.add(task_leaf(raw))
            other = [name for name in common if getattr(read, name) != getattr(job, name)]
            if other:
                report.problem(f"{where} says something else than the job about {', '.join(other)}")
                continue
            tile = _tile(read)
            if not cursor.accepts(tile, shape):
                report.problem(f"{where}: its tile {read.tile} overlaps another, leaves a gap, or is out of its place")
                return
            cursor = cursor.after(tile, shape)
            if read.seq >= job.seq:  # sequences, not times: clocks may be set back
                report.problem(f"{where} was verified after the job's end")
            self.task(read, spec)
        if not cursor.done(shape):
            report.problem("the tiles do not cover the result")
        if tree.root().hex() != job.tasks_root:
            report.problem("tasks_root is not that of the listed task statements")
        if job.methods != dict(report.methods):
            report.problem(f"methods: the tasks have {dict(report.methods)}")
        if job.ops != str(report.ops):
            report.problem(f"ops: the tasks have {report.ops} operations")

    def task(self, task: TaskStatement, spec: JobSpec | None) -> None:
        report, where = self.report, f"task {task.task}"
        report.tasks += 1
        report.methods[task.method] += 1
        row0, rows, col0, cols = task.tile
        if spec is not None:
            kind = kinds.KINDS[task.kind]
            shape = kind.shape(spec)
            if not (rows > 0 and cols > 0 and row0 + rows <= shape[0] and col0 + cols <= shape[1]):
                report.problem(f"{where}: the tile {task.tile} is not inside the result's {shape[0]}×{shape[1]}")
            elif task.result.bytes != (want := kind.result_bytes(spec, rows, cols)):
                report.problem(f"{where}: its result has {task.result.bytes} bytes where the tile makes {want}")
            report.ops += kind.ops(spec, rows, cols)
            self._verdict(task, kind.auditable, where)
            self._proved(task, where)
        if not task.task.startswith(f"{task.job}-{col0}-{row0}-"):
            report.problem(f"{where}: its id is not one of this job's tasks at row {row0}, column {col0}")
        self._workers(task, where)

    def _verdict(self, task: TaskStatement, auditable: bool, where: str) -> None:
        """Whether the method is one of the policy's, with rounds and workers enough, and claims what it may."""
        problem = self.report.problem
        if task.method not in METHODS.get(task.policy, ()):
            problem(f"{where}: policy {task.policy!r} gives no verdict by {task.method!r}")
            return
        audited = task.method == "audit"
        if task.rounds and not (auditable and task.method in ("audit", "arbitration")):
            problem(f"{where}: {task.method} of a {task.kind} makes no rounds, and {task.rounds} are stated")
            return
        if (audited or task.rounds) and task.rounds < max(task.audit_rounds, 1):
            problem(f"{where}: {task.rounds} rounds where the job wanted {task.audit_rounds}")
            return
        why = basis(task.method, task.rounds)
        if (task.claimed, task.not_claimed) != CLAIMS[why]:
            problem(f"{where}: it claims something else than a verdict by {task.method} can")
        if task.error_bound != error_bound(task.method, task.rounds):
            problem(f"{where}: the error bound is not that of {task.rounds} rounds")
        need = 1
        if why == AGREED:
            need = task.redundancy if task.policy == "quorum" else 2
        if len(task.workers) < need:
            problem(f"{where}: {len(task.workers)} workers where {need} must agree")

    def _proved(self, task: TaskStatement, where: str) -> None:
        if (task.proof is not None) != (task.method == "proof"):
            self.report.problem(f"{where}: a verdict by {task.method} {'with' if task.proof else 'without'} a proof")
        elif task.proof is not None:
            found = self._proofs.problems(task)
            for text in found:
                self.report.problem(f"{where}: {text}")
            if not found:
                self.report.proofs += len(task.proof.proofs)
                self.report.development |= self._proofs.development(task.proof.vk_hash)

    def _workers(self, task: TaskStatement, where: str) -> None:
        report = self.report
        if len({entry.worker for entry in task.workers}) < len(task.workers):
            report.problem(f"{where}: a worker is named twice")
        if len({entry.lease for entry in task.workers}) < len(task.workers):
            report.problem(f"{where}: a lease is named twice")
        if task.unsigned != [entry.worker for entry in task.workers if not entry.sig]:
            report.problem(f"{where}: unsigned does not name just the workers without a signature")
        for entry in task.workers:
            name = f"{where}, worker {entry.worker}"
            report.workers[entry.worker] += 1
            if ids.worker_id(bytes.fromhex(entry.key)) != entry.worker:
                report.problem(f"{name}: its key is another peer's")
            head, _, attempt = entry.lease.rpartition("-")
            if head != task.task or not (attempt.isascii() and attempt.isdigit()):
                report.problem(f"{name}: its lease {entry.lease} is of another task")
            if not entry.sig:
                report.unsigned += 1
                if (entry.index, entry.count, entry.path) != (0, 1, []):
                    report.problem(f"{name}: a place in a tree without a signature")
                continue
            report.signed += 1
            leaf = merkle.leaf(entry.lease, bytes.fromhex(task.result.digest), task.result.bytes)
            try:
                root = merkle.climb(leaf, entry.index, entry.count, [bytes.fromhex(h) for h in entry.path])
            except ValueError as error:
                report.problem(f"{name}: {error}")
                continue
            known = (entry.key, entry.sig, root)
            if known in self._good:
                continue
            if _verifies(entry.key, entry.sig, merkle.RESULTS_TAG + root):
                self._good.add(known)
            else:
                report.problem(f"{name}: its signature is not over this result")


def _signature(
    report: Report, document: dict[str, Any], statement: dict[str, Any], mesh_keys: Collection[str] | None
) -> None:
    signature = document.get("signature")
    if not isinstance(signature, dict) or set(signature) != {"key", "sig"}:
        report.problem("the signature is a map of key and sig")
        return
    key, sig = signature["key"], signature["sig"]
    if not (isinstance(key, str) and ids.is_digest(key) and isinstance(sig, str)):
        report.problem("the signature's key is 64, its sig 128 lower-case hex digits")
        return
    report.key = key
    if not _verifies(key, sig, SIGN_TAG + canonical(statement)):
        report.problem("the signature does not fit the statement")
    elif mesh_keys is not None:
        report.vouched = key in mesh_keys
        if not report.vouched:
            report.problem(f"it is signed by {key}, which is none of the mesh's keys that you trust")


def _verifies(key: str, sig: str, message: bytes) -> bool:
    if len(sig) != 128 or sig != sig.lower():
        return False
    try:
        public, signature = bytes.fromhex(key), bytes.fromhex(sig)
        if _small_order(public) or _small_order(signature[:32]):
            return False
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _small_order(point: bytes) -> bool:
    """Whether this is a point of small order: under such a key anybody signs anything, and libraries disagree."""
    return point[:31] + bytes([point[31] & 0x7F]) in SMALL_ORDER


def _spec(report: Report, statement: TaskStatement | JobStatement) -> JobSpec | None:
    """The job as it was asked for, if its limits and rules hold."""
    try:
        pre = None
        if statement.pre is not None:
            p = statement.pre
            pre = Pre(_float(p.lo), _float(p.hi), p.ema_axis, _float(p.alpha), p.segment_rows, p.scale, p.warm_rows)
        operands = {name: Operand(o.digest, o.dtype, o.rows, o.cols) for name, o in statement.operands.items()}
        # any policy's name would do here: what depends on it is checked with the verdict
        spec = JobSpec(statement.kind, operands, "quorum", statement.redundancy, statement.audit_rounds, pre=pre)
        if kinds.checked(spec) != spec:
            raise ValueError("its warm-up rows are not those of its alpha")
        if statement.policy not in METHODS:
            raise ValueError(f"its policy {statement.policy!r} is not known")
    except (ValueError, Refused) as error:
        report.problem(f"this is no job that a mesh takes: {error}")
        return None
    return spec


def _tile(task: TaskStatement) -> Tile:
    return Tile(*task.tile)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or repr(value) != text:
        raise ValueError(f"{text!r} is not how a number is written")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return out


def _plain(value: Any, depth: int = 0) -> None:
    """Only what has one canonical form."""
    kind = type(value)
    if depth > DEPTH_MAX:
        raise ValueError(f"it is nested deeper than {DEPTH_MAX} levels")
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                raise ValueError("keys are ASCII strings")
            _plain(item, depth + 1)
    elif kind is list:
        for item in value:
            _plain(item, depth + 1)
    elif kind is str:
        value.encode()  # a lone surrogate has no UTF-8: UnicodeEncodeError is a ValueError
    elif kind is int:
        if abs(value) > INTEGER_MAX:
            raise ValueError(f"{value} is too large for an integer: 2⁵³ − 1 is the largest")
    elif value is not None:
        raise ValueError(f"{value!r}: only maps, lists, strings, integers and null are possible")


def _map(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"{name} is missing")
    return value


def _fields(document: dict[str, Any], wanted: set[str]) -> None:
    if set(document) != wanted:
        raise ValueError(f"its fields are {', '.join(sorted(wanted))}, here {', '.join(sorted(document))}")
