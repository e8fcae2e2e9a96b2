"""The checker finds each thing that must not be: a true history and log, with one violation planted at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from mesh_events import joined, lease, matmul

from bench.faults.history import RULES, Seen, Story, violations
from bench.faults.mesh import differences
from shardy_common.carving import Cursor
from shardy_common.log import Recorded
from shardy_common.wire import events as ev
from shardy_common.wire.job import Tile

ADA, BO = "ada", "bo"
ONE, TWO = Tile(0, 4, 0, 4), Tile(4, 4, 0, 4)
OPS = 2 * 4 * 4 * 3


def result(task: str, attempt: int, worker: str) -> ev.ResultSubmitted:
    return ev.ResultSubmitted(task, "j1", f"{task}-{attempt}", worker, "d" + task, 64, 1.0, "wasm")


OTHER = msgspec.structs.replace(result("t1", 0, ADA), digest="another")


def verdict(task: str, tile: Tile) -> ev.TaskVerified:
    return ev.TaskVerified(task, "j1", tile, "d" + task, 64, [ADA, BO], "quorum", 0, OPS)


def created(task: str, tile: Tile) -> ev.TaskCreated:
    return ev.TaskCreated(task, "j1", tile, [lease(task, 0, ADA), lease(task, 1, BO)])


LOG: list[ev.Event] = [
    ev.JobSubmitted("j1", matmul(), "r", idem="i1"),  # two tasks of two results each
    created("t1", ONE),
    created("t2", TWO),
    result("t1", 0, ADA),
    result("t1", 1, BO),
    verdict("t1", ONE),
    result("t2", 0, ADA),
    result("t2", 1, BO),
    verdict("t2", TWO),
    ev.JobCompleted("j1", 32, 2),
    ev.JobSubmitted("j2", matmul(), "r", idem="i2"),
    ev.JobCancelled("j2", "r"),
]


def seen(what: str, **more: Any) -> Seen:
    return Seen(1.0, more.pop("client", "c"), what, gateway=more.pop("gateway", "g1"), **more)


HISTORY = [
    seen("submitting", key="k1", digest="right"),
    seen("error", key="k1", detail="no answer"),
    seen("acknowledged", job="j1", key="k1"),
    seen("acknowledged", job="j1", key="k1", gateway="g2"),
    seen("status", job="j1", state="waiting"),
    seen("kept", client=ADA, lease="t1-0", digest="dt1"),
    seen("status", job="j1", state="running", verified=1),
    seen("status", job="j1", state="waiting", gateway="g2"),  # it knows a moment later
    seen("status", job="j1", state="completed", verified=2),
    seen("answered", job="j1", digest="right"),
    seen("submitting", key="k2", digest="right2"),
    seen("acknowledged", job="j2", key="k2"),
    seen("cancelled", job="j2"),
    seen("status", job="j2", state="cancelled", final=True),
    seen("status", job="j1", state="completed", verified=2, final=True),
    seen("answered", job="j1", digest="right", gateway="g2"),
]
SUM = {"gateway": (("9", "aa"), ("9", "aa"))}


def story(history: list[Seen], log: list[ev.Event], **more: Any) -> Story:
    recorded = [Recorded(i, e.subject, 1_000 + i, e) for i, e in enumerate(log, 1)]
    return Story(history, recorded, **{"credit": {ADA: 2 * OPS, BO: 2 * OPS}, "replays": SUM, **more})


def kinds_of(found: Story) -> set[str]:
    return {violation.kind for violation in violations(found)}


def test_a_true_history_has_no_violation() -> None:
    assert violations(story(HISTORY, LOG)) == []


def test_a_worker_that_came_back_may_have_handed_in_twice() -> None:
    assert violations(story(HISTORY, [*LOG, joined(ADA), result("t1", 0, ADA)])) == []
    assert kinds_of(story(HISTORY, [*LOG, joined(BO), result("t1", 0, ADA)])) == {"result repeated"}


def test_a_job_that_still_runs_is_no_violation_while_its_time_is_not_over() -> None:
    begun = [s for s in HISTORY if s.job == "j1" and s.state != "completed" and s.what != "answered"]
    until_t1 = LOG[:6]
    assert kinds_of(story(begun, until_t1, ended=False, credit=None)) == set()
    assert kinds_of(story(begun, until_t1, credit=None)) == {"unended job"}


def without(*gone: int) -> list[ev.Event]:
    return [event for i, event in enumerate(LOG) if i not in gone]


def other(i: int, **fields: Any) -> list[ev.Event]:
    return [*LOG[:i], msgspec.structs.replace(LOG[i], **fields), *LOG[i + 1 :]]


def reopened() -> ev.JobReopened:
    return ev.JobReopened("j1", matmul(), "r", 1, 16, 1, Cursor(), [], "task-t2", "op")


FRAUD = ev.FraudDetected("t1", "j1", ADA, "t1-0", "dt1", "audit", 0)
# What is planted, by the kind that must be found: histories and logs, and what else is thereby wrong.
PLANTED: list[tuple[str, Callable[[], Story], set[str]]] = [
    ("lost job", lambda: story([*HISTORY, seen("acknowledged", job="j3", key="k3")], LOG), set()),
    ("lost cancel", lambda: story([s for s in HISTORY if not s.final], without(11)), {"unended job"}),
    ("lost result", lambda: story([*HISTORY, seen("kept", client=BO, lease="t1-0", digest="dt1")], LOG), set()),
    ("lost result", lambda: story([*HISTORY, seen("kept", client=ADA, lease="t1-0", digest="dt9")], LOG), set()),
    ("lost result", lambda: story([*HISTORY, seen("kept", client=ADA, lease="t9-0", digest="dt1")], LOG), set()),
    ("unended job", lambda: story(HISTORY[:9], without(9)), set()),
    ("wrong answer", lambda: story([*HISTORY[:9], seen("answered", job="j1", digest="wrong")], LOG), set()),
    (
        "changed answer",
        lambda: story([*HISTORY, seen("answered", job="j1", digest="other", gateway="g2")], LOG),
        {"wrong answer"},
    ),
    ("early answer", lambda: story([*HISTORY, seen("answered", job="j2", digest="right2")], LOG), set()),
    (
        "contradiction",
        lambda: story([*HISTORY, seen("status", job="j1", state="running", gateway="g2", final=True)], LOG),
        set(),
    ),
    (
        "contradiction",
        lambda: story([*HISTORY, seen("status", job="j2", state="unknown", gateway="g2", final=True)], LOG),
        set(),
    ),
    (
        "state went back",
        lambda: story([*HISTORY, seen("status", job="j1", state="running", verified=2)], LOG),
        set(),
    ),
    (
        "state went back",
        lambda: story([*HISTORY, seen("status", job="j2", state="completed", verified=0)], LOG),
        set(),
    ),
    (
        "verified fell",
        lambda: story([*HISTORY, seen("status", job="j1", state="completed", verified=1)], LOG),
        set(),
    ),
    (
        "verified ahead",
        lambda: story([*HISTORY[:8], seen("status", job="j1", verified=3, state="running")], LOG),
        set(),
    ),
    ("verdict repeated", lambda: story(HISTORY, [*LOG, verdict("t1", ONE)]), {"badly covered", "credit"}),
    ("result repeated", lambda: story(HISTORY, [*LOG, result("t1", 0, ADA)]), set()),
    ("results differ", lambda: story(HISTORY, [*LOG, joined(ADA), OTHER]), set()),
    ("ended twice", lambda: story(HISTORY, [*LOG, ev.JobFailed("j1", "late")]), set()),
    ("badly covered", lambda: story(HISTORY, other(8, tile=Tile(5, 3, 0, 4))), set()),
    ("badly covered", lambda: story(HISTORY, other(8, tile=ONE)), set()),
    ("honest branded", lambda: story(HISTORY, [*LOG, FRAUD]), set()),
    ("key shared", lambda: story([*HISTORY, seen("acknowledged", job="j2", key="k1")], LOG), {"wrong answer"}),
    ("key shared", lambda: story(HISTORY, other(10, idem="i1")), set()),
    ("credit", lambda: story(HISTORY, LOG, credit={ADA: 2 * OPS, BO: OPS}), set()),
    ("credit", lambda: story(HISTORY, LOG, credit={ADA: 2 * OPS, BO: 2 * OPS, "nobody": 1}), set()),
    ("credit", lambda: story(HISTORY, LOG, credit={ADA: 2 * OPS}), set()),
    (
        "live is not replayed",
        lambda: story(HISTORY, LOG, replays={**SUM, "quorum": (("9", "aa"), ("9", "ab"))}),
        set(),
    ),
]


@pytest.mark.parametrize("case", range(len(PLANTED)), ids=[f"{i}-{kind}" for i, (kind, *_) in enumerate(PLANTED)])
def test_a_planted_violation_is_found(case: int) -> None:
    kind, plant, besides = PLANTED[case]
    found = kinds_of(plant())
    assert kind in found and found <= {kind} | besides


def test_every_rule_has_a_planted_violation() -> None:
    assert {kind for kind, *_ in PLANTED} == set(RULES)


def test_a_liar_that_is_named_is_no_honest_worker() -> None:
    branded = [*LOG, FRAUD]
    assert kinds_of(story(HISTORY, branded, liars=frozenset({ADA}))) == set()
    assert kinds_of(story(HISTORY, branded, liars=frozenset({BO}))) == {"honest branded"}


@pytest.mark.parametrize(("reopenings", "found"), [(0, {"state went back"}), (1, set())])
def test_a_failed_job_runs_again_only_if_it_was_reopened(reopenings: int, found: set[str]) -> None:
    log: list[ev.Event] = [*LOG[:6], ev.JobFailed("j1", "given up"), *[reopened()] * reopenings, *LOG[6:9]]
    reads = [seen("status", job="j1", state=state, verified=1) for state in ("running", "failed", "running")]
    assert kinds_of(replace(story(reads, log, credit=None), ended=False)) == found


def test_rows_that_a_replay_gives_otherwise_are_named() -> None:
    live = {"checkpoint": (9,), "jobs j1": ("j1", "a"), "jobs j2": ("j2", "a"), "jobs j3": ("j3", "a")}
    replayed = {"checkpoint": (9,), "jobs j1": ("j1", "a"), "jobs j2": ("j2", "b"), "jobs j4": ("j4", "a")}
    assert differences(live, live) == ({}, {})
    assert differences(live, replayed) == (
        {"jobs j2": ("j2", "a"), "jobs j3": ("j3", "a"), "jobs j4": None},
        {"jobs j2": ("j2", "b"), "jobs j3": None, "jobs j4": ("j4", "a")},
    )
