"""The gateway's views: what requesters and sessions see of the log, live and after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mesh_events import JOB, Story, created, joined, lease, matmul, reopened, result, submitted, tiered

from shardy_common.carving import Cursor
from shardy_common.log import Projection
from shardy_common.wire import events as ev
from shardy_common.wire.job import Tile
from shardy_gateway import lookups
from shardy_gateway.views import TABLES, VERSION, Views

TOP, BOTTOM = Tile(0, 4, 0, 4), Tile(4, 4, 0, 4)


class Given:
    def __init__(self, path: Path, *events: ev.Event) -> None:
        self.story, self.views = Story(), Views()
        self.projection = Projection(path, TABLES, version=VERSION)
        self.views.load(self.projection)
        self.then(*events)

    def then(self, *events: ev.Event) -> Given:
        for recorded in self.story.add(*events):
            self.views.evolve(recorded)
        self.projection.commit(self.views.rows(), len(self.story.log.events))
        return self


@pytest.fixture
def given(tmp_path: Path) -> Any:
    given = Given(
        tmp_path / "g.db",
        submitted(matmul()),
        *(e for w in "ab" for e in (joined(w), tiered(w))),
        created("t0", TOP, "a", "b"),
        created("t4", BOTTOM, "a", "b"),
    )
    yield given
    given.projection.close()


def verified(task: str, tile: Tile, *workers: str) -> ev.TaskVerified:
    return ev.TaskVerified(task, JOB, tile, "aa" * 32, 64, list(workers), "quorum", 0, 96)


def test_a_jobs_life(given: Given) -> None:
    views = given.views
    assert (views.jobs[JOB].state, views.jobs[JOB].tasks_active) == ("running", 2)
    assert [task.id for task, _ in views.take_outbox().lent] == ["t0", "t4"]
    given.then(verified("t0", TOP, "a", "b"))
    job = views.job(JOB)
    assert job is not None and (job.cells_done, job.tasks_verified, job.tasks_active) == (16, 1, 1)
    assert [task.id for task in views.take_outbox().dropped] == ["t0"]
    assert (views.workers["a"].verified, views.workers["a"].ops) == (1, 96)
    assert (
        views.task_state("t0") == "ended" and views.task_state("t4") == "active" and views.task_state("x") == "unknown"
    )
    given.then(verified("t4", BOTTOM, "a", "b"), ev.JobCompleted(JOB, 32, 2))
    job = views.job(JOB)
    assert JOB not in views.jobs and job is not None and (job.state, job.cells_done) == ("completed", 32) and job.ended
    assert [(t.id, t.tile) for t in views.tasks_in(JOB)] == [("t0", TOP), ("t4", BOTTOM)]
    assert [j.id for j in lookups.job_page(views, "requester", "", "", 10)] == [JOB]
    assert lookups.job_page(views, "somebody else", "", "", 10) == [] and views.job("j-unknown") is None
    assert (job.ops, job.ops_replicas) == (192, 384), "operations once, and once for each credited device"


@pytest.mark.parametrize(
    ("end", "state"),
    [(ev.JobFailed(JOB, "why"), "failed"), (ev.JobCancelled(JOB, "r"), "cancelled")],
    ids=["failed", "cancelled"],
)
def test_an_end_drops_what_was_active(given: Given, end: ev.Event, state: str) -> None:
    given.views.take_outbox()
    given.then(end)
    job = given.views.job(JOB)
    assert job is not None and job.state == state and job.tasks_active == 0
    assert {task.id for task in given.views.take_outbox().dropped} == {"t0", "t4"} and given.views.tasks == {}
    given.then(verified("t0", TOP, "a"), created("t8", TOP, "a"))
    assert given.views.job(JOB) == job, "what comes after the end changes nothing"


def test_frauds_and_letters_are_kept(given: Given) -> None:
    fraud = ev.FraudDetected("t0", JOB, "a", "t0-0", "bb", "audit", 3, 2, "agent a")
    given.then(fraud, ev.DlqRecorded("fraud-t0-0", "fraud", "fraud.detected.t0", 9, {"row": "3"}))
    assert given.views.workers["a"].banned and given.views.jobs[JOB].frauds == 1
    for found in (lookups.fraud_page(given.views, 0, 10), given.views.frauds(JOB)):
        assert [(f.lease, f.worker, f.row) for f in found] == [("t0-0", "a", 3)]
    assert given.views.frauds("other") == []
    assert [letter.entry for letter in given.views.letters.page()] == ["fraud-t0-0"]
    given.then(joined("a", "s2-a"))
    assert given.views.workers["a"].banned, "a new session changes no verdict"


def test_a_failed_job_goes_on(given: Given) -> None:
    """Requesters see it running again; frauds, requester and beginning are those of before."""
    fraud = ev.FraudDetected("t0", JOB, "a", "t0-0", "bb", "audit", 3, 2, "agent a")
    given.then(fraud, verified("t0", TOP, "b"), ev.TaskUnresolved("t4", JOB, "x"), ev.JobFailed(JOB, "x"))
    given.views.take_outbox()
    given.then(
        reopened(("again", BOTTOM), cells_done=16, tasks_verified=1, cursor=Cursor(0, 4, 0), entry="task-t4"),
        ev.TaskAssigned("again", JOB, BOTTOM, [lease("again", 0, "b")], "replica"),
    )
    job = given.views.jobs[JOB]
    assert (job.state, job.error, job.ended_ms, job.entry) == ("running", "", 0, "task-t4")
    assert (job.cells_done, job.tasks_verified, job.tasks_active, job.frauds) == (16, 1, 1, 1)
    assert (job.created_ms, job.requester, job.seq) == (500, "requester", len(given.story.log.events) - 1)
    outbox = given.views.take_outbox()
    assert outbox.jobs == {JOB} and [task.id for task, _ in outbox.lent] == ["again"]
    again = Views()
    again.load(given.projection)
    assert again.jobs == given.views.jobs and again.tasks == given.views.tasks
    given.then(verified("again", BOTTOM, "b"), ev.JobCompleted(JOB, 32, 2))
    done = given.views.job(JOB)
    assert done is not None and (done.state, done.cells_done) == ("completed", 32)
    assert {task.id: task.digest != "" for task in given.views.tasks_in(JOB)} == {
        "t0": True,
        "t4": False,
        "again": True,
    }


def test_sessions_come_and_go(given: Given) -> None:
    workers = given.views.workers
    given.then(ev.WorkerLeft("a", "s-old", "left"))
    assert workers["a"].present
    given.then(ev.WorkerLeft("a", "s-a", "dropped"), ev.GatewayStarted("g", "i1"))
    assert not workers["a"].present and workers["b"].present
    given.then(ev.GatewayStarted("g", "i2"))
    assert not workers["b"].present
    given.then(joined("a", "s3", instance="i2"), tiered("a", "gpu-large", session="s-a"))
    assert given.views.workers["a"].tier == "", "the tier of an old session is not the new one's"


def test_a_restart_sees_the_same(given: Given) -> None:
    given.then(verified("t0", TOP, "a", "b"), ev.TaskAssigned("t4", JOB, BOTTOM, [lease("t4", 2, "b")], "retry"))
    given.then(result("t4", 0, "a"), ev.TaskExpired("t4", JOB, ["t4-0"], "deadline"))
    again = Views()
    again.load(given.projection)
    assert again.jobs == given.views.jobs and again.tasks == given.views.tasks
    assert again.workers == given.views.workers and again.tasks_of == given.views.tasks_of
    assert again.tasks["t4"].leases == {"t4-0": "a", "t4-1": "b", "t4-2": "b"}


@pytest.mark.parametrize("often", [False, True])
def test_an_active_tasks_row_does_not_depend_on_when_it_was_written(tmp_path: Path, often: bool) -> None:
    """A result does not write its task anew, so its row must not show whether one had come when it was written."""
    events = [
        submitted(matmul()),
        *(e for w in "ab" for e in (joined(w), tiered(w))),
        created("t0", TOP, "a", "b"),
        result("t0", 0, "a"),
    ]
    given = Given(tmp_path / "g.db", *(() if often else events))
    for event in events if often else ():
        given.then(event)
    assert set(given.views.tasks["t0"].answers) == {"a"}
    rows = given.projection.rows("SELECT * FROM tasks")
    given.projection.close()
    again = Given(tmp_path / "other.db", *events[:-1])
    again.then(events[-1])
    assert rows == again.projection.rows("SELECT * FROM tasks")
    loaded = Views()
    loaded.load(again.projection)
    assert loaded.tasks["t0"].answers == given.views.tasks["t0"].answers
    again.projection.close()
