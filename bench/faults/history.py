"""What clients and workers saw of a mesh, held against its log. Pure.

`Seen` is one thing that somebody saw, in the order of one machine's steady clock. `violations` names everything that a
mesh may never do, however it is hurt: lose what it acknowledged, change what it answered, go backwards, judge twice,
brand the honest, give one key two jobs, credit what was not verified, or fold live to something else than replayed.
In the manner of Jepsen's checkers: nothing is asked of the mesh, only its histories are read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import numpy as np

from shardy_common import kinds
from shardy_common.log import Recorded
from shardy_common.wire import events as ev

ENDED = ("completed", "failed", "cancelled")
ENDINGS = {ev.JobCompleted: "completed", ev.JobFailed: "failed", ev.JobCancelled: "cancelled"}


class Seen(msgspec.Struct, frozen=True, omit_defaults=True):
    """what: submitting (key; digest of the right result) | acknowledged (key, job) | status (job, state, verified) |
    answered (job, digest) | cancelled (job) | kept (a worker's result: lease, digest) | error (detail).

    client: who saw it, one call after another; gateway: where it asked; final: asked after the mesh was left in peace.
    """

    at_s: float
    client: str
    what: str
    job: str = ""
    key: str = ""
    gateway: str = ""
    state: str = ""
    verified: int = 0
    digest: str = ""
    lease: str = ""
    detail: str = ""
    final: bool = False


@dataclass(frozen=True)
class Violation:
    kind: str
    text: str


@dataclass
class Story:
    """A history, the log, and what a mesh shows of itself once it is in peace. liars: worker ids that do lie; credit:
    operations by worker; replays: replica → what is live, and what a replay gave. ended: whether every
    acknowledged job has had its time to end."""

    seen: Sequence[Seen]
    log: Sequence[Recorded]
    liars: frozenset[str] = frozenset()
    credit: dict[str, int] | None = None
    replays: dict[str, tuple[object, object]] = field(default_factory=dict)
    ended: bool = True
    of_job: dict[str, list[Recorded]] = field(init=False)

    def __post_init__(self) -> None:
        self.of_job = defaultdict(list)
        for recorded in self.log:
            job = getattr(recorded.event, "job", None)
            if job:
                self.of_job[job].append(recorded)

    def what(self, *kinds_: str) -> Iterator[Seen]:
        return (s for s in self.seen if s.what in kinds_)

    def events(self, kind: type) -> Iterator[Recorded]:
        return (r for r in self.log if isinstance(r.event, kind))

    def state_of(self, job: str) -> str:
        """As the log has it: the last that was said of the job's end."""
        state = ""
        for recorded in self.of_job.get(job, ()):
            if isinstance(recorded.event, ev.JobSubmitted | ev.JobReopened):
                state = "running"
            elif type(recorded.event) in ENDINGS and state == "running":
                state = ENDINGS[type(recorded.event)]
        return state

    def reopened(self, job: str) -> int:
        return sum(isinstance(r.event, ev.JobReopened) for r in self.of_job.get(job, ()))


def violations(story: Story) -> list[Violation]:
    """Everything that must not be; nothing for a mesh that kept its word."""
    return [Violation(kind, text) for kind, rule in RULES.items() for text in rule(story)]


# -- nothing acknowledged is lost -------------------------------------------------------------------------------------


def _lost_jobs(story: Story) -> Iterator[str]:
    for job in {s.job for s in story.what("acknowledged")}:
        if not story.state_of(job):
            yield f"job {job} was acknowledged and is not in the log"


def _lost_cancels(story: Story) -> Iterator[str]:
    for job in {s.job for s in story.what("cancelled")}:
        if story.state_of(job) != "cancelled":
            yield f"job {job} was cancelled; the log says {story.state_of(job) or 'nothing'}"


def _lost_results(story: Story) -> Iterator[str]:
    recorded = {(r.event.lease, r.event.worker, r.event.digest) for r in story.events(ev.ResultSubmitted)}  # type: ignore[union-attr]
    for s in story.what("kept"):
        if (s.lease, s.client, s.digest) not in recorded:
            yield f"the result of lease {s.lease} was acknowledged to {s.client} and is not in the log"


def _unended(story: Story) -> Iterator[str]:
    for job in {s.job for s in story.what("acknowledged")} if story.ended else ():
        if story.state_of(job) == "running":
            yield f"job {job} was acknowledged and never ended"


# -- nothing answered changes -----------------------------------------------------------------------------------------


def _wrong_answers(story: Story) -> Iterator[str]:
    right = {s.key: s.digest for s in story.what("submitting")}
    key_of = {s.job: s.key for s in story.what("acknowledged")}
    for s in story.what("answered"):
        if s.digest != right.get(key_of.get(s.job, ""), s.digest):
            yield f"job {s.job} was answered with wrong bytes at {s.gateway}"


def _changed_answers(story: Story) -> Iterator[str]:
    first: dict[str, str] = {}
    for s in story.what("answered"):
        if first.setdefault(s.job, s.digest) != s.digest:
            yield f"job {s.job} was answered with other bytes at {s.gateway} than before"


def _early_answers(story: Story) -> Iterator[str]:
    for s in story.what("answered"):
        if not any(isinstance(r.event, ev.JobCompleted) for r in story.of_job.get(s.job, ())):
            yield f"job {s.job} was answered at {s.gateway}; the log never completed it"


def _contradictions(story: Story) -> Iterator[str]:
    """Once the mesh is in peace, every gateway says what the log says."""
    for s in story.what("status"):
        if s.final and s.state != story.state_of(s.job):
            yield f"job {s.job} is {s.state} at {s.gateway}; the log says {story.state_of(s.job) or 'nothing'}"


# -- nothing goes backwards -------------------------------------------------------------------------------------------


def _by_reader(story: Story) -> Iterator[tuple[str, list[Seen]]]:
    """Reads of one job by one client at one gateway, in their order: another gateway may know it a moment later."""
    reads: dict[tuple[str, str, str], list[Seen]] = defaultdict(list)
    for s in story.what("status"):
        reads[s.client, s.gateway, s.job].append(s)
    return ((job, found) for (_, _, job), found in reads.items())


def _went_back(story: Story) -> Iterator[str]:
    for job, reads in _by_reader(story):
        back = [(a, b) for a, b in pairwise(reads) if a.state in ENDED and b.state != a.state]
        for a, b in back[story.reopened(job) :]:
            yield f"job {job} was {a.state} and then {b.state} for {b.client} at {b.gateway}"


def _verified_fell(story: Story) -> Iterator[str]:
    for job, reads in _by_reader(story):
        for a, b in pairwise(reads):
            if b.verified < a.verified:
                yield f"job {job} had {a.verified} verified tasks and then {b.verified} at {b.gateway}"


def _verified_ahead(story: Story) -> Iterator[str]:
    for job, most in _most_verified(story).items():
        have = sum(isinstance(r.event, ev.TaskVerified) for r in story.of_job.get(job, ()))
        if most > have:
            yield f"job {job} was shown with {most} verified tasks; the log has {have}"


def _most_verified(story: Story) -> dict[str, int]:
    most: dict[str, int] = defaultdict(int)
    for s in story.what("status"):
        most[s.job] = max(most[s.job], s.verified)
    return most


# -- the log itself ---------------------------------------------------------------------------------------------------


def _repeated(items: Iterable[str]) -> Iterator[str]:
    known: set[str] = set()
    for item in items:
        if item in known:
            yield item
        known.add(item)


def _verdicts_repeated(story: Story) -> Iterator[str]:
    for task in _repeated(r.event.entity_id for r in story.events(ev.TaskVerified)):  # type: ignore[union-attr]
        yield f"task {task} was verified more than once"


def _results_repeated(story: Story) -> Iterator[str]:
    """One result may stand in the log twice only if its worker came back since it was lent, to another gateway."""
    lent: dict[str, int] = {}
    joined: dict[str, int] = {}
    known: set[str] = set()
    for recorded in story.log:
        event = recorded.event
        if isinstance(event, ev.TaskCreated | ev.TaskAssigned):
            lent.update((lease.id, recorded.seq) for lease in event.leases)
        elif isinstance(event, ev.WorkerJoined):
            joined[event.worker] = recorded.seq
        elif isinstance(event, ev.ResultSubmitted):
            if event.lease in known and joined.get(event.worker, 0) <= lent.get(event.lease, 0):
                yield f"the result of lease {event.lease} was recorded more than once"
            known.add(event.lease)


def _results_differ(story: Story) -> Iterator[str]:
    """One that stands in the log twice says the same both times."""
    said: dict[str, str] = {}
    for recorded in story.events(ev.ResultSubmitted):
        result: ev.ResultSubmitted = recorded.event  # type: ignore[assignment]
        if said.setdefault(result.lease, result.digest) != result.digest and result.worker not in story.liars:
            yield f"two different results of lease {result.lease} were recorded"


def _ended_twice(story: Story) -> Iterator[str]:
    for job, events in story.of_job.items():
        ends = sum(type(r.event) in ENDINGS for r in events)
        if ends > 1 + story.reopened(job):
            yield f"job {job} ended {ends} times"


def _badly_covered(story: Story) -> Iterator[str]:
    """The verified tiles of a completed job are its result, each cell once."""
    for job, events in story.of_job.items():
        submitted = next((r.event for r in events if isinstance(r.event, ev.JobSubmitted)), None)
        if submitted is None or story.state_of(job) != "completed":
            continue
        covered = np.zeros(kinds.KINDS[submitted.spec.kind].shape(submitted.spec), np.int16)
        for recorded in events:
            if isinstance(recorded.event, ev.TaskVerified):
                tile = recorded.event.tile
                covered[tile.row0 : tile.row0 + tile.rows, tile.col0 : tile.col0 + tile.cols] += 1
        if (covered != 1).any():
            yield f"the verified tiles of job {job} leave {int((covered == 0).sum())} cells and repeat others"


def _branded(story: Story) -> Iterator[str]:
    for recorded in story.events(ev.FraudDetected):
        if recorded.event.worker not in story.liars:  # type: ignore[union-attr]
            yield f"the honest worker {recorded.event.worker} was branded (event {recorded.seq})"  # type: ignore[union-attr]


def _keys_shared(story: Story) -> Iterator[str]:
    """One idempotency key is one job, for those who asked and in the log."""
    first: dict[str, str] = {}
    for s in story.what("acknowledged"):
        if s.key and first.setdefault(s.key, s.job) != s.job:
            yield f"the key {s.key} gave the jobs {first[s.key]} and {s.job}"
    for idem in _repeated(r.event.idem for r in story.events(ev.JobSubmitted) if r.event.idem):  # type: ignore[union-attr]
        yield f"two jobs of the log bear the key {idem}"


def _credit(story: Story) -> Iterator[str]:
    if story.credit is None:
        return
    earned: dict[str, int] = defaultdict(int)
    for recorded in story.events(ev.TaskVerified):
        for worker in set(recorded.event.workers):  # type: ignore[union-attr]
            earned[worker] += recorded.event.ops  # type: ignore[union-attr]
    for worker in earned.keys() | story.credit.keys():
        has, ought = story.credit.get(worker, 0), earned.get(worker, 0)
        if has != ought:
            yield f"{worker} has credit for {has} operations; {ought} of its were verified"


def _replays(story: Story) -> Iterator[str]:
    for replica, (live, replayed) in story.replays.items():
        if live != replayed:
            yield f"{replica} is live {live} and replayed {replayed}"


RULES: dict[str, Callable[[Story], Iterator[str]]] = {
    "lost job": _lost_jobs,
    "lost cancel": _lost_cancels,
    "lost result": _lost_results,
    "unended job": _unended,
    "wrong answer": _wrong_answers,
    "changed answer": _changed_answers,
    "early answer": _early_answers,
    "contradiction": _contradictions,
    "state went back": _went_back,
    "verified fell": _verified_fell,
    "verified ahead": _verified_ahead,
    "verdict repeated": _verdicts_repeated,
    "result repeated": _results_repeated,
    "results differ": _results_differ,
    "ended twice": _ended_twice,
    "badly covered": _badly_covered,
    "honest branded": _branded,
    "key shared": _keys_shared,
    "credit": _credit,
    "live is not replayed": _replays,
}
