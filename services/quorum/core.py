"""The quorum's fold as a service core: loading from and writing to its projection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from shardy_common import kinds, trust
from shardy_common.log import Projection, Recorded, Table, gone
from shardy_common.verifiers import TABLES as VERIFIER_TABLES
from shardy_quorum.canary import Canary, Pace, Pacing
from shardy_quorum.proved import Proven
from shardy_quorum.state import QuorumJob, QuorumTask
from shardy_quorum.task import FILTERS, Quorum

TABLES = [
    Table("jobs", {"id": str, "active": int, "body": bytes}, [["active"]]),
    Table("tasks", {"id": str, "body": bytes}),  # active ones: nothing asks for others
    Table("agents", {"worker": str, "agent": str}),
    Table("trust", {"worker": str, "body": bytes}),
    Table("canaries", {"job": str, "open": int, "body": bytes}, [["open"]]),
    Table("pace", {"id": int, "body": bytes}),
    *VERIFIER_TABLES,
    # what was verified by a proof; open: it was not looked at again since its version was revoked
    Table("proved", {"task": str, "job": str, "version": str, "open": int, "body": bytes}, [["version", "open"]]),
]
VERSION = 6
_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_job = msgspec.msgpack.Decoder(QuorumJob).decode
_task = msgspec.msgpack.Decoder(QuorumTask).decode
_record = msgspec.msgpack.Decoder(trust.Record).decode
_canary = msgspec.msgpack.Decoder(Canary).decode
_proven = msgspec.msgpack.Decoder(Proven).decode
_pace = msgspec.msgpack.Decoder(Pace).decode


def _one(projection: Projection, sql: str, key: str) -> Any:
    rows = projection.rows(sql, (key,))
    return rows[0][0] if rows else None


def _proven_of(projection: Projection, task: str) -> Proven | None:
    body = _one(projection, "SELECT body FROM proved WHERE task = ? AND open = 1", task)
    return _proven(body) if body is not None else None


def _record_of(projection: Projection, worker: str) -> trust.Record | None:
    body = _one(projection, "SELECT body FROM trust WHERE worker = ?", worker)
    return _record(body) if body is not None else None


class QuorumCore:
    filters = FILTERS

    def __init__(
        self, owns: Callable[[str], bool] = lambda _job: True, pacing: Pacing | None = None, name: str = ""
    ) -> None:
        self.quorum = Quorum(owns, pacing, name)

    def load(self, projection: Projection) -> None:
        quorum = self.quorum
        quorum.proofs.verifiers.load(projection)
        quorum.proofs.ids = lambda version: projection.rows(
            "SELECT task, job FROM proved WHERE version = ? AND open = 1 ORDER BY task", (version,)
        )
        quorum.proofs.read = lambda task: _proven_of(projection, task)
        quorum.proofs.review()
        quorum.agents.recall = lambda worker: _one(projection, "SELECT agent FROM agents WHERE worker = ?", worker)
        quorum.book.records.recall = lambda worker: _record_of(projection, worker)
        quorum.agents.spilled = quorum.book.records.spilled = True
        for (body,) in projection.rows("SELECT body FROM jobs WHERE active = 1 ORDER BY id"):
            job = _job(body)
            quorum.jobs[job.id] = job
            quorum.tasks_of[job.id] = set()
        for (body,) in projection.rows("SELECT body FROM tasks ORDER BY id"):
            task = _task(body)
            quorum.tasks[task.id] = task
            quorum.tasks_of[task.job].add(task.id)
            quorum.ready[task.id] = None  # whatever was undecided when the last process ended is looked at again
            if task.lone:
                job = quorum.jobs[task.job]
                ops = kinds.KINDS[job.spec.kind].ops(job.spec, task.tile.rows, task.tile.cols)
                quorum.book.lone[task.id] = (next(iter(task.leases.values())), ops)
        for (body,) in projection.rows("SELECT body FROM canaries WHERE open = 1 ORDER BY job"):
            canary = _canary(body)
            quorum.canaries.open[canary.job] = canary
        for (body,) in projection.rows("SELECT body FROM pace"):
            quorum.canaries.pace = _pace(body)

    def evolve(self, recorded: Recorded) -> None:
        self.quorum.evolve(recorded)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        q = self.quorum
        q.agents.trim(q.touched_agents)
        q.book.records.trim(q.book.touched)
        out: dict[str, list[Sequence[Any]]] = {
            "jobs": [(j, 1, _pack(q.jobs[j])) for j in q.touched_jobs if j in q.jobs]
            + [(j, 0, b"") for j in q.dead_jobs],
            "tasks": [(t, _pack(q.tasks[t])) for t in q.touched_tasks if t in q.tasks],
            gone("tasks"): [(t,) for t in q.dead_tasks],
            "agents": [(w, q.agents[w]) for w in q.touched_agents],
            "trust": [(w, _pack(q.book.records[w])) for w in q.book.touched],
            "canaries": [
                (job, int(job in q.canaries.open), _pack(q.canaries.open[job]) if job in q.canaries.open else b"")
                for job in q.canaries.touched
            ],
            "pace": [(0, _pack(q.canaries.pace))] if q.canaries.pace_touched else [],
            **q.proofs.verifiers.rows(),
            "proved": [(p.task, p.job, p.version, 1, _pack(p)) for p in q.proofs.fresh.values()]
            + [(task, "", "", 0, b"") for task in sorted(q.proofs.looked)],
        }
        q.canaries.pace_touched = False
        q.proofs.fresh.clear()
        q.proofs.looked.clear()
        touched = (q.touched_jobs, q.touched_tasks, q.touched_agents, q.book.touched, q.canaries.touched)
        for names in (*touched, q.dead_jobs, q.dead_tasks):
            names.clear()
        return {table: rows for table, rows in out.items() if rows}
