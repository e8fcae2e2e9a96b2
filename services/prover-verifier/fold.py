"""The prover-verifier's fold as a service core: the registry of verification keys, and what is being proved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from shardy_common.log import Projection, Recorded, Table, gone
from shardy_common.verifiers import TABLES as REGISTRY_TABLES
from shardy_common.verifiers import VerifierFold
from shardy_prover_verifier.core import FILTERS, Proving
from shardy_prover_verifier.state import ProofJob, ProofTask

TABLES = [
    *REGISTRY_TABLES,
    Table("jobs", {"id": str, "body": bytes}),  # active ones of policy proof, as the tasks
    Table("tasks", {"id": str, "body": bytes}),
]
VERSION = 4
_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_job = msgspec.msgpack.Decoder(ProofJob).decode
_task = msgspec.msgpack.Decoder(ProofTask).decode


class ProverCore:
    filters = FILTERS

    def __init__(self, owns: Callable[[str], bool] = lambda _job: True, development: bool = False) -> None:
        self.verifiers = VerifierFold()
        self.proving = Proving(self.verifiers.registry, self.verifiers.key_of, owns, development)

    def load(self, projection: Projection) -> None:
        self.verifiers.load(projection)
        proving = self.proving
        for (body,) in projection.rows("SELECT body FROM jobs ORDER BY id"):
            job = _job(body)
            proving.jobs[job.id] = job
            proving.tasks_of[job.id] = set()
        for (body,) in projection.rows("SELECT body FROM tasks ORDER BY id"):
            task = _task(body)
            proving.tasks[task.id] = task
            proving.tasks_of[task.job].add(task.id)
            proving.ready[task.id] = None  # whatever was open when the last process ended is looked at again
            if task.open is not None and not task.open.proofs:
                proving.waiting[task.id] = None

    def evolve(self, recorded: Recorded) -> None:
        if recorded.subject.startswith("verifier."):
            before = set(self.verifiers.registry.versions)
            changed = self.verifiers.evolve(recorded)
            self.proving.revoked(changed & before)
        else:
            self.proving.evolve(recorded)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        p = self.proving
        out: dict[str, list[Sequence[Any]]] = {
            **self.verifiers.rows(),
            "jobs": [(j, _pack(p.jobs[j])) for j in sorted(p.touched_jobs) if j in p.jobs],
            gone("jobs"): [(j,) for j in sorted(p.dead_jobs)],
            "tasks": [(t, _pack(p.tasks[t])) for t in sorted(p.touched_tasks) if t in p.tasks],
            gone("tasks"): [(t,) for t in sorted(p.dead_tasks)],
        }
        for names in (p.touched_jobs, p.touched_tasks, p.dead_jobs, p.dead_tasks):
            names.clear()
        return {table: rows for table, rows in out.items() if rows}
