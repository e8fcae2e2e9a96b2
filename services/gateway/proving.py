"""Jobs whose results are proved (policy `proof`): which circuit, what the workers are asked, and what they hand in."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from blake3 import blake3
from msgspec.structs import replace

from shardy_common import kinds, limits
from shardy_common.errors import Refused
from shardy_common.log import Projection, Recorded, Table, gone
from shardy_common.proofs.needs import constraints
from shardy_common.proofs.parse import PROOF_BYTES
from shardy_common.proofs.signals import Circuit
from shardy_common.proofs.statement import Terms, drawn
from shardy_common.verifiers import Registry
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, ProofPlan
from shardy_gateway.session import CloseSession, Session
from shardy_gateway.side import SideFold

if TYPE_CHECKING:
    from shardy_gateway.views import Views

_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_challenged = msgspec.msgpack.Decoder(ev.ProofChallenged).decode
_verified = msgspec.msgpack.Decoder(ev.ProofVerified).decode


def planned(spec: JobSpec, registry: Registry) -> JobSpec:
    """With the circuit that a job of policy `proof` is proved in: the one asked for, or the active one that costs
    least. Refused where there is none."""
    if spec.policy != kinds.PROOF:
        return spec
    a, b = spec.operands["a"], spec.operands["b"]
    plan = spec.proof or ProofPlan("", limits.PROOF_TILES)
    active = {name for name, version in registry.active.items() if registry.versions[version].files is not None}
    if plan.circuit:
        circuit = _circuit(plan.circuit)
        if circuit is None or plan.circuit not in active:
            known = ", ".join(sorted(active)) or "none"
            raise Refused(f"circuit {plan.circuit[:64]} has no active version to prove with; those that have: {known}")
        if circuit.k < a.cols:
            raise Refused(
                f"circuit {plan.circuit} proves products up to k = {circuit.k}, and this one has k = {a.cols}"
            )
        return replace(spec, proof=plan)
    fitting = [c for name in sorted(active) if (c := _circuit(name)) is not None and c.k >= a.cols]
    if not fitting:
        known = ", ".join(sorted(active))
        raise Refused(
            f"no active circuit proves products with k = {a.cols}: "
            + (f"{known} are active" if known else "none is active (an operator makes one so: shardy verifiers rotate)")
        )
    best = min(fitting, key=lambda c: (-(-a.rows // c.m) * -(-b.rows // c.n) * constraints(c), c.name))
    return replace(spec, proof=ProofPlan(best.name, plan.tiles))


def _circuit(name: str) -> Circuit | None:
    try:
        return Circuit.named(name)
    except ValueError:
        return None


class Proofs(SideFold):
    """Open challenges, in memory and in rows; and what was proved, in rows alone. tasks: the views' active ones."""

    tables = [
        Table("challenges", {"task": str, "body": bytes}),  # that wait for an answer
        Table(  # several of a task, if several answered: the verdict says which counts
            "proofs",
            {"lease": str, "task": str, "job": str, "version": str, "seq": int, "body": bytes},
            [["job", "version"], ["task"]],
        ),
    ]
    filters = (
        "proof.*.*",
        "task.verified.*",
        "task.unresolved.*",
        "job.completed.*",
        "job.failed.*",
        "job.cancelled.*",
    )

    def __init__(self, registry: Registry, tasks: Container[str]) -> None:
        super().__init__()
        self.registry, self._tasks = registry, tasks
        self.open: dict[str, ev.ProofChallenged] = {}  # by task
        self._of_job: dict[str, set[str]] = {}
        self._touched: set[str] = set()
        self._proved: dict[str, tuple[int, ev.ProofVerified]] = {}  # by lease, with its sequence

    def load(self, projection: Projection) -> None:
        super().load(projection)
        for (body,) in projection.rows("SELECT body FROM challenges ORDER BY task"):
            self._add(_challenged(body))

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ev.ProofChallenged):
            if event.task in self._tasks:  # not one that the end of its task overtook: nothing would end it
                self._add(event)
        elif isinstance(event, (ev.ProofSubmitted, ev.ProofRejected, ev.ProofVerified)):
            known = self.open.get(event.task)
            if known is not None and (known.lease, known.worker) == (event.lease, event.worker):
                self._end(event.task)
            version = self.registry.versions.get(event.version) if isinstance(event, ev.ProofVerified) else None
            if version is not None and not version.revoked_seq:  # void behind a revocation, as in every fold
                assert isinstance(event, ev.ProofVerified)
                self._proved[event.lease] = (recorded.seq, event)
        elif isinstance(event, (ev.TaskVerified, ev.TaskUnresolved)):
            self._end(event.task)
        elif isinstance(event, (ev.JobCompleted, ev.JobFailed, ev.JobCancelled)):
            for task in list(self._of_job.get(event.job, ())):
                self._end(task)

    def _add(self, event: ev.ProofChallenged) -> None:
        self.open[event.task] = event
        self._of_job.setdefault(event.job, set()).add(event.task)
        self._touched.add(event.task)

    def _end(self, task: str) -> None:
        known = self.open.pop(task, None)
        if known is not None:
            self._touched.add(task)
            tasks = self._of_job[known.job]
            tasks.discard(task)
            if not tasks:
                del self._of_job[known.job]

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        rows: dict[str, list[Sequence[Any]]] = {
            "challenges": [(t, _pack(self.open[t])) for t in sorted(self._touched) if t in self.open],
            gone("challenges"): [(t,) for t in sorted(self._touched) if t not in self.open],
            "proofs": [(x, e.task, e.job, e.version, seq, _pack(e)) for x, (seq, e) in self._proved.items()],
        }
        self._touched, self._proved = set(), {}
        return {table: found for table, found in rows.items() if found}

    def asked_of(self, worker: str) -> list[ev.ProofChallenged]:
        """Open challenges of a worker."""
        return [event for event in self.open.values() if event.worker == worker]

    def versions_in(self, job: str) -> list[str]:
        """Versions under which results of a job are proved."""
        return [v for (v,) in self.read("SELECT DISTINCT version FROM proofs WHERE job = ? ORDER BY version", (job,))]

    def of_task(self, task: str, worker: str, digest: str) -> ev.ProofVerified | None:
        """The first proof of this worker's result."""
        rows = self.read("SELECT body FROM proofs WHERE task = ? ORDER BY seq", (task,))
        found = (_verified(body) for (body,) in rows)
        return next((event for event in found if (event.worker, event.digest) == (worker, digest)), None)


def prove_frame(views: Views, event: ev.ProofChallenged, now_ms: int) -> dict[str, Any] | None:
    """What the worker is told; None where there is nothing to prove any more."""
    job, task = views.jobs.get(event.job), views.tasks.get(event.task)
    version = views.verifiers.registry.versions.get(event.version)
    if job is None or task is None or version is None or version.files is None or event.task not in views.proofs.open:
        return None
    params = kinds.KINDS[job.spec.kind].lease_params(job.spec, task.tile)
    files = version.files
    return {
        "t": "prove",
        "lease": event.lease,
        "task": event.task,
        "job": event.job,
        "deadline_ms": max(event.deadline_ms - now_ms, 1),
        "rows": task.tile.rows,
        "cols": task.tile.cols,
        "p": params,
        "circuit": event.circuit,
        "version": event.version,
        "vk": bytes.fromhex(event.vk_hash),
        "zkey": {"d": files.zkey, "l": files.zkey_bytes, "u": files.zkey_unpacked},
        "r1cs": {"d": files.r1cs, "l": files.r1cs_bytes, "u": files.r1cs_unpacked},
        "root": bytes.fromhex(event.root),
        "nonce": bytes.fromhex(event.nonce),
        "of": event.tiles,
        "tiles": drawn(Terms.of(event)),
        "trace": job.trace,
    }


def named_blobs(frame: dict[str, Any]) -> list[str]:
    """The blobs that a worker may fetch for it."""
    return [frame["zkey"]["d"], frame["r1cs"]["d"], frame["p"]["a"]["d"], frame["p"]["b"]["d"]]


def read_proofs(
    views: Views, session: Session, header: dict[str, Any], segments: list[memoryview]
) -> tuple[ev.ProofSubmitted | None, memoryview | None, str]:
    """From a `proof` frame: (event, bytes, "") or (None, None, outcome) where nothing is to be recorded."""
    lease, place = header.get("lease"), header.get("s")
    if not isinstance(lease, str) or type(place) is not int or not 0 <= place < len(segments):
        raise CloseSession(4400, "a proof frame names its lease and the segment s with the proofs")
    task = lease.rpartition("-")[0]
    known = views.proofs.open.get(task)
    if known is None or (known.lease, known.worker) != (lease, session.worker):
        return None, None, "late" if views.task_state(task) != "unknown" else "unknown"
    data = segments[place]
    if len(data) != PROOF_BYTES * known.checked or len(data) > limits.RESULT_INLINE_BYTES_MAX:
        return None, None, "malformed"
    ms, backend = header.get("ms"), header.get("backend")
    event = ev.ProofSubmitted(
        task,
        known.job,
        lease,
        session.worker,
        blake3(data).hexdigest(),
        float(ms) if isinstance(ms, (int, float)) and 0 <= ms < 1e9 else 0.0,
        backend[:16] if isinstance(backend, str) else "",
    )
    return event, data, ""
