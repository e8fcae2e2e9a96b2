"""The story of every task of a stormy mesh explains each of its events; and by tables, which causes it names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from mesh_faults import KINDS
from storms import storm

from shardy_common.log import Recorded
from shardy_common.log.packs import unpack
from shardy_common.story import Line, story, unexplained
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Tile

CONTEXT = (ev.WorkerJoined, ev.WorkerLeft, ev.GatewayStarted)


def about(events: Sequence[Recorded]) -> dict[str, list[Recorded]]:
    """By task: its own events, those of its job, the letters about it, and what became of workers and gateways."""
    own: dict[str, list[Recorded]] = defaultdict(list)
    jobs: dict[str, list[Recorded]] = defaultdict(list)
    frauds = [r for r in events if isinstance(r.event, ev.FraudDetected)]
    context = [r for r in events if isinstance(r.event, CONTEXT)]
    letters: dict[str, list[Recorded]] = defaultdict(list)
    for recorded in events:
        event: Any = recorded.event
        if hasattr(event, "task"):
            own[event.task].append(recorded)
        elif recorded.subject.startswith(("job.", "canary.")):
            jobs[event.job].append(recorded)
        elif recorded.subject.startswith("dlq."):
            letters[event.entry].append(recorded)
    out = {}
    for task, found in own.items():
        entries = [f"task-{task}", *(f"fraud-{r.event.lease}" for r in found if isinstance(r.event, ev.FraudDetected))]  # type: ignore[union-attr]
        more = [r for entry in entries for r in letters[entry]]
        elsewhere = [r for r in frauds if r.event.task != task]  # type: ignore[union-attr]
        out[task] = found + jobs[task.partition("-")[0]] + more + context + elsewhere
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_no_event_of_a_task_stays_unexplained(kind: str) -> None:
    told: Counter[str] = Counter()
    for seed in range(6):
        mesh = storm(seed, kind, large=True)
        singles = [single for recorded in mesh.log.events for single in unpack(recorded)]
        seqs = {r.seq for r in singles}
        for task, events in about(singles).items():
            lines = story(task, events)
            assert unexplained(lines) == [], (seed, task, lines)
            assert {r.seq for r in events if getattr(r.event, "task", "") == task} <= {line.seq for line in lines}
            for line in lines:
                assert set(line.follows) <= seqs and all(cause < line.seq for cause in line.follows), (seed, line)
                told[line.event] += 1
    wanted = {"task.created", "task.assigned", "task.expired", "result.submitted", "task.verified", "fraud.detected"}
    assert wanted <= set(told), told


# -- tables -----------------------------------------------------------------------------------------------------------

TASK, JOB = "j1-0-0-00000a", "j1"
TILE = Tile(0, 4, 0, 6)


def lease(number: int, worker: str) -> ev.Lease:
    return ev.Lease(f"{TASK}-{number}", worker, f"s-{worker}", 10_000)


def answer(number: int, worker: str, digest: str) -> ev.ResultSubmitted:
    return ev.ResultSubmitted(TASK, JOB, f"{TASK}-{number}", worker, digest, 96, 20.0, "wasm")


def told(*events: ev.Event | None, real: bool = True) -> list[Line]:
    recorded = [
        Recorded(n, e.subject if e else f"task.odd.{TASK}", 1_000 + 100 * n, e, error="" if e else "no event")
        for n, e in enumerate(events, 1)
    ]
    return story(TASK, recorded, real=real)


SUBMITTED = ev.JobSubmitted(JOB, JobSpec("matmul", {}, "quorum", 2, 2, "", None), "me")
CREATED = ev.TaskCreated(TASK, JOB, TILE, [lease(0, "ada"), lease(1, "bo")])
FRAUD = ev.FraudDetected(TASK, JOB, "bo", f"{TASK}-1", "d2", "audit", 3, 2)
TABLES = [
    ("agreement", [answer(0, "ada", "d1"), answer(1, "bo", "d1"),
                   ev.TaskVerified(TASK, JOB, TILE, "d1", 96, ["ada", "bo"], "quorum", 0, 48)],
     [[2], [2], [3, 4]], "verified d1 by quorum: 2 devices agree; 48 operations credited to ada and bo"),
    ("a lie", [answer(0, "ada", "d1"), answer(1, "bo", "d2"), FRAUD,
               ev.TaskVerified(TASK, JOB, TILE, "d1", 96, ["ada"], "arbitration", 2, 48)],
     [[2], [2], [4], [3, 5]], "by arbitration: the bytes were looked at, and the others are wrong"),
    ("a dispute", [answer(0, "ada", "d1"), answer(1, "bo", "d2"),
                   ev.TaskDisputed(TASK, JOB, {"d1": ["ada"], "d2": ["bo"]}, 1),
                   ev.TaskAssigned(TASK, JOB, TILE, [lease(2, "cy")], "replica")],
     [[2], [2], [3, 4], [5]], "the results differ, so another opinion is wanted: lent to cy for"),
    ("a deadline", [ev.TaskExpired(TASK, JOB, [f"{TASK}-1"], "deadline"),
                    ev.TaskAssigned(TASK, JOB, TILE, [lease(2, "cy")], "retry"), answer(1, "bo", "d1")],
     [[2], [3], [2, 3]], "bo answered d1 (96 bytes, 20 ms, wasm); late, and welcome"),
    ("a device that was lost", [ev.WorkerLeft("bo", "s-bo", "dropped"),
                                ev.TaskExpired(TASK, JOB, [f"{TASK}-1"], "lost")],
     [[], [2, 3]], "lease 1 of bo is waited for no longer: the device was gone for too long"),
    ("a device that gave it back", [ev.ResultFailed(TASK, JOB, f"{TASK}-0", "ada", "memory", "too large"),
                                    ev.TaskAssigned(TASK, JOB, TILE, [lease(2, "cy")], "retry")],
     [[2], [3]], "lent again in place of what was lost: lent to cy"),
    ("proven wrong elsewhere", [ev.FraudDetected("j1-0-4-00000b", JOB, "bo", "j1-0-4-00000b-0", "x", "audit", 1, 2),
                                ev.TaskExpired(TASK, JOB, [f"{TASK}-1"], "banned")],
     [[], [2, 3]], "the device was proven wrong"),
    ("given up", [ev.TaskExpired(TASK, JOB, [f"{TASK}-0", f"{TASK}-1"], "deadline"),
                  ev.TaskUnresolved(TASK, JOB, "after 12 leases"), ev.JobFailed(JOB, "task given up"),
                  ev.DlqRecorded(f"task-{TASK}", "unresolved", f"task.unresolved.{TASK}", 4, {}),
                  ev.DlqReplayed(f"task-{TASK}", "op", f"job {JOB} goes on")],
     [[2], [3], [4], [4], [1, 6]], f"dead letter task-{TASK} replayed by op: job {JOB} goes on"),
    ("an answer twice, one of a stranger, one too late",
     [answer(0, "ada", "d1"), answer(0, "ada", "d1"), answer(1, "eve", "d9"),
      ev.TaskVerified(TASK, JOB, TILE, "d1", 96, ["ada"], "trust", 0, 48), answer(1, "bo", "d1")],
     [[2], [2, 3], [2], [3], [2, 6]], "too late: it was decided before"),
    ("bytes that nobody can read", [None], [[2]], "that this version cannot read: no event"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "events", "follows", "words"), TABLES, ids=[row[0] for row in TABLES])
def test_causes(name: str, events: list[ev.Event | None], follows: list[list[int]], words: str) -> None:
    lines = told(SUBMITTED, CREATED, *events)
    assert [line.follows for line in lines[2:]] == follows, name
    assert unexplained(lines) == []
    assert [line.context for line in lines[2:]] == [not causes for causes in follows]
    assert words in lines[-1].words
    assert lines[1].after_ms == 0 and lines[0].after_ms == -100 and lines[1].follows == [1]


def test_a_void_carving_says_so() -> None:
    assert "void, for the job's real tasks" in told(SUBMITTED, CREATED, real=False)[1].words
    assert "void" not in told(SUBMITTED, CREATED)[1].words


def test_context_is_told_only_where_something_follows_from_it() -> None:
    lines = told(SUBMITTED, CREATED, ev.WorkerLeft("zoe", "s", "left"), answer(0, "ada", "d1"))
    assert [line.seq for line in lines] == [1, 2, 4]
