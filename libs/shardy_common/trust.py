"""How far a device is trusted: its checked record, and what may be given to it without a replica. Pure.

The idea is BOINC's adaptive replication (D. P. Anderson, "BOINC: A Platform for Volunteer Computing", Journal of Grid
Computing, 2019; and BOINC's notes on it: a host with N valid results in a row, at least ten, is replicated at random
with probability 1/N). Here trust is counted in operations as well as in tasks, never falls below a floor of checks, and
is bounded by value: what a device could gain by lying stays a small part of the honest work that it had to do before.
Numbers, and why: docs/adr/0008-adaptive-trust.md.

Every fold that needs it keeps a `Book` and feeds it in the order of the log, so all agree on who may work alone.
"""

from __future__ import annotations

import msgspec

from shardy_common.shelf import Shelf

PROBATION_TASKS = 10  # checked tasks, and checked operations, before a key may ever work alone
PROBATION_OPS = 10**10
FLOOR = 0.05  # the least share of tasks that is replicated, however long the record
VALUE_SHARE = 20  # operations out on trust are at most a twentieth of those that were checked
CHECK_COVERS = 40  # operations out on trust that one checked operation answers for: twice what the floor needs
UNCHECKED_MS = 600_000  # a trusted device that was not checked for so long is as good a canary's choice as a new one
CHECKED = frozenset({"quorum", "audit", "arbitration", "canary", "proof"})  # methods of a verdict that somebody checked
TRUST = "trust"  # the method of a verdict that nobody did


class Record(msgspec.Struct):
    """What the log says of one key. tasks, ops: checked and found right; checked_ms: when last.

    exposure: operations accepted on trust that no later check answers for; lent: given to it alone, without a verdict
    yet; alone_tasks, alone_ops: accepted on trust, ever; faults: proven wrong results.
    """

    tasks: int = 0
    ops: int = 0
    checked_ms: int = 0
    exposure: int = 0
    lent: int = 0
    alone_tasks: int = 0
    alone_ops: int = 0
    faults: int = 0


UNKNOWN = Record()


def on_probation(record: Record) -> bool:
    return bool(record.faults) or record.tasks < PROBATION_TASKS or record.ops < PROBATION_OPS


def budget(record: Record) -> int:
    """Operations that may be out on trust at once."""
    return 0 if on_probation(record) else record.ops // VALUE_SHARE


def room(record: Record) -> int:
    """What is left of the budget; less than nothing for whoever has none."""
    return budget(record) - record.exposure - record.lent if not on_probation(record) else -1


def replication_probability(record: Record, ops: int) -> float:
    """How likely a task of so many operations must be replicated if this worker gets it: 1 on probation, after a
    fault, and when the task does not fit the budget; else falling with the record as 1/N does, to FLOOR."""
    if room(record) < ops:
        return 1.0
    return max(FLOOR, PROBATION_TASKS / record.tasks, PROBATION_OPS / record.ops)


def canary_urgency(record: Record, now_ms: int) -> float:
    """How much a canary would tell about this worker. Above 1: on probation, the less is known the more. Otherwise by
    the time since its last check (1 after UNCHECKED_MS, no limit above) or by how much of its budget is used up."""
    if on_probation(record):
        return 2.0 - 0.5 * (min(record.tasks / PROBATION_TASKS, 1.0) + min(record.ops / PROBATION_OPS, 1.0))
    return max((now_ms - record.checked_ms) / UNCHECKED_MS, record.exposure / max(budget(record), 1))


class Book:
    """The records of all keys. lone: tasks given to one worker on trust and not decided yet, with their operations."""

    def __init__(self) -> None:
        self.records: Shelf[Record] = Shelf()
        self.lone: dict[str, tuple[str, int]] = {}
        self.touched: set[str] = set()

    def of(self, worker: str) -> Record:
        return self.records.find(worker) or UNKNOWN

    def convicted(self, worker: str) -> bool:
        record = self.records.find(worker)
        return record is not None and record.faults > 0

    def lend(self, task: str, worker: str, ops: int) -> bool:
        """Whether the worker may have this task alone, where it stands in the log. If not, the task needs replicas
        like any other: a decider that had not read on can propose too much, but never give too much away."""
        if room(self.of(worker)) < ops:
            return False
        self.lone[task] = (worker, ops)
        self._record(worker).lent += ops
        return True

    def release(self, task: str) -> None:
        """The task is not the worker's alone any more."""
        held = self.lone.pop(task, None)
        if held is not None:
            self._record(held[0]).lent -= held[1]

    def held_alone(self, worker: str) -> list[str]:
        """Tasks that this worker has on trust."""
        return [task for task, (holder, _) in self.lone.items() if holder == worker]

    def verified(self, task: str, workers: list[str], method: str, ops: int, at_ms: int) -> None:
        """A verdict. Only a checked one builds trust; one on trust uses it up, unless the task had ended before: its
        loan was given back then, and nobody will use the result."""
        alone = task in self.lone
        if alone:
            self.release(task)
        if method in CHECKED:
            for worker in workers:  # written out: it runs for every answer of the mesh
                record = self.records.get(worker) or self.records.find(worker)
                if record is None:
                    record = self.records[worker] = Record()
                record.tasks += 1
                record.ops += ops
                record.checked_ms = at_ms
                if record.exposure:
                    record.exposure = max(0, record.exposure - CHECK_COVERS * ops)
            self.touched.update(workers)
        elif alone:
            self.accepted_alone(workers, ops)

    def accepted_alone(self, workers: list[str], ops: int) -> None:
        """A result was taken on trust."""
        for worker in workers:
            record = self._record(worker)
            record.alone_tasks += 1
            record.alone_ops += ops
            record.exposure += ops

    def fraud(self, worker: str) -> bool:
        """A proven wrong result. Whether it is the first of this worker."""
        record = self._record(worker)
        record.faults += 1
        return record.faults == 1

    def _record(self, worker: str) -> Record:
        record = self.records.find(worker)
        if record is None:
            record = self.records[worker] = Record()
        self.touched.add(worker)
        return record
