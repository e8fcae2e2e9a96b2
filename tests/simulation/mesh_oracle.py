"""What is known of workers and leases from a part of the log, told apart from the services and written apart from them.

The mesh keeps one for the whole log; each matchmaker and quorum has one that has read as far as it has, for what it
proposes must be right by what it knew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shardy_common import trust
from shardy_common.log import Recorded
from shardy_common.wire import events as ev


class BrokenInvariant(AssertionError):
    """What the mesh promised did not hold."""


def check(holds: bool, *says: Any) -> None:
    if not holds:
        raise BrokenInvariant(" ".join(map(str, says)))


@dataclass(slots=True)
class Known:
    """Of one worker. checked, ops: tasks and operations that somebody checked; out: operations on trust since."""

    checked: int = 0
    ops: int = 0
    out: int = 0
    strikes: int = 0
    strike_ms: int = 0
    late_ms: int = 0
    guilty: bool = False

    def may_be_trusted_with(self, ops: int) -> bool:
        enough = self.checked >= trust.PROBATION_TASKS and self.ops >= trust.PROBATION_OPS
        return enough and (self.out + ops) * trust.VALUE_SHARE <= self.ops

    def rests_until(self) -> int:
        return self.late_ms + min(10_000 * 2 ** (self.strikes - 3), 600_000) if self.strikes >= 3 else 0


@dataclass(slots=True, frozen=True)
class Live:
    """A lease that neither ended nor was answered."""

    worker: str
    task: str
    job: str
    deadline_ms: int
    lent_ms: int


class Oracle:
    """Reads events in order, as far as whoever is checked has read."""

    def __init__(self) -> None:
        self.workers: dict[str, Known] = {}
        self.lent: dict[str, tuple[str, int]] = {}
        self.live: dict[str, Live] = {}
        self.answered: set[str] = set()
        self.ended: set[str] = set()  # jobs and tasks
        self.tasks_of: dict[str, set[str]] = {}
        self.prepared_ms = 0  # when the last canary was

    def of(self, worker: str) -> Known:
        known = self.workers.get(worker)
        if known is None:
            known = self.workers[worker] = Known()
        return known

    def see(self, recorded: Recorded) -> None:
        handler = _HANDLERS.get(type(recorded.event))
        if handler is not None:
            handler(self, recorded.event, recorded)

    def _lent(self, event: Any, recorded: Recorded) -> None:
        at_ms = recorded.at_ms
        over = event.job in self.ended or event.task in self.ended  # the end of its job overtook it
        for lease in event.leases:
            self.lent[lease.id] = (lease.worker, at_ms)
            if not over:
                self.live[lease.id] = Live(lease.worker, event.task, event.job, lease.deadline_ms, at_ms)
        self.tasks_of.setdefault(event.job, set()).add(event.task)

    def _expired(self, event: ev.TaskExpired, recorded: Recorded) -> None:
        for lease in event.leases:
            self.live.pop(lease, None)
            worker, lent_ms = self.lent[lease]
            if lease in self.answered or event.job in self.ended or event.task in self.ended:
                continue
            if event.cause == "deadline":
                known = self.of(worker)
                if lent_ms >= known.strike_ms:
                    known.strikes, known.strike_ms = known.strikes + 1, recorded.at_ms
                known.late_ms = recorded.at_ms

    def _answered(self, event: ev.ResultSubmitted, _recorded: Recorded) -> None:
        over = event.task in self.ended or event.job in self.ended
        if not over and event.lease not in self.answered and not self.of(event.worker).guilty:
            self.of(event.worker).strikes = 0
        self.answered.add(event.lease)
        self.live.pop(event.lease, None)

    def _failed(self, event: ev.ResultFailed, _recorded: Recorded) -> None:
        self.live.pop(event.lease, None)

    def _unproved(self, event: ev.ProofRejected, recorded: Recorded) -> None:
        """Who proves too late is as one whose lease ran out."""
        known = self.of(event.worker)
        over = event.task in self.ended or event.job in self.ended
        if event.cause == "late" and not over and not known.guilty:
            _, lent_ms = self.lent[event.lease]
            if lent_ms >= known.strike_ms:
                known.strikes, known.strike_ms = known.strikes + 1, recorded.at_ms
            known.late_ms = recorded.at_ms

    def _verified(self, event: ev.TaskVerified, _recorded: Recorded) -> None:
        for worker in event.workers:
            known = self.of(worker)
            if event.method != "trust":
                known.checked += 1
                known.ops += event.ops
                known.out = max(0, known.out - trust.CHECK_COVERS * event.ops)
            elif event.job not in self.ended and event.task not in self.ended:
                known.out += event.ops
        self._task_over(event.task)

    def _unresolved(self, event: ev.TaskUnresolved, _recorded: Recorded) -> None:
        self._task_over(event.task)

    def _task_over(self, task: str) -> None:
        self.ended.add(task)
        for lease in [lease for lease, live in self.live.items() if live.task == task]:
            del self.live[lease]

    def _job_over(self, event: Any, _recorded: Recorded) -> None:
        self.ended.add(event.job)
        for lease in [lease for lease, live in self.live.items() if live.job == event.job]:
            del self.live[lease]

    def _reopened(self, event: ev.JobReopened, _recorded: Recorded) -> None:
        self.ended |= self.tasks_of.pop(event.job, set())  # what it left behind when it failed stays over
        self.ended.discard(event.job)

    def _fraud(self, event: ev.FraudDetected, _recorded: Recorded) -> None:
        self.of(event.worker).guilty = True

    def _prepared(self, _event: ev.CanaryPrepared, recorded: Recorded) -> None:
        self.prepared_ms = recorded.at_ms


_HANDLERS: dict[type | None, Any] = {
    ev.TaskCreated: Oracle._lent,
    ev.TaskAssigned: Oracle._lent,
    ev.TaskExpired: Oracle._expired,
    ev.ResultSubmitted: Oracle._answered,
    ev.ResultFailed: Oracle._failed,
    ev.ProofRejected: Oracle._unproved,
    ev.TaskVerified: Oracle._verified,
    ev.TaskUnresolved: Oracle._unresolved,
    ev.JobCompleted: Oracle._job_over,
    ev.JobFailed: Oracle._job_over,
    ev.JobCancelled: Oracle._job_over,
    ev.JobReopened: Oracle._reopened,
    ev.FraudDetected: Oracle._fraud,
    ev.CanaryPrepared: Oracle._prepared,
}
