"""Credit: an entry for each worker of each verdict that the views took, and totals that never leave their sum.

An entry is a place alone: what was done stands in the task's row. Places are made by the views at the moment they take
a verdict, never from events by the ledger itself: a verdict of a task that is void, unknown or decided already changes
neither the task nor anybody's credit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from shardy_common.log import Recorded, Table
from shardy_common.shelf import Shelf
from shardy_common.wire import events as ev
from shardy_gateway.side import SideFold

OPS_PER_CREDIT = 1_000_000_000
WORKERS_PER_TASK_MAX = 64  # far over the leases that a task may have: an entry's id is its verdict's place and a number
_SEQ_BITS = 41  # a place is a worker's number (0: everybody) and the verdict's sequence: one integer, no second index
_SEQ_MAX = (1 << _SEQ_BITS) - 1
_WORKER, _OWNER = "w", "o"  # whose totals a row has, before the name
_PAGE = 1_000  # rows of totals that are read at once


class Entry(msgspec.Struct, frozen=True):
    """One credited worker of one verified task. id: order of the ledger; seq: of the verdict, in the log."""

    id: int
    seq: int
    at_ms: int
    worker: str
    task: str
    job: str
    owner: str
    ops: int
    method: str


class _Verdict(msgspec.Struct):
    """Of a task's row, what an entry shows."""

    id: str
    job: str
    workers: list[str]
    method: str
    seq: int
    verified_ms: int
    ops: int = 0


_verdict = msgspec.msgpack.Decoder(_Verdict).decode


class Ledger(SideFold):
    """In memory: the sums of all, and of workers, owners and failed jobs those that were met last."""

    tables = [
        Table("credit", {"place": int, "task": str}),
        # operations as decimal text: the sum of a mesh's life passes what the database calls an integer
        Table("credit_totals", {"whose": str, "number": int, "tasks": int, "ops": str}),
        Table("usage_failed", {"job": str, "ops": str, "ops_replicas": str}),
    ]
    filters = ()

    def __init__(self) -> None:
        super().__init__()
        self._workers: Shelf[list[int]] = Shelf()  # number, tasks, operations
        self._owners: Shelf[list[int]] = Shelf()
        self._numbers = self._entries = self._ops = 0  # workers that were ever credited, and the sums of all of them
        self._touched: set[str] = set()
        self._touched_owners: set[str] = set()
        self._failed: Shelf[tuple[int, int]] = Shelf()
        self._touched_failed: dict[str, tuple[int, int]] = {}
        self._places: list[tuple[int, str]] = []
        self._last = 0  # where the last verdict stands that was credited

    def load(self, projection: Any) -> None:
        super().load(projection)
        self._workers.recall = lambda worker: self._kept(_WORKER + worker)
        self._owners.recall = lambda owner: self._kept(_OWNER + owner)
        self._failed.recall = self._kept_failed
        self._workers.spilled = self._owners.spilled = self._failed.spilled = True
        sql = "SELECT whose, tasks, ops FROM credit_totals WHERE number > 0 AND whose > ? ORDER BY whose LIMIT ?"
        whose, self._numbers, self._entries, self._ops = "", 0, 0, 0
        while rows := projection.rows(sql, (whose, _PAGE)):  # operations are text, which only Python adds up exactly
            whose, self._numbers = rows[-1][0], self._numbers + len(rows)
            self._entries += sum(row[1] for row in rows)
            self._ops += sum(int(row[2]) for row in rows)
        self._last = projection.rows("SELECT max(place) FROM credit WHERE place <= ?", (_SEQ_MAX,))[0][0] or 0

    def evolve(self, recorded: Recorded) -> None:
        """Nothing, and no filters: `credit` is called with what counts."""

    def credit(self, event: ev.TaskVerified, owner: str, seq: int) -> int:
        """A verdict that the views took; returns how many workers it credits. Operations follow from the task's shape,
        as the quorum worked them out."""
        ops, task, workers = event.ops, event.task, dict.fromkeys(event.workers)
        self._last = seq
        self._places.append((seq, task))
        for worker in workers:
            total = self._workers.find(worker)
            if total is None:
                self._numbers += 1
                total = self._workers[worker] = [self._numbers, 0, 0]
            total[1] += 1
            total[2] += ops
            self._places.append((total[0] << _SEQ_BITS | seq, ""))
        self._touched.update(workers)
        self._entries += len(workers)
        self._ops += ops * len(workers)
        used = self._owners.find(owner)
        if used is None:
            used = self._owners[owner] = [0, 0, 0]
        used[1] += 1
        used[2] += ops * len(workers)
        self._touched_owners.add(owner)
        return len(workers)

    def failed(self, job: str, ops: int, ops_replicas: int) -> None:
        """A job's usage when it failed: if it is reopened, it goes on from there."""
        self._failed[job] = self._touched_failed[job] = (ops, ops_replicas)

    def reopened(self, job: str) -> tuple[int, int]:
        """ops and ops_replicas of a failed job that goes on. They stay known: it may fail again."""
        return self._failed.find(job) or (0, 0)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        places, self._places = self._places, []
        totals: list[Sequence[Any]] = []
        for mark, touched, known in (
            (_WORKER, self._touched, self._workers),
            (_OWNER, self._touched_owners, self._owners),
        ):
            totals += [(mark + whose, *known[whose][:2], str(known[whose][2])) for whose in touched]
            known.trim(touched)
            touched.clear()
        failed, self._touched_failed = self._touched_failed, {}
        self._failed.trim(failed)
        usage = [(job, str(ops), str(ops_replicas)) for job, (ops, ops_replicas) in failed.items()]
        return {"credit": list(places), "credit_totals": totals, "usage_failed": usage}

    def _kept(self, whose: str) -> list[int] | None:
        rows = self.projection.rows("SELECT number, tasks, ops FROM credit_totals WHERE whose = ?", (whose,))
        return [rows[0][0], rows[0][1], int(rows[0][2])] if rows else None

    def _kept_failed(self, job: str) -> tuple[int, int] | None:
        rows = self.projection.rows("SELECT ops, ops_replicas FROM usage_failed WHERE job = ?", (job,))
        return (int(rows[0][0]), int(rows[0][1])) if rows else None

    # -- look-ups -------------------------------------------------------------------------------------------------

    def total_of(self, worker: str) -> tuple[int, int]:
        """Verified tasks and operations of a worker, ever."""
        _, tasks, ops = self._workers.find(worker) or (0, 0, 0)
        return tasks, ops

    def used_by(self, owner: str) -> tuple[int, int]:
        """Verified tasks of an owner's jobs, and operations counted for each credited worker."""
        _, tasks, ops = self._owners.find(owner) or (0, 0, 0)
        return tasks, ops

    def workers(self, after: str = "", limit: int = 1 << 31) -> list[str]:
        """Those who were ever credited, in the order of their ids."""
        sql = "SELECT whose FROM credit_totals WHERE number > 0 AND whose > ? ORDER BY whose LIMIT ?"
        return [whose[1:] for (whose,) in self.read(sql, (_WORKER + after, limit))]

    def total(self) -> tuple[int, int]:
        """Entries of the whole ledger, and the sum of their operations."""
        return self._entries, self._ops

    def page(self, after: int = 0, limit: int = 1_000, worker: str = "", job: str = "") -> list[Entry]:
        """Entries in the order of the log, those after the entry with this id."""
        number = 0
        if worker:
            total = self._workers.find(worker)
            if total is None:
                return []
            number = total[0]
        first, last = after // WORKERS_PER_TASK_MAX, _SEQ_MAX
        # a task's id starts with its job's: those of other jobs sort outside of these two
        low, high = (job + "-", job + ".") if job else ("", "~")
        if job:
            bounds = self.read("SELECT since, until FROM jobs WHERE id = ?", (job,))
            if not bounds:
                return []
            first, last = max(first, bounds[0][0]), bounds[0][1] or last
        rows = self.read(
            f"SELECT t.body, j.requester FROM credit c JOIN credit e ON e.place = c.place & {_SEQ_MAX} "
            "JOIN tasks t ON t.id = e.task JOIN jobs j ON j.id = t.job "
            "WHERE c.place BETWEEN ? AND ? AND e.task > ? AND e.task < ? ORDER BY c.place LIMIT ?",
            (number << _SEQ_BITS | first, number << _SEQ_BITS | last, low, high, limit + 1),
        )
        entries: list[Entry] = []
        for body, owner in rows:
            v = _verdict(body)
            for i, name in enumerate(sorted(set(v.workers))):
                place = v.seq * WORKERS_PER_TASK_MAX + i
                if place > after and worker in ("", name):
                    entries.append(Entry(place, v.seq, v.verified_ms, name, v.id, v.job, owner, v.ops, v.method))
        return entries[:limit]

    def pages(self, limit: int = 1_000) -> Iterator[list[Entry]]:
        """The whole ledger as it stands now, page by page: what is added meanwhile is left out."""
        after, end = 0, (self._last + 1) * WORKERS_PER_TASK_MAX
        while page := [entry for entry in self.page(after, limit) if entry.id < end]:
            yield page
            after = page[-1].id
