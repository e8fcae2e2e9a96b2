"""Void tasks are void to everybody: matchmaker, quorum and gateway carve every log alike, whatever its batches."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_events import JOB, Story, created, joined, matmul, reopened, result, submitted, tiered

from shardy_common.carving import Cursor
from shardy_common.log import gone
from shardy_common.wire import events as ev
from shardy_common.wire.job import Tile
from shardy_gateway.views import Views
from shardy_matchmaker.core import MatchmakerCore
from shardy_matchmaker.decide import Matchmaker
from shardy_quorum.core import QuorumCore

SHAPE = (9, 7)


def cores() -> list[Any]:
    return [MatchmakerCore(Matchmaker()), QuorumCore(), Views()]


def tasks_of(core: Any) -> dict[str, Tile]:
    folded = core.matchmaker.fold if isinstance(core, MatchmakerCore) else getattr(core, "quorum", core)
    return {task.id: task.tile for task in folded.tasks.values()}


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 4))
def test_rival_deciders_make_one_exact_cover_in_all_folds(seed: int, rivals: int) -> None:
    """Each decider carves pipelines from where it believes the job stands, which is often long ago."""
    rng = random.Random(seed)
    story, folds = Story(), cores()
    recorded = story.add(submitted(matmul(*SHAPE)))
    beliefs = [Cursor() for _ in range(rivals)]
    truth, made = Cursor(), 0
    while not truth.done(SHAPE):
        rival = rng.randrange(rivals)
        if rng.random() < 0.4:
            beliefs[rival] = truth
        cursor = beliefs[rival]
        for _ in range(rng.randrange(1, 5)):
            if cursor.done(SHAPE):
                break
            cols = cursor.band_cols or rng.randrange(1, SHAPE[1] - cursor.col0 + 1)
            rows = rng.randrange(1, SHAPE[0] - cursor.row0 + 1)
            tile = Tile(cursor.row0, rows, cursor.col0, cols)
            made += 1
            if rng.random() < 0.85:  # else this append was lost, and what follows it in the pipeline is void
                recorded += story.add(created(f"{JOB}-{made}", tile, "a", "b"))
                if truth.accepts(tile, SHAPE):
                    truth = truth.after(tile, SHAPE)
            cursor = cursor.after(tile, SHAPE)
        beliefs[rival] = cursor
    for fold in folds:
        for r in recorded:
            fold.evolve(r)
    tasks = [tasks_of(fold) for fold in folds]
    assert tasks[0] == tasks[1] == tasks[2]
    cover = np.zeros(SHAPE, int)
    for tile in tasks[0].values():
        cover[tile.row0 : tile.row0 + tile.rows, tile.col0 : tile.col0 + tile.cols] += 1
    assert (cover == 1).all()


TILES = st.builds(Tile, st.integers(-1, 9), st.integers(-1, 10), st.integers(-1, 7), st.integers(-1, 8))


@settings(max_examples=60, deadline=None)
@given(st.lists(TILES, max_size=30))
def test_arbitrary_tiles_never_overlap_or_leave_the_result(tiles: list[Tile]) -> None:
    story, folds = Story(), cores()
    events = story.add(submitted(matmul(*SHAPE)), *(created(f"t{i}", tile, "a") for i, tile in enumerate(tiles)))
    for fold in folds:
        for recorded in events:
            fold.evolve(recorded)
    tasks = [tasks_of(fold) for fold in folds]
    assert tasks[0] == tasks[1] == tasks[2]
    cover = np.zeros(SHAPE, int)
    for tile in tasks[0].values():
        assert tile.row0 >= 0 and tile.col0 >= 0
        cover[tile.row0 : tile.row0 + tile.rows, tile.col0 : tile.col0 + tile.cols] += 1
    assert (cover <= 1).all()


def test_a_void_task_lends_nothing_and_takes_no_votes() -> None:
    folds = cores()
    events = Story().add(
        submitted(matmul(*SHAPE)),
        joined("a"),
        tiered("a"),
        created("real", Tile(0, 9, 0, 7), "a"),
        created("void", Tile(0, 9, 0, 7), "a"),
        result("void", 0, "a"),
        ev.TaskVerified("void", JOB, Tile(0, 9, 0, 7), "aa", 1, ["a"], "quorum"),
    )
    for fold in folds:
        for recorded in events:
            fold.evolve(recorded)
    matchmaker, quorum, views = folds
    assert list(matchmaker.matchmaker.fold.workers["a"].leases) == ["real-0"]
    assert matchmaker.matchmaker.fold.jobs[JOB].cells_done == 0 == views.jobs[JOB].cells_done
    assert quorum.quorum.decide() == ([], []) and [t.id for t, _ in views.outbox.lent] == ["real"]


def test_a_reopened_job_stands_alike_in_all_folds() -> None:
    """Its missing tiles are tasks by the event alone; what was carved before it and comes later is void."""
    folds = cores()
    top, bottom = Tile(0, 5, 0, 7), Tile(5, 2, 0, 7)
    events = Story().add(
        submitted(matmul(*SHAPE)),
        created("t0", top, "a"),
        created("t5", bottom, "a"),
        ev.TaskUnresolved("t0", JOB, "x"),
        ev.JobFailed(JOB, "x"),
        created("late", Tile(7, 2, 0, 7), "a"),
        reopened(("again-0", top), ("again-5", bottom), spec=matmul(*SHAPE), cursor=Cursor(7, 0, 7)),
        ev.TaskUnresolved("t5", JOB, "decided before the job failed"),
        ev.TaskVerified("t5", JOB, bottom, "aa", 1, ["a"], "quorum"),
        created("more", Tile(7, 2, 0, 7), "a"),
    )
    for fold in folds:
        for recorded in events:
            fold.evolve(recorded)
    want = {"again-0": top, "again-5": bottom, "more": Tile(7, 2, 0, 7)}
    assert [tasks_of(fold) for fold in folds] == [want, want, want]
    matchmaker, quorum, views = folds
    job = matchmaker.matchmaker.fold.jobs[JOB]
    assert (job.failing, job.cells_done, job.seq) == ("", 0, 7), "what the old tasks still bring is theirs alone"
    assert views.jobs[JOB].cells_done == 0 and quorum.quorum.tasks["again-0"].seq == 0


NAMES = ("a", "b", "c")
EVENTS = st.one_of(
    st.builds(joined, st.sampled_from(NAMES), st.sampled_from(["s-a", "s2"]), held=st.sampled_from([[], ["t0-0"]])),
    st.builds(tiered, st.sampled_from(NAMES)),
    st.builds(ev.WorkerLeft, st.sampled_from(NAMES), st.just("s-a"), st.sampled_from(["left", "dropped"])),
    st.builds(ev.GatewayStarted, st.just("g"), st.sampled_from(["i1", "i2"])),
    st.builds(lambda i: created(f"t{i}", Tile(3 * i, 3, 0, 7), "a", "b"), st.integers(0, 2)),
    st.builds(
        lambda i, n, w: ev.TaskAssigned(
            f"t{i}", JOB, Tile(3 * i, 3, 0, 7), [ev.Lease(f"t{i}-{n}", w, "s", 1)], "retry"
        ),
        st.integers(0, 2),
        st.integers(2, 4),
        st.sampled_from(NAMES),
    ),
    st.builds(lambda i, n: ev.TaskExpired(f"t{i}", JOB, [f"t{i}-{n}"], "lost"), st.integers(0, 2), st.integers(0, 4)),
    st.builds(lambda i: ev.TaskDisputed(f"t{i}", JOB, {}, 1), st.integers(0, 2)),
    st.builds(
        lambda i, n, w, d: result(f"t{i}", n, w, d, ms=30.0),
        st.integers(0, 2),
        st.integers(0, 4),
        st.sampled_from(NAMES),
        st.sampled_from(["aa", "bb"]),
    ),
    st.builds(
        lambda i, n, w: ev.ResultFailed(f"t{i}", JOB, f"t{i}-{n}", w, "oom", ""),
        st.integers(0, 2),
        st.integers(0, 4),
        st.sampled_from(NAMES),
    ),
    st.builds(
        lambda i, n, w: ev.FraudDetected(f"t{i}", JOB, w, f"t{i}-{n}", "aa", "audit", 0),
        st.integers(0, 2),
        st.integers(0, 4),
        st.sampled_from(NAMES),
    ),
    st.builds(
        lambda i: ev.TaskVerified(f"t{i}", JOB, Tile(3 * i, 3, 0, 7), "aa", 1, ["a", "b"], "quorum"), st.integers(0, 2)
    ),
    st.builds(lambda i: ev.TaskUnresolved(f"t{i}", JOB, "x"), st.integers(0, 2)),
    st.sampled_from([ev.JobCompleted(JOB, 63, 3), ev.JobFailed(JOB, "x"), ev.JobCancelled(JOB, "r")]),
    st.builds(
        lambda tasks, row0: reopened(
            *((f"t{i}", Tile(3 * i, 3, 0, 7)) for i in sorted(tasks)),
            spec=matmul(*SHAPE),
            cursor=Cursor(row0, 0, 7 if row0 else 0),
        ),
        st.sets(st.integers(0, 2)),
        st.sampled_from([0, 3, 6]),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=40), st.lists(st.integers(1, 39), max_size=6))
def test_rows_do_not_depend_on_the_batches(events: list[ev.Event], cuts: list[int]) -> None:
    """Any log at all, possible or not: rows written in many batches equal those written in one."""
    recorded = Story().add(submitted(matmul(*SHAPE)), *events)
    for one, many in zip(cores(), cores(), strict=True):
        for r in recorded:
            one.evolve(r)
        batched: dict[tuple[str, Any], Any] = {}
        for i, r in enumerate(recorded):
            many.evolve(r)
            if i in cuts or r is recorded[-1]:
                commit(many.rows(), batched)
        whole: dict[tuple[str, Any], Any] = {}
        commit(one.rows(), whole)
        assert batched == whole, type(one)


def commit(rows: dict[str, list[Any]], into: dict[tuple[str, Any], Any]) -> None:
    """What a projection does with rows, and with those that are gone."""
    for table, some in rows.items():
        if table.startswith(gone("")):
            for (key,) in some:
                assert (table.removeprefix(gone("")), key) not in {(t, row[0]) for t in rows for row in rows[t]}
                into.pop((table.removeprefix(gone("")), key), None)
        else:
            into.update({(table, row[0]): row for row in some})
