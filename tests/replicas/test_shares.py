"""What replicas leave to each other, and what it means for a device that several matchmakers lend to it at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from mesh_events import JOB, Story, created, joined, matmul, result, submitted, tiered

from shardy_common import kinds
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Operand, Tile
from shardy_matchmaker.core import MatchmakerCore
from shardy_matchmaker.decide import GRACE_MS, Matchmaker
from shardy_matchmaker.pool import TASK_OVERHEAD_MS
from shardy_matchmaker.tiers import BY_NAME
from shardy_quorum.core import QuorumCore

NOW = 1_000
TILE = Tile(0, 8, 0, 4)
TASK = f"{JOB}-0-0-000000"


def matchmaker(*events: ev.Event, owns: Callable[[str], bool], now_ms: int = NOW) -> list[ev.Event]:
    core, story = MatchmakerCore(Matchmaker(owns=owns)), Story()
    for recorded in story.add(*events):
        core.evolve(recorded)
    return [item.event for item in core.matchmaker.decide(now_ms, random.Random(1))]


CROWD = [event for name in "abc" for event in (joined(name), tiered(name))]
LENT = [submitted(), *CROWD, created(TASK, TILE, "a", "b")]
VERIFIED = ev.TaskVerified(TASK, JOB, TILE, "aa", 128, ["a", "b"], "quorum", 0, 192)
# what happens, what a matchmaker makes of it, and which id decides whose it is
DECISIONS: dict[str, tuple[list[ev.Event], type[ev.Event], str, int]] = {
    "a tier": ([joined("a")], ev.WorkerTiered, "a", NOW),
    "carving": ([submitted(), *CROWD], ev.TaskCreated, JOB, NOW),
    "a lost worker": (
        [*LENT, ev.WorkerLeft("a", "s-a", "dropped")],
        ev.TaskExpired,
        JOB,
        NOW + GRACE_MS + 10_000,
    ),
    "leases that did not come back": ([*LENT, joined("a", "s2-a")], ev.TaskExpired, JOB, NOW),
    "a deadline": (LENT, ev.TaskExpired, JOB, NOW + 60_001),
    "a replica": ([submitted(), *CROWD, created(TASK, TILE, "a")], ev.TaskAssigned, JOB, NOW),
    "the end": ([*LENT, VERIFIED], ev.JobCompleted, JOB, NOW),
    "a failure": ([*LENT, ev.TaskUnresolved(TASK, JOB, "given up")], ev.JobFailed, JOB, NOW),
}


@pytest.mark.parametrize("what", DECISIONS)
def test_a_matchmaker_decides_for_what_it_owns_and_for_nothing_else(what: str) -> None:
    events, kind, key, now_ms = DECISIONS[what]
    for mine in (True, False):
        decided = matchmaker(*events, owns=lambda id_, mine=mine: (id_ == key) == mine, now_ms=now_ms)
        assert any(isinstance(event, kind) for event in decided) == mine, decided
    assert matchmaker(*events, owns=lambda _id: False, now_ms=now_ms) == []


@pytest.mark.parametrize("policy", ["quorum", "audit"])
def test_a_quorum_judges_what_it_owns_and_reviews_the_rest_when_that_changes(policy: str) -> None:
    mine: set[str] = set()
    core, story = QuorumCore(mine.__contains__), Story()
    voters = "ab" if policy == "quorum" else "a"
    events = [submitted(matmul(policy=policy)), *(joined(w) for w in "ab"), created(TASK, TILE, *voters)]
    for recorded in story.add(*events, *(result(TASK, i, w) for i, w in enumerate(voters))):
        core.evolve(recorded)
    assert core.quorum.decide() == ([], [])
    mine.add(JOB)
    assert core.quorum.decide() == ([], []), "what it passed over comes up again by a review only"
    core.quorum.review()
    appends, examinations = core.quorum.decide()
    assert len(appends) + len(examinations) == 1
    core.quorum.review()
    assert core.quorum.decide() == ([], []), "what is being decided is not decided twice"


def big_job(job: str) -> ev.JobSubmitted:
    a, b = Operand("1" * 64, "int8", 100_000, 256), Operand("2" * 64, "int8", 64, 256)
    return ev.JobSubmitted(job, JobSpec("matmul", {"a": a, "b": b}, "audit", task_rows=TASK_ROWS), "requester")


TASK_ROWS = 512


@pytest.mark.parametrize(
    ("tier", "gops", "backend"),
    [("wasm-phone", 0.5, "wasm"), ("wasm-laptop", 10.0, "wasm"), ("gpu-integrated", 300.0, "gpu")],
)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_up_to_three_matchmakers_that_fill_a_device_at_once_leave_every_deadline_kept(
    tier: str, gops: float, backend: str, count: int
) -> None:
    story, limit = Story(), 40
    jobs = [f"j{number:016d}" for number in range(count)]
    cores = [MatchmakerCore(Matchmaker(owns=job.__eq__)) for job in jobs]

    def read(events: Any) -> None:
        for recorded in events:
            for core in cores:
                core.evolve(recorded)

    read(story.add(joined("a", gops=gops, backend=backend), ev.WorkerTiered("a", "s-a", tier, limit, gops)))
    read(story.add(*(big_job(job) for job in jobs)))
    story.at(NOW)
    rng = random.Random(3)
    proposals = [core.matchmaker.decide(NOW, rng) for core in cores]
    assert all(proposals), "each sees an empty device"
    work: list[tuple[int, float]] = []  # deadline and time of each lease, in the order of the log, the worst one
    for items in proposals:
        read(story.append(items))
        for item in items:
            event: Any = item.event
            spec = big_job(event.job).spec
            ops = kinds.KINDS["matmul"].ops(spec, event.tile.rows, event.tile.cols)
            work += [(lease.deadline_ms, ops / gops / 1e6 + TASK_OVERHEAD_MS) for lease in event.leases]
    longest = max(ms for _, ms in work)
    assert len(work) <= count * limit
    assert sum(ms for _, ms in work) <= count * (BY_NAME[tier].queue_ms + longest)
    done_ms = float(NOW)
    for deadline_ms, ms in work:
        done_ms += ms
        assert done_ms <= deadline_ms
    again = [core.matchmaker.decide(NOW + 1, rng) for core in cores]
    assert again == [[]] * count, "all have read what the others lent, and see no room"
