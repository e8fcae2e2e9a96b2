"""What the simulated mesh is held to beside the bytes, told from the log alone and written apart from the services."""

from __future__ import annotations

from dataclasses import dataclass

from shardy_common import trust
from shardy_common.log import Recorded
from shardy_common.wire import events as ev


@dataclass
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


class Oracle:
    """Reads events in order, as far as whoever is checked has read."""

    def __init__(self) -> None:
        self.workers: dict[str, Known] = {}
        self.lent: dict[str, tuple[str, int]] = {}
        self.answered: set[str] = set()
        self.ended: set[str] = set()  # jobs and tasks
        self.tasks_of: dict[str, set[str]] = {}
        self.canaries: list[int] = []  # when each was prepared
        self.prepared: set[str] = set()

    def of(self, worker: str) -> Known:
        return self.workers.setdefault(worker, Known())

    def see(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, (ev.TaskCreated, ev.TaskAssigned)):
            self.lent |= {lease.id: (lease.worker, recorded.at_ms) for lease in event.leases}
            self.tasks_of.setdefault(event.job, set()).add(event.task)
        elif isinstance(event, ev.TaskExpired) and event.cause == "deadline":
            self._expired(event, recorded.at_ms)
        elif isinstance(event, ev.ResultSubmitted):
            over = event.task in self.ended or event.job in self.ended
            if not over and event.lease not in self.answered and not self.of(event.worker).guilty:
                self.of(event.worker).strikes = 0
            self.answered.add(event.lease)
        elif isinstance(event, ev.TaskVerified):
            self._verified(event)
            self.ended.add(event.task)
        elif isinstance(event, ev.TaskUnresolved):
            self.ended.add(event.task)
        elif isinstance(event, (ev.JobCompleted, ev.JobFailed, ev.JobCancelled)):
            self.ended.add(event.job)
        elif isinstance(event, ev.JobReopened):  # what it left behind when it failed stays over
            self.ended |= self.tasks_of.pop(event.job, set())
            self.ended.discard(event.job)
        elif isinstance(event, ev.FraudDetected):
            self.of(event.worker).guilty = True
        elif isinstance(event, ev.CanaryPrepared):
            self.canaries.append(recorded.at_ms)
            self.prepared.add(event.job)

    def _expired(self, event: ev.TaskExpired, at_ms: int) -> None:
        for lease in event.leases:
            worker, lent_ms = self.lent[lease]
            if lease in self.answered or event.job in self.ended or event.task in self.ended:
                continue
            known = self.of(worker)
            if lent_ms >= known.strike_ms:
                known.strikes, known.strike_ms = known.strikes + 1, at_ms
            known.late_ms = at_ms

    def _verified(self, event: ev.TaskVerified) -> None:
        for worker in event.workers:
            known = self.of(worker)
            if event.method != "trust":
                known.checked += 1
                known.ops += event.ops
                known.out = max(0, known.out - trust.CHECK_COVERS * event.ops)
            elif event.job not in self.ended and event.task not in self.ended:
                known.out += event.ops
