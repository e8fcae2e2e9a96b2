"""Canaries: small jobs whose answer the mesh knows, made of a real job's rows, so that a worker cannot tell. Pure.

When: after so many verdicts on requesters' tasks, not more often than a gap allows, one at a time. `canary.prepared`
is appended with the expected sequence of the last one, so of several quorums that want one only one gets it; that one
submits the job once it has read its own event back. An answer that differs is examined like any other, and only proof
counts. A canary is not worth a second attempt: whatever goes wrong with it ends it.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from shardy_common import kinds
from shardy_common.log import Append, Recorded
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_common.wire.job import JobSpec

REQUESTER = "mesh"
OPS_MAX = 10**9  # of one canary: some tens of milliseconds of the quorum's thread
BYTES_MAX = 2 << 20  # of its operands and its result, so that it fits every device that may join
LIFE_MS = 600_000  # a canary without an answer is given up after this
RECENT_MAX = 4  # completed jobs whose rows canaries may be made of
EVERY, GAP_MS = 50, 5_000  # defaults of the pacing
DRAFTS_MAX = 4  # prepared here, and not yet read back


@dataclass(frozen=True, slots=True)
class Pacing:
    """every: verdicts on requesters' tasks for one canary, 0 for none; gap_ms: least time between two."""

    every: int = EVERY
    gap_ms: int = GAP_MS


@dataclass(frozen=True, slots=True)
class Draft:
    """A canary that has been made: its job, and the digest of the right result."""

    job: str
    spec: JobSpec
    digest: str
    trace: str = ""


class Pace(msgspec.Struct):
    """seq, at_ms: of the last canary.prepared; since: verdicts after it; recent: jobs to make canaries of."""

    seq: int = 0
    at_ms: int = 0
    since: int = 0
    recent: list[JobSpec] = []


class Canary(msgspec.Struct):
    """seq: last sequence of the job's own events; 0 until it is submitted."""

    job: str
    digest: str
    prepared_ms: int
    seq: int = 0


class Canaries:
    """open: canaries that have not ended. The rest of the state is what has been proposed and not read back."""

    def __init__(self, pacing: Pacing, name: str = "") -> None:
        self.pacing, self.name = pacing, name
        self.pace = Pace()
        self.open: dict[str, Canary] = {}
        self.touched: set[str] = set()
        self.pace_touched = False
        self.drafts: dict[str, Draft] = {}
        self.proposed: set[str] = set()
        self._not_before_ms = 0
        self._after = 0  # the canary.prepared that was the last when one was wanted

    # -- fold -----------------------------------------------------------------------------------------------------

    def prepared(self, event: ev.CanaryPrepared, recorded: Recorded) -> None:
        for job in [job for job, canary in self.open.items() if not canary.seq]:
            self._close(job)  # its maker died before it could submit it
        self.open[event.job] = Canary(event.job, event.digest, recorded.at_ms)
        self.touched.add(event.job)
        self.pace.seq, self.pace.at_ms, self.pace.since = recorded.seq, recorded.at_ms, 0
        self.pace_touched = True

    def submitted(self, job: str, seq: int) -> None:
        """One that was given up before it was submitted is open again, without an answer: it is old, so it is ended."""
        canary = self.open.get(job)
        if canary is None:
            canary = self.open[job] = Canary(job, "", 0)
        canary.seq = seq
        self.touched.add(job)
        self.drafts.pop(job, None)
        self.proposed.discard(job)

    def ended(self, job: str, spec: JobSpec, completed: bool) -> None:
        """A job ended: a canary, or one whose rows may become canaries."""
        if spec.policy == kinds.CANARY:
            self._close(job)
        elif completed:
            self.pace.recent = [*self.pace.recent[1 - RECENT_MAX :], spec]
            self.pace_touched = True

    def counted(self) -> None:
        """One more verdict on a requester's task."""
        self.pace.since += 1
        self.pace_touched = True

    def _close(self, job: str) -> None:
        if self.open.pop(job, None) is not None:
            self.touched.add(job)
        self.proposed.discard(job)

    # -- decisions ------------------------------------------------------------------------------------------------

    def wanted(self, now_ms: int) -> JobSpec | None:
        """A job to make a canary of now. Call `drafted` or `not_made` with what came of it."""
        pace = self.pace
        if not self.pacing.every or not pace.recent or pace.since < self.pacing.every:
            return None
        if now_ms < max(pace.at_ms + self.pacing.gap_ms, self._not_before_ms):
            return None
        if any(now_ms < canary.prepared_ms + LIFE_MS for canary in self.open.values()):
            return None
        self._not_before_ms = now_ms + self.pacing.gap_ms  # also while one is being made, and if it can't be
        self._after = pace.seq
        return pace.recent[pace.since % len(pace.recent)]

    def drafted(self, draft: Draft) -> list[Append]:
        """The answer goes into the log before the job: nobody can say later that it was made up."""
        while len(self.drafts) >= DRAFTS_MAX:
            self.drafts.pop(next(iter(self.drafts)))
        self.drafts[draft.job] = draft
        event = ev.CanaryPrepared(draft.job, draft.digest, self.name)
        return [Append(event, f"canary/{draft.job}", self._after, subjects.of_kind(event.name), draft.trace)]

    def decide(self, now_ms: int) -> list[Append]:
        """Submit what was prepared here, end what is too old."""
        out = []
        for job, canary in self.open.items():
            if job in self.proposed:
                continue
            draft = self.drafts.get(job)
            old = now_ms > canary.prepared_ms + LIFE_MS
            if not canary.seq and draft is not None and not old:
                self.proposed.add(job)
                out.append(Append(ev.JobSubmitted(job, draft.spec, REQUESTER), f"job/{job}", 0, trace=draft.trace))
            elif canary.seq and old:
                out += self.cancel(job)
        return out

    def cancel(self, job: str) -> list[Append]:
        """End a canary, unless that is under way."""
        canary = self.open.get(job)
        if canary is None or job in self.proposed:
            return []
        self.proposed.add(job)
        cancelled = ev.JobCancelled(job, REQUESTER)
        return [Append(cancelled, f"end/{job}/{canary.seq}", canary.seq, subjects.of_entity("job", job))]

    def refused(self, event: ev.Event) -> None:
        """The log refused or lost it, or did not answer. A draft stays: its event may be read back all the same."""
        if isinstance(event, (ev.JobSubmitted, ev.JobCancelled)):
            self.proposed.discard(event.job)
