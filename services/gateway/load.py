"""How much the mesh has to do, and how fast it gets done: counted as events are folded, never by going through jobs.

Held in memory only; a restart counts the active jobs again. Pure: time comes with the events.
"""

from __future__ import annotations

import math
from collections import Counter

from shardy_common import kinds
from shardy_gateway.shapes import JobView

WINDOW_MS = 60_000  # the rate is that of about the last minute of the log


class Load:
    """active: jobs by requester; queued_ops: of active jobs, without a verdict."""

    def __init__(self) -> None:
        self.active: Counter[str] = Counter()
        self.queued_ops = 0
        self._left: dict[str, int] = {}  # active job → its operations without a verdict
        self._done_ops = 0.0  # of the window, falling as time goes by
        self._done_ms = 0

    def began(self, job: JobView) -> None:
        """Submitted, reopened, or read from the rows."""
        kind = kinds.KINDS[job.spec.kind]
        left = max(kind.ops(job.spec, *kind.shape(job.spec)) - job.ops, 0)
        if job.id in self._left:
            return
        self.active[job.requester] += 1
        self._left[job.id] = left
        self.queued_ops += left

    def verified(self, job: str, ops: int, at_ms: int) -> None:
        left = self._left.get(job)
        if left is not None:
            done = min(ops, left)
            self._left[job] = left - done
            self.queued_ops -= done
        self._fade(at_ms)
        self._done_ops += ops

    def ended(self, job: JobView) -> None:
        left = self._left.pop(job.id, None)
        if left is None:
            return
        self.queued_ops -= left
        self.active[job.requester] -= 1
        if not self.active[job.requester]:
            del self.active[job.requester]

    def drained_ops_s(self, now_ms: int) -> float:
        """Verified operations a second, of late."""
        faded = self._done_ops * _part_left(now_ms - self._done_ms)
        return faded * 1_000 / WINDOW_MS

    def _fade(self, at_ms: int) -> None:
        if at_ms > self._done_ms:
            self._done_ops *= _part_left(at_ms - self._done_ms)
            self._done_ms = at_ms


def _part_left(ms: int) -> float:
    return math.exp(-max(ms, 0) / WINDOW_MS)
