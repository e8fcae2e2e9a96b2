"""The quorum's fold as a service core: loading from and writing to its projection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shardy_common.log import Projection, Recorded, Table
from shardy_quorum.task import FILTERS, Quorum, QuorumJob, QuorumTask

TABLES = [
    Table("jobs", {"id": str, "active": int, "body": bytes}, [["active"]]),
    Table("tasks", {"id": str, "job": str, "active": int, "body": bytes}, [["active"]]),
    Table("agents", {"worker": str, "agent": str}),
]
VERSION = 2
_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_job = msgspec.msgpack.Decoder(QuorumJob).decode
_task = msgspec.msgpack.Decoder(QuorumTask).decode


class QuorumCore:
    filters = FILTERS

    def __init__(self) -> None:
        self.quorum = Quorum()

    def load(self, projection: Projection) -> None:
        quorum = self.quorum
        for worker, agent in projection.rows("SELECT worker, agent FROM agents"):
            quorum.agents[worker] = agent
        for (body,) in projection.rows("SELECT body FROM jobs WHERE active = 1 ORDER BY id"):
            job = _job(body)
            quorum.jobs[job.id] = job
            quorum.tasks_of[job.id] = set()
        for (body,) in projection.rows("SELECT body FROM tasks WHERE active = 1 ORDER BY id"):
            task = _task(body)
            quorum.tasks[task.id] = task
            quorum.tasks_of[task.job].add(task.id)
            quorum.ready[task.id] = None  # whatever was undecided when the last process ended is looked at again

    def evolve(self, recorded: Recorded) -> None:
        self.quorum.evolve(recorded)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        q = self.quorum
        out: dict[str, list[Sequence[Any]]] = {
            "jobs": [(j, 1, _pack(q.jobs[j])) for j in q.touched_jobs if j in q.jobs]
            + [(j, 0, b"") for j in q.dead_jobs],
            "tasks": [(t, q.tasks[t].job, 1, _pack(q.tasks[t])) for t in q.touched_tasks if t in q.tasks]
            + [(t, t.split("-")[0], 0, b"") for t in q.dead_tasks],
            "agents": [(w, q.agents[w]) for w in q.touched_agents],
        }
        for names in (q.touched_jobs, q.touched_tasks, q.touched_agents, q.dead_jobs, q.dead_tasks):
            names.clear()
        return {table: rows for table, rows in out.items() if rows}
