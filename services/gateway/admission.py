"""Whether the mesh takes another job now. Pure: a snapshot of counters in, a reason to come back later out.

What is asked, in this order: has the log room; does this gateway follow it; are appends being answered; has the
requester, and has the mesh, so many active jobs; is more work queued than the devices here can do in a reasonable time.
A mesh without devices takes jobs: they wait, and say so. Work that is queued says nothing against the first job.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

LOG_FILLED_MAX = 0.95  # of the log; the rest is kept for jobs that run
RETRY_S_MIN, RETRY_S_MAX = 1, 300
UNKNOWN_RETRY_S = 10  # where nobody is here whose rate would tell
LOG_RETRY_S = 30  # somebody has to do something
LAG_EVENTS_PER_S = 20_000  # what a gateway folds at least


@dataclass(frozen=True, slots=True)
class Bounds:
    jobs_per_requester: int
    jobs: int
    backlog_s: float
    lag_events: int
    appends: int


@dataclass(frozen=True, slots=True)
class Pressure:
    """jobs_own: active jobs of the requester; queued_ops: operations of active jobs without a verdict yet, once each.

    drained_ops_s: verified operations a second, of late; able_ops_s: what the devices present should be able to do;
    lag_events: in the log and not folded here; appends: waiting for the log's answer; log_filled: 0 to 1 and above.
    """

    jobs_own: int = 0
    jobs: int = 0
    queued_ops: int = 0
    drained_ops_s: float = 0.0
    able_ops_s: float = 0.0
    workers: int = 0
    lag_events: int = 0
    appends: int = 0
    log_filled: float = 0.0

    @property
    def rate_ops_s(self) -> float:
        """How fast work drains: as it did of late, or as it should where nothing was verified lately."""
        return max(self.drained_ops_s, self.able_ops_s)

    @property
    def backlog_s(self) -> float:
        """How long the queued work takes at that rate; 0 where nobody is here to do it."""
        return self.queued_ops / self.rate_ops_s if self.rate_ops_s > 0 else 0.0

    def shown(self) -> dict[str, float]:
        """For GET /v1/mesh, without what belongs to the requester."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "jobs_own"}
        rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}
        return rounded | {"backlog_s": round(self.backlog_s, 1)}


@dataclass(frozen=True, slots=True)
class Later:
    """Not now. title: of the problem; limit: the one that was passed; retry_s: when it is worth asking again."""

    title: str
    status: int
    detail: str
    limit: str
    retry_s: int


def decide(now: Pressure, bounds: Bounds) -> Later | None:
    """None: the job is taken."""
    if now.log_filled >= LOG_FILLED_MAX:
        detail = (
            f"the log is {now.log_filled:.0%} full, and what is left is kept for jobs that run: an operator has to "
        )
        return Later("Log full", 503, detail + "archive it or raise its limit", f"{LOG_FILLED_MAX:.0%}", LOG_RETRY_S)
    if now.lag_events > bounds.lag_events:
        detail = f"this gateway is {now.lag_events} events behind the log"
        return _busy(detail, f"{bounds.lag_events} events", now.lag_events / LAG_EVENTS_PER_S)
    if now.appends >= bounds.appends:
        return _busy(f"{now.appends} events wait for the log's answer", f"{bounds.appends} events", 1)
    if now.jobs_own >= bounds.jobs_per_requester:
        detail = f"{now.jobs_own} of your jobs are active: wait for some to end"
        wait_s = _until_one_ends(now)
        return Later("Too many active jobs", 429, detail, f"{bounds.jobs_per_requester} active jobs", wait_s)
    if now.jobs >= bounds.jobs:
        return _busy(f"{now.jobs} jobs are active in this mesh", f"{bounds.jobs} active jobs", _until_one_ends(now))
    if now.backlog_s > bounds.backlog_s:
        detail = f"the devices here need {now.backlog_s:.0f} s for what is queued already"
        return _busy(detail, f"{bounds.backlog_s:g} s of queued work", now.backlog_s - bounds.backlog_s)
    return None


def _busy(detail: str, limit: str, wait_s: float) -> Later:
    wait = bounded_s(wait_s)
    return Later("Mesh busy", 429, f"{detail}: come back in {wait} s", limit, wait)


def _until_one_ends(now: Pressure) -> int:
    """The queued work of an average job, at the rate at which work drains."""
    return bounded_s(now.backlog_s / max(now.jobs, 1) if now.rate_ops_s else UNKNOWN_RETRY_S)


def bounded_s(wait_s: float) -> int:
    """Whole seconds, never 0, and never so long that nobody would wait for it."""
    return min(max(RETRY_S_MIN, math.ceil(wait_s)), RETRY_S_MAX)
