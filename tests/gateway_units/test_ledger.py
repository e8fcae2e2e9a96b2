"""Credit equals verified work: whatever stands in a log, in whatever order, and after a restart."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mesh_events import Story, created, joined, matmul, result, tiered

from shardy_common import kinds
from shardy_common.carving import Cursor
from shardy_common.log import Projection
from shardy_common.wire import events as ev
from shardy_common.wire.job import Tile
from shardy_gateway.ledger import Entry, Ledger
from shardy_gateway.views import TABLES, VERSION, Views

JOBS = ("j1", "j2", "j10")  # ids of which one starts like another
WORKERS = ("a", "b", "c", "nobody")  # the last never joins
SPEC = matmul(12, 8, 3)
TILES = [Tile(row0, rows, 0, 8) for row0 in range(0, 12, 2) for rows in (2, 4)]

job = st.sampled_from(JOBS)
AGAIN = 3  # the number of tasks that a reopened job has
task_of = st.tuples(job, st.sampled_from(TILES), st.integers(0, AGAIN))
workers = st.lists(st.sampled_from(WORKERS), min_size=1, max_size=3)
step = st.one_of(
    st.tuples(st.just("submit"), job),
    st.tuples(st.just("end"), job, st.sampled_from([ev.JobFailed, ev.JobCancelled])),
    st.tuples(st.just("reopen"), job),
    st.tuples(st.just("create"), task_of, workers),
    st.tuples(st.just("unresolve"), task_of),
    st.tuples(st.just("verify"), task_of, workers, st.sampled_from(["quorum", "trust", "canary", "audit"])),
)


def events_of(steps: list[tuple[Any, ...]]) -> list[ev.Event]:
    """A log that no honest mesh writes: verdicts of tasks that are void, unknown, decided or given up."""
    out: list[ev.Event] = [e for w in WORKERS[:-1] for e in (joined(w), tiered(w))]
    failed: set[str] = set()
    for what, *rest in steps:
        if what in ("submit", "end", "reopen"):
            name = rest[0]
            if what == "submit":
                out.append(ev.JobSubmitted(name, SPEC, f"owner of {name}"))
            elif what == "end":
                out.append(rest[1](name, "why"))
                (failed.add if rest[1] is ev.JobFailed else failed.discard)(name)
            elif name in failed:  # no other job is ever reopened
                again = [(f"{name}-0-0-{TILES[0].rows}{AGAIN}", TILES[0])]
                owner = f"owner of {name}"
                failed.discard(name)
                out.append(ev.JobReopened(name, SPEC, owner, 1, 0, 0, Cursor(2, 0, 8), again, "letter", "key"))
            continue
        (name, tile, tag), *more = rest
        task = f"{name}-{tile.col0}-{tile.row0}-{tile.rows}{tag}"
        if what == "create":
            out.append(created(task, tile, *more[0], job=name))
        elif what == "unresolve":
            out.append(ev.TaskUnresolved(task, name, "why"))
        else:
            ops = kinds.KINDS[SPEC.kind].ops(SPEC, tile.rows, tile.cols)
            out += [result(task, i, worker, job=name) for i, worker in enumerate(more[0])]
            out.append(ev.TaskVerified(task, name, tile, "aa" * 32, 64, more[0], more[1], 0, ops))
    return out


def taken(events: list[ev.Event]) -> list[ev.TaskVerified]:
    """The verdicts that count, worked out anew: the first of each real task of a running job."""
    cursors: dict[str, Cursor] = {}
    active: set[str] = set()
    shape = kinds.KINDS[SPEC.kind].shape(SPEC)
    out = []
    for event in events:
        if isinstance(event, ev.JobSubmitted):
            cursors[event.job] = Cursor()
            active = {task for task in active if not task.startswith(event.job + "-")}
        elif isinstance(event, (ev.JobFailed, ev.JobCancelled)):
            cursors.pop(event.job, None)
            active = {task for task in active if not task.startswith(event.job + "-")}
        elif isinstance(event, ev.TaskCreated) and event.job in cursors:
            if cursors[event.job].accepts(event.tile, shape):
                cursors[event.job] = cursors[event.job].after(event.tile, shape)
                active.add(event.task)
        elif isinstance(event, ev.TaskUnresolved):
            active.discard(event.task)
        elif isinstance(event, ev.TaskVerified) and event.task in active:
            active.discard(event.task)
            out.append(event)
    return out


def entries_of(ledger: Ledger, limit: int = 3, **wanted: str) -> list[Entry]:
    """All entries, by small pages, so that verdicts are split over them."""
    out: list[Entry] = []
    while page := ledger.page(out[-1].id if out else 0, limit, **wanted):
        out += page
    return out


def consistent(views: Views) -> list[Entry]:
    """The ledger's sums and lists say the same, and what they say is what the tasks and jobs say."""
    ledger, entries = views.ledger, entries_of(views.ledger)
    assert [e.id for e in entries] == sorted({e.id for e in entries})
    assert ledger.total() == (len(entries), sum(e.ops for e in entries))
    by_worker, by_owner = Counter[str](), Counter[str]()
    for entry in entries:
        by_worker[entry.worker] += entry.ops
        by_owner[entry.owner] += entry.ops
    assert ledger.workers() == sorted(by_worker)
    for worker in (*WORKERS, "stranger"):
        own = [e for e in entries if e.worker == worker]
        assert ledger.total_of(worker) == (len(own), by_worker[worker])
        assert entries_of(ledger, worker=worker) == own
        for name in JOBS:
            assert entries_of(ledger, worker=worker, job=name) == [e for e in own if e.job == name]
    tasks = ops = 0
    for name in JOBS:
        assert entries_of(ledger, job=name) == [e for e in entries if e.job == name]
        assert ledger.used_by(f"owner of {name}")[1] == by_owner[f"owner of {name}"]
        tasks += ledger.used_by(f"owner of {name}")[0]
    assert tasks == len({e.seq for e in entries})
    ops = sum(entry.ops for entry in entries)
    bodies = [t for name in JOBS for t in views.tasks_in(name)]
    assert ops == sum(t.ops * len(set(t.workers)) for t in bodies if t.digest)
    assert [e for page in ledger.pages(2) for e in page] == entries
    return entries


LATE = ("verify", ("j1", TILES[0], 0), ["a", "b"], "quorum")
FIRST = [("submit", "j1"), ("create", ("j1", TILES[0], 0), ["a", "b"])]


@settings(max_examples=80, deadline=None)
@given(st.lists(step, max_size=40))
@example([*FIRST, LATE, LATE])  # decided twice
@example(
    [
        ("submit", "j10"),
        *FIRST,
        ("create", ("j10", TILES[0], 0), ["c"]),
        ("verify", ("j10", TILES[0], 0), ["c"], "audit"),
        LATE,
    ]
)  # two jobs at once, and the id of one starts like the other's
@example([LATE, *FIRST])  # before there is such a task
@example([*FIRST, ("create", ("j1", TILES[0], 1), ["c"]), ("verify", ("j1", TILES[0], 1), ["c"], "trust")])  # void
@example([*FIRST, ("end", "j1", ev.JobFailed), LATE, ("reopen", "j1"), LATE])  # after the end
@example(
    [
        *FIRST,
        ("verify", ("j1", TILES[2], 0), ["a"], "quorum"),
        ("create", ("j1", TILES[2], 0), ["a"]),
        ("verify", ("j1", TILES[2], 0), ["a"], "quorum"),
        ("end", "j1", ev.JobFailed),
        ("reopen", "j1"),
        ("verify", ("j1", TILES[0], AGAIN), ["a", "c"], "quorum"),
    ]
)  # verified before, and after it goes on
@example([*FIRST, ("unresolve", ("j1", TILES[0], 0)), LATE])
@example([*FIRST, ("verify", ("j1", TILES[0], 0), ["nobody", "a", "a"], "canary")])  # never joined; named twice
def test_the_ledger_is_the_verified_work(steps: list[tuple[Any, ...]]) -> None:
    # a job is submitted once in a log
    once, steps = set[str](), list(steps)
    steps = [s for s in steps if s[0] != "submit" or not (s[1] in once or once.add(s[1]))]
    events = events_of(steps)
    with tempfile.TemporaryDirectory() as folder:
        projection = Projection(Path(folder) / "g.db", TABLES, version=VERSION)
        views = Views()
        views.load(projection)
        recorded = Story().add(*events)
        for i, one in enumerate(recorded):
            views.evolve(one)
            if i % 5 == 0:
                projection.commit(views.rows(), one.seq)
        projection.commit(views.rows(), recorded[-1].seq)
        entries = consistent(views)
        verdicts = taken(events)
        if not any(isinstance(event, ev.JobReopened) for event in events):
            wanted = Counter((v.task, worker, v.ops, v.method) for v in verdicts for worker in set(v.workers))
            assert Counter((e.task, e.worker, e.ops, e.method) for e in entries) == wanted
            assert sum(e.ops for e in entries) == sum(v.ops * len(set(v.workers)) for v in verdicts)
        for name in JOBS:
            known = views.job(name)
            if known is not None:
                tasks = [t for t in views.tasks_in(name) if t.digest]
                assert known.ops_replicas == sum(e.ops for e in entries if e.job == name)
                assert known.ops == sum(t.ops for t in tasks)
        again = Views()
        again.load(projection)
        assert consistent(again) == entries, "after a restart"
        anew = Projection(Path(folder) / "anew.db", TABLES, version=VERSION)
        views = Views()
        views.load(anew)
        for one in recorded:
            views.evolve(one)
        anew.commit(views.rows(), recorded[-1].seq)
        assert anew.checksum() == projection.checksum(), "rows do not depend on when they were written"
        anew.close()
        projection.close()


def test_operations_follow_from_the_shape_and_not_from_what_a_worker_says() -> None:
    """No event that comes from a worker has a field of operations."""
    said = {field for event in (ev.ResultSubmitted, ev.ResultFailed) for field in event.__struct_fields__}
    assert not {field for field in said if "ops" in field or "credit" in field}


def test_sums_pass_what_the_database_calls_an_integer(tmp_path: Path) -> None:
    projection = Projection(tmp_path / "g.db", TABLES, version=VERSION)
    ledger = Ledger()
    ledger.load(projection)
    for seq in range(1, 5):
        ledger.credit(ev.TaskVerified("t", "j", TILES[0], "aa", 1, ["a"], "quorum", 0, 2**62), "o", seq)
    projection.commit(ledger.rows(), 4)
    again = Ledger()
    again.load(projection)
    assert again.total_of("a") == ledger.total_of("a") == (4, 2**64) and again.used_by("o") == (4, 2**64)
    projection.close()


def test_an_export_ends_where_the_ledger_ended_when_it_began(tmp_path: Path) -> None:
    projection = Projection(tmp_path / "g.db", TABLES, version=VERSION)
    views, story = Views(), Story()
    views.load(projection)
    views.flush = lambda: projection.commit(views.rows(), len(story.log.events))
    for one in story.add(ev.JobSubmitted("j1", SPEC, "o"), created("j1-0-0-a", TILES[0], "a", job="j1")):
        views.evolve(one)

    def verify(task: str, tile: Tile) -> None:
        for one in story.add(ev.TaskVerified(task, "j1", tile, "aa" * 32, 64, ["a", "b"], "quorum", 0, 1)):
            views.evolve(one)

    verify("j1-0-0-a", TILES[0])
    pages = views.ledger.pages(1)
    assert [e.worker for e in next(pages)] == ["a"]
    for one in story.add(created("j1-0-2-a", TILES[2], "a", job="j1")):
        views.evolve(one)
    verify("j1-0-2-a", TILES[2])
    assert [e.worker for page in pages for e in page] == ["b"]
    assert len(entries_of(views.ledger)) == 4
    projection.close()


@pytest.mark.parametrize("after", [0, 1, 1 << 46])
def test_an_empty_ledger_has_no_pages(tmp_path: Path, after: int) -> None:
    projection = Projection(tmp_path / "g.db", TABLES, version=VERSION)
    ledger = Ledger()
    ledger.load(projection)
    assert ledger.page(after) == [] and list(ledger.pages()) == [] and ledger.total() == (0, 0)
    projection.close()
