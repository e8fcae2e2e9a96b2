"""The matchmaker's fold as a service core: loading from and writing to its projection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from shardy_common import trust
from shardy_common.log import Projection, Recorded, Table, gone
from shardy_matchmaker.decide import Matchmaker
from shardy_matchmaker.fold import FILTERS
from shardy_matchmaker.state import JobState, TaskState, WorkerState

TABLES = [
    Table("workers", {"id": str, "active": int, "body": bytes}, [["active"]]),
    Table("jobs", {"id": str, "active": int, "body": bytes}, [["active"]]),
    Table("tasks", {"id": str, "body": bytes}),  # active ones: nothing asks for others
    Table("trust", {"worker": str, "body": bytes}),
]
VERSION = 6
Value = TypeVar("Value")
_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_worker = msgspec.msgpack.Decoder(WorkerState).decode
_job = msgspec.msgpack.Decoder(JobState).decode
_task = msgspec.msgpack.Decoder(TaskState).decode
_record = msgspec.msgpack.Decoder(trust.Record).decode


def _active(worker: WorkerState) -> int:
    """Whether it stays in memory: it is here, or something is still out with it."""
    return int(worker.present or bool(worker.leases))


def _one(projection: Projection, sql: str, key: str, decode: Callable[[bytes], Value]) -> Value | None:
    rows = projection.rows(sql, (key,))
    return decode(rows[0][0]) if rows else None


class MatchmakerCore:
    filters = FILTERS

    def __init__(self, matchmaker: Matchmaker) -> None:
        self.matchmaker = matchmaker

    def load(self, projection: Projection) -> None:
        fold = self.matchmaker.fold
        fold.workers.recall = lambda id_: _one(projection, "SELECT body FROM workers WHERE id = ?", id_, _worker)
        fold.book.records.recall = lambda id_: _one(projection, "SELECT body FROM trust WHERE worker = ?", id_, _record)
        fold.workers.spilled = fold.book.records.spilled = True
        for (body,) in projection.rows("SELECT body FROM workers WHERE active = 1"):
            worker = _worker(body)
            fold.workers[worker.id] = worker
            if worker.present and not worker.tier:
                fold.untiered[worker.id] = None
            lost = [lease for lease in worker.lost if lease in worker.leases]
            if lost:  # read, and not expired yet when the last process ended
                fold.incoming[worker.id] = lost
        for (body,) in projection.rows("SELECT body FROM jobs WHERE active = 1 ORDER BY id"):
            job = _job(body)
            fold.jobs[job.id] = job
            fold.tasks_of[job.id] = set()
            fold.fresh[job.id] = None
            fold.look_for_end(job)
        for (body,) in projection.rows("SELECT body FROM tasks ORDER BY id"):
            task = _task(body)
            fold.tasks[task.id] = task
            fold.tasks_of[task.job].add(task.id)
            fold.weigh(task)
            if task.lone:
                (lease,) = task.leases.values()
                fold.book.lone[task.id] = (lease.worker, task.ops)

    def evolve(self, recorded: Recorded) -> None:
        self.matchmaker.fold.evolve(recorded)
        self.matchmaker.read_back(recorded.event)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        fold = self.matchmaker.fold
        fold.workers.trim(fold.touched["workers"], lambda worker: not _active(worker))
        fold.book.records.trim(fold.book.touched)
        out: dict[str, list[Sequence[Any]]] = {
            "workers": [(w, _active(fold.workers[w]), _pack(fold.workers[w])) for w in fold.touched["workers"]],
            "jobs": [(j, 1, _pack(fold.jobs[j])) for j in fold.touched["jobs"] if j in fold.jobs]
            + [(j, 0, _pack(job)) for j, job in fold.dead_jobs.items()],
            "tasks": [(t, _pack(fold.tasks[t])) for t in fold.touched["tasks"] if t in fold.tasks],
            gone("tasks"): [(t,) for t in fold.dead_tasks],
            "trust": [(w, _pack(fold.book.records[w])) for w in fold.book.touched],
        }
        fold.moved |= fold.touched["workers"]
        for names in fold.touched.values():
            names.clear()
        fold.book.touched.clear()
        fold.dead_jobs.clear()
        fold.dead_tasks.clear()
        return {table: rows for table, rows in out.items() if rows}
