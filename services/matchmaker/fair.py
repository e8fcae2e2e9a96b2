"""Whose work is lent next: start-time fair queueing over requesters, then in turn over a requester's jobs. Pure.

Every requester has a tag: the work (operations, once for each lease) that was lent for it, counted on from where the
others stood when it began. The requester with the smallest tag is next. So of those that have something to lend, each
gets its part of the devices' work, up to the size of a task, however many jobs the others have ("Start-time Fair
Queuing", Goyal, Vin and Cheng, 1996). Within a requester the job that was served longest ago is next. Nobody saves up:
who comes back begins where the others are. docs/adr/0014-fair-queues.md.

The cost of a task does not depend on how many jobs wait: a round makes one heap of the requesters, and jobs that need
the same number of devices stand in one queue, of which only the head is looked at.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

from shardy_common import kinds
from shardy_common.wire.job import JobSpec

LATE_TASKS = 4  # a requester that is behind by so many of the largest tasks is late
CREDIT_TASKS = 2 * LATE_TASKS  # and by no more than so many: nobody saves up while nothing can be done for it
SHRINK = 0.999  # how the largest task is forgotten, with each one after it

Wants = tuple[str, int]  # what a job needs of the devices: its policy (and circuit), and how many at once


def wants_of(spec: JobSpec) -> Wants:
    policy = f"{spec.policy} {spec.proof.circuit}" if spec.proof is not None else spec.policy
    return policy, kinds.answers_wanted(spec)


def dear(wants: Wants) -> bool:
    """Whether each verdict costs the mesh something."""
    return wants[0] == "audit" or wants[0].startswith(kinds.PROOF)


@dataclass(slots=True)
class _Queue:
    """A requester's jobs by what they need; each queue is in the order of the last turns, which are the values."""

    jobs: dict[Wants, OrderedDict[str, int]] = field(default_factory=dict)


class Turns:
    """The jobs that have something left to carve. largest: the largest task lent lately, in operations."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._of: dict[str, tuple[str, Wants]] = {}
        self._tags: dict[str, float] = {}
        self._now = 0.0  # the tag of whoever was served last
        self._turn = 0
        self.largest = 0.0

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, job: object) -> bool:
        return job in self._of

    def kinds(self) -> set[Wants]:
        """What jobs want that have something left to carve."""
        return {wants for queue in self._queues.values() for wants in queue.jobs}

    def add(self, job: str, requester: str, wants: Wants) -> None:
        """A job that is there already keeps its place."""
        if job in self._of:
            return
        self._of[job] = (requester, wants)
        self._queues.setdefault(requester, _Queue()).jobs.setdefault(wants, OrderedDict())[job] = self._turn

    def remove(self, job: str) -> None:
        requester, wants = self._of.pop(job, ("", ("", 0)))
        queue = self._queues.get(requester)
        if queue is None:
            return
        queue.jobs[wants].pop(job, None)
        if not queue.jobs[wants]:
            del queue.jobs[wants]
        if not queue.jobs:
            del self._queues[requester]

    def next_job(self, requester: str, blocked: Container[Wants]) -> tuple[str, Wants] | None:
        """The job of this requester that was served longest ago, of those whose needs are not blocked."""
        queue = self._queues.get(requester)
        if queue is None:
            return None
        best: tuple[int, str, Wants] | None = None
        for wants, jobs in queue.jobs.items():
            if wants not in blocked:
                job = next(iter(jobs))
                head = (jobs[job], job, wants)
                if best is None or head < best:
                    best = head
        return (best[1], best[2]) if best is not None else None

    def served_job(self, job: str) -> None:
        """It stands behind its requester's other jobs now."""
        self._turn += 1
        requester, wants = self._of[job]
        jobs = self._queues[requester].jobs[wants]
        jobs[job] = self._turn
        jobs.move_to_end(job)

    def tag(self, requester: str) -> float:
        return self._tags.get(requester, self._now)

    def late(self, requester: str) -> bool:
        """Others have been served so much since that it must not wait for the best moment any more."""
        return self._now - self.tag(requester) > LATE_TASKS * self.largest > 0

    def begin(self, others: Iterable[str] = ()) -> Round:
        """A round over all that have jobs, and others that have something to retry."""
        names = {*self._queues, *others}
        least = self._now - CREDIT_TASKS * self.largest
        # who has no jobs keeps its tag until it has paid for what it got, and then starts anew from where others are
        self._tags = {who: max(tag, least) for who, tag in self._tags.items() if who in names or tag > self._now} | {
            who: self._now for who in names if who not in self._tags
        }
        return Round(self, names)

    def _served(self, requester: str, work: float) -> None:
        start = self.tag(requester)
        self._now = max(self._now, start)
        self._tags[requester] = start + work
        self.largest = max(work, self.largest * SHRINK)


class Round:
    """One pass over the requesters while devices have room. A requester for whom nothing can be done now drops out."""

    def __init__(self, turns: Turns, names: Iterable[str]) -> None:
        self._turns = turns
        self._heap = [(turns.tag(name), name) for name in names]
        heapq.heapify(self._heap)

    def run(self, serve: Callable[[str], float], go_on: Callable[[], bool]) -> None:
        """serve: lend one task for this requester; the work lent, 0 when nothing could be."""
        while self._heap and go_on():
            _, who = self._heap[0]
            work = serve(who)
            if work > 0:
                self._turns._served(who, work)
                heapq.heapreplace(self._heap, (self._turns.tag(who), who))
            else:
                heapq.heappop(self._heap)
