"""The log that `bench log` measures on is one that a mesh could have written: every fold agrees with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shardy_common.log import Append, Appended, Conflict, MemoryLog, Recorded
from shardy_common.wire import events as ev
from shardy_dlq.letters import Letters
from shardy_gateway.views import Views
from shardy_matchmaker.core import MatchmakerCore
from shardy_matchmaker.decide import Matchmaker
from shardy_quorum.core import QuorumCore

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.log_story import TASKS_PER_JOB, Odds, Story

EVENTS = 6_000
ODDS = Odds(liars=0.01, late=0.05, moves=0.02, cancelled=0.3)
Told = tuple[Story, list[Append], list[Recorded]]


@pytest.fixture(scope="module")
def told() -> Told:
    story = Story(EVENTS, workers=50, seed=3, odds=ODDS)
    items = list(story)
    log = MemoryLog(lambda: 1_000)
    for item in items:
        outcome = log.append_now(item)
        assert isinstance(outcome, Appended) and not outcome.duplicate, (item, outcome)
    return story, items, log.events


def test_every_expectation_holds_and_a_wrong_one_does_not(told: Told) -> None:
    """The fixture appended all; with one event of a task left out, what expects that event is refused."""
    _, items, _ = told
    at = next(i for i, item in enumerate(items) if isinstance(item.event, ev.TaskVerified))
    log = MemoryLog(lambda: 1_000)
    for item in items[:at]:
        if item.event.subject != f"task.created.{items[at].event.entity_id}":
            log.append_now(item)
    assert isinstance(log.append_now(items[at]), Conflict)


def test_a_story_may_follow_on_a_log_that_is_there(told: Told) -> None:
    _, items, _ = told
    later = list(Story(EVENTS, workers=50, seed=3, odds=ODDS, first=7))
    assert [(item.expect or 6) - 6 for item in later] == [item.expect or 0 for item in items]


def test_everything_that_a_mesh_meets_is_in_it(told: Told) -> None:
    _, items, _ = told
    assert {type(item.event) for item in items} == {
        ev.GatewayStarted, ev.WorkerJoined, ev.WorkerTiered, ev.WorkerLeft, ev.JobSubmitted, ev.JobCancelled,
        ev.JobCompleted, ev.TaskCreated, ev.TaskAssigned, ev.TaskExpired, ev.TaskVerified, ev.ResultSubmitted,
        ev.FraudDetected, ev.DlqRecorded,
    }  # fmt: skip
    assert EVENTS <= len(items) < EVENTS + 10_000
    assert len({item.msg_id for item in items}) == len(items)


def test_the_folds_of_all_services_agree_with_it(told: Told) -> None:
    """Nothing stays open, nothing is void, and nobody has anything to decide at its end."""
    story, _, events = told
    views, matchmaker, quorum, letters = Views(), MatchmakerCore(Matchmaker()), QuorumCore(), Letters()
    ended = []
    for recorded in events:
        for core in (views, matchmaker, quorum, letters):
            core.evolve(recorded)
        if isinstance(recorded.event, ev.TaskVerified):
            assert recorded.event.task not in views.tasks | quorum.quorum.tasks | matchmaker.matchmaker.fold.tasks
        ended += views.take_outbox().ended
    assert not views.jobs and not views.tasks
    assert not quorum.quorum.jobs and not quorum.quorum.tasks and quorum.quorum.decide(0) == ([], [])
    fold = matchmaker.matchmaker.fold
    assert not fold.jobs and not fold.tasks and not fold.wanting and not fold.untiered
    assert not any(worker.leases or worker.queued_ops for worker in fold.workers.values())
    assert not letters.wanted and len(letters.known) == story.frauds
    completed = [job for job in ended if job.state == "completed"]
    assert len(completed) == story.jobs and all(job.tasks_verified == TASKS_PER_JOB for job in completed)
    assert sum(job.tasks_verified for job in ended) == story.tasks


def test_a_seed_gives_the_same_log_and_another_seed_another() -> None:
    first, again, other = (list(Story(500, workers=10, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
