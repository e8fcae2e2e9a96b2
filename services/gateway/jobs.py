"""Reading a requester's job, and showing a job's status (docs/api.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import blake3
import msgspec

from shardy_common import kinds, limits, trust
from shardy_common.blobs import DirectoryStore
from shardy_common.errors import Refused
from shardy_common.wire import frame
from shardy_common.wire.job import JobSpec, Operand, Pre
from shardy_gateway.reputation import Reputation
from shardy_gateway.shapes import FraudView, JobView, TaskView, WorkerView

FRAME_TYPE = "application/vnd.shardy.frame"
JSON_BYTES_MAX = 64 * 1024
_FIELDS = {"kind", "policy", "redundancy", "audit_rounds", "label", "task_rows", "pre", "proof"}
_PRE_FIELDS = {"lo", "hi", "ema_axis", "alpha", "segment_rows", "scale"}
_PROOF_FIELDS = {"circuit", "tiles"}
_OPERAND_FIELDS = {"digest", "dtype", "rows", "cols", "s"}


class _ProofRequest(msgspec.Struct, omit_defaults=True):
    circuit: str = ""
    tiles: int = limits.PROOF_TILES


def read_frame(body: bytes, blobs: DirectoryStore) -> dict[str, Any]:
    """The same map from a frame, its inline operands stored and named by digest."""
    try:
        header, segments = frame.decode(body)
    except frame.FrameError as error:
        raise Refused(f"the body is not a frame: {error}", status=400, title="Malformed body") from None
    header.pop("t", None)
    header.pop("seg", None)
    stored: list[tuple[str, bytes | memoryview]] = []
    for name, operand in header.items():
        if not isinstance(operand, dict) or "s" not in operand:
            continue
        index = operand.pop("s")
        if type(index) is not int or not 0 <= index < len(segments):
            raise Refused(f"operand {name} names segment {index!r}: the frame has {len(segments)}", status=400)
        data = segments[index]
        digest = blake3.blake3(data).hexdigest()
        operand["digest"] = digest
        stored.append((digest, data))
    blobs.put(stored)
    return header


def read_spec(body: dict[str, Any]) -> JobSpec:
    """The checked specification; Refused says which field to change."""
    kind = body.get("kind")
    known = kinds.KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise Refused(f"kind {kind!r} is not known: use one of {', '.join(kinds.KINDS)}")
    strange = set(body) - _FIELDS - set(known.operand_names)
    if strange:
        raise Refused(f"unknown fields {', '.join(sorted(map(str, strange)))}: kind {kind} takes {_names(known)}")
    operands = {}
    for name in known.operand_names:
        value = body.get(name)
        if not isinstance(value, dict):
            raise Refused(f"operand {name} is missing: give its digest, dtype, rows and cols")
        operands[name] = _convert(value, Operand, f"operand {name}", _OPERAND_FIELDS)
    pre = body.get("pre")
    fields = {name: body[name] for name in _FIELDS - {"pre", "proof"} if name in body}
    fields["operands"] = {name: msgspec.to_builtins(operand) for name, operand in operands.items()}
    if pre is not None:
        fields["pre"] = msgspec.to_builtins(_convert(pre, Pre, "pre", _PRE_FIELDS))
    if body.get("proof") is not None:
        fields["proof"] = {"circuit": "", "tiles": limits.PROOF_TILES}
        fields["proof"] |= msgspec.to_builtins(_convert(body["proof"], _ProofRequest, "proof", _PROOF_FIELDS))
    return kinds.checked(_convert(fields, JobSpec, "the job", None))


def check_blobs(spec: JobSpec, blobs: DirectoryStore) -> None:
    """Every operand must be stored, with just the bytes that its shape needs."""
    for name, operand in spec.operands.items():
        size = blobs.size(operand.digest)
        want = operand.rows * operand.cols * kinds.ITEM_BYTES[operand.dtype]
        if size is None:
            raise Refused(
                f"operand {name}'s blob {operand.digest[:16]}… is not stored: PUT it to /v1/blobs/{{digest}} first",
                status=409,
                title="Missing blob",
            )
        if size != want:
            raise Refused(
                f"operand {name} is {operand.rows}×{operand.cols} {operand.dtype} "
                f"and needs {want} bytes: its blob has {size}"
            )


def _convert(value: Any, to: type, what: str, allowed: set[str] | None) -> Any:
    if allowed is not None and (not isinstance(value, dict) or set(value) - allowed):
        strange = sorted(set(value) - allowed) if isinstance(value, dict) else []
        raise Refused(f"{what} takes the fields {', '.join(sorted(allowed - {'s'}))}; unknown: {', '.join(strange)}")
    try:
        return msgspec.convert(value, to)
    except msgspec.ValidationError as error:
        raise Refused(f"{what}: {error}") from None


def _names(kind: kinds.Kind) -> str:
    return ", ".join([*kind.operand_names, *sorted(_FIELDS - {"kind"})])


def waiting_for(job: JobView, workers: Iterable[WorkerView], allow_same_address: bool) -> str | None:
    """Why a job has not started, in words; None once it has."""
    if job.state != "waiting":
        return None
    fit = [worker for worker in workers if worker.present and worker.tier and not worker.banned]
    addresses = len({worker.address for worker in fit})
    need = kinds.answers_wanted(job.spec)
    if not fit:
        return "no device is here: open the worker page, or run shardy worker"
    if job.spec.proof is not None and not any(w.proves_mib >= kinds.proving_mib(job.spec) for w in fit):
        mib = kinds.proving_mib(job.spec)
        return f"no device here proves in circuit {job.spec.proof.circuit}: that takes {mib} MiB of memory"
    if len(fit) < need or (addresses < need and not allow_same_address):
        apart = "" if allow_same_address else " at different network addresses"
        return f"policy {job.spec.policy} needs {need} devices{apart}; here: {len(fit)}, at {addresses} address(es)"
    return "the devices are busy with other jobs"


def show_job(job: JobView, frauds: list[FraudView], waiting: str | None = None) -> dict[str, Any]:
    parts = kinds.KINDS[job.spec.kind].parts(job.spec)
    return {
        "id": job.id,
        "kind": job.spec.kind,
        "policy": job.spec.policy,
        "label": job.spec.label,
        "state": job.state,
        "progress": {
            "cells_done": job.cells_done,
            "cells": job.cells,
            "tasks_verified": job.tasks_verified,
            "tasks_active": job.tasks_active,
        },
        "usage": {"ops": job.ops, "ops_replicas": job.ops_replicas},
        "frauds": [show_fraud(fraud) for fraud in frauds],
        "waiting_for": waiting,
        "error": job.error or None,
        "created_ms": job.created_ms,
        "ended_ms": job.ended_ms or None,
        "result": {part.name: {"dtype": part.dtype, "shape": list(part.shape)} for part in parts},
        "receipt": f"/v1/jobs/{job.id}/receipt" if job.state == "completed" else None,
    }


def show_fraud(fraud: FraudView) -> dict[str, Any]:
    return {
        "task": fraud.task,
        "job": fraud.job,
        "lease": fraud.lease,
        "worker": fraud.worker,
        "name": fraud.agent,
        "method": fraud.method,
        "row": fraud.row,
        "rounds": fraud.rounds,
        "digest": fraud.digest,
        "expected": fraud.expected or None,
        "at_ms": fraud.at_ms,
    }


def show_task(task: TaskView) -> dict[str, Any]:
    return {
        "id": task.id,
        "row0": task.tile.row0,
        "rows": task.tile.rows,
        "col0": task.tile.col0,
        "cols": task.tile.cols,
        "state": "verified" if task.digest else (task.method or "active"),
        "digest": task.digest or None,
        "method": task.method or None,
        "verified_by": task.workers,
        "leases": task.leases,
    }


def show_worker(worker: WorkerView) -> dict[str, Any]:
    return {
        "id": worker.id,
        "name": worker.agent,
        "present": worker.present,
        "banned": worker.banned,
        "tier": worker.tier or None,
        "backend": worker.backend,
        "gpu": worker.gpu or None,
        "gops": round(worker.gops, 3),
        "memory_mib": worker.memory_mib,
        "tasks_verified": worker.verified,
        "ops_verified": worker.ops,
        "gateway": worker.gateway,
        "joined_ms": worker.joined_ms,
    }


def show_reputation(reputation: Reputation) -> dict[str, Any]:
    """Trust and reliability, apart from each other."""
    known = reputation.trust
    return {
        "trust": {
            "probation": trust.on_probation(known),
            "checked_tasks": known.tasks,
            "checked_ops": known.ops,
            "checked_ms": known.checked_ms or None,
            "replication_probability": round(trust.replication_probability(known, 0), 4),
            "budget_ops": trust.budget(known),
            "exposure_ops": known.exposure,
            "alone_tasks": known.alone_tasks,
            "alone_ops": known.alone_ops,
            "faults": known.faults,
        },
        "record": msgspec.to_builtins(reputation.record),
    }


def limits_shown() -> dict[str, int]:
    return {
        "k_max": limits.K_MAX,
        "side_max": limits.SIDE_MAX,
        "blob_bytes_max": limits.BLOB_BYTES_MAX,
        "frame_bytes_max": frame.FRAME_BYTES_MAX,
    }
