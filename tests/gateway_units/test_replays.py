"""What a replay decides: which tiles a failed job still needs, how a task becomes a job, what bytes say now."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_events import JOB, matmul, matmul_f32, stream

from shardy_common import kinds
from shardy_common.carving import Cursor
from shardy_common.engine import reference
from shardy_common.errors import Refused
from shardy_common.log.archive_file import Message
from shardy_common.log.reader import recorded
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Pre, Tile
from shardy_gateway import replays
from shardy_gateway.letters import Letter
from shardy_gateway.shapes import JobView, TaskView

SHAPE = (9, 7)


def letter(cause: str = "fraud", entry: str = "fraud-t-0", **evidence: str) -> Letter:
    return Letter(entry, cause, "open", "fraud.detected.t", 4, 1_700_000_000_000, "", evidence, None, None, None, 9)


def job(spec: JobSpec | None = None, state: str = "failed", **more: Any) -> JobView:
    spec = spec or matmul(*SHAPE)
    rows, cols = kinds.KINDS[spec.kind].shape(spec)
    return JobView(JOB, 12, spec, "requester", 5, rows * cols, "trace", state, **more)


def task(name: str, tile: Tile, digest: str = "") -> TaskView:
    return TaskView(name, JOB, tile, {}, digest)


def tags() -> Any:
    numbers = itertools.count(1)
    return lambda: next(numbers)


# -- unresolved -------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_missing_tiles_and_the_rest_cover_what_is_not_done(seed: int) -> None:
    """Carve some of a job, verify some of that, fail and go on: done, missing and uncarved are a partition."""
    rng = random.Random(seed)
    cursor, tasks, names = Cursor(), [], itertools.count()
    for _ in range(rng.randrange(0, 12)):
        if cursor.done(SHAPE):
            break
        cols = cursor.band_cols or rng.randrange(1, SHAPE[1] - cursor.col0 + 1)
        tile = Tile(cursor.row0, rng.randrange(1, SHAPE[0] - cursor.row0 + 1), cursor.col0, cols)
        tasks.append(task(f"t{next(names)}", tile, "aa" if rng.random() < 0.5 else ""))
        cursor = cursor.after(tile, SHAPE)
    for _ in range(rng.randrange(3)):  # earlier reopenings left tasks behind that share a tile with later ones
        tasks += [
            task(f"t{next(names)}", tile, "aa" if rng.random() < 0.5 else "") for tile in replays.missing_tiles(tasks)
        ]
    done = sum(t.tile.cells for t in tasks if t.digest)
    event = replays.reopening(job(cells_done=done, cursor=cursor), tasks, "e", "operator", tags())
    cover = np.zeros(SHAPE, int)
    for tile in [t.tile for t in tasks if t.digest] + [tile for _, tile in event.tasks]:
        cover[tile.row0 : tile.row0 + tile.rows, tile.col0 : tile.col0 + tile.cols] += 1
    carved = np.zeros(SHAPE, int)
    carved[:, : cursor.col0] = 1
    carved[: cursor.row0, cursor.col0 : cursor.col0 + cursor.band_cols] = 1
    assert (cover == carved).all() and event.cursor == cursor
    assert len({name for name, _ in event.tasks} | {t.id for t in tasks}) == len(event.tasks) + len(tasks)


def test_the_event_holds_what_an_ended_job_has_in_no_memory() -> None:
    tasks = [task("t0", Tile(0, 5, 0, 7), "aa"), task("t5", Tile(5, 4, 0, 7))]
    event = replays.reopening(
        job(cells_done=35, tasks_verified=1, cursor=Cursor(0, 7, 0)), tasks, "task-t5", "op", tags()
    )
    assert event == ev.JobReopened(
        JOB, matmul(*SHAPE), "requester", 5, 35, 1, Cursor(0, 7, 0),
        [(f"{JOB}-0-5-000001", Tile(5, 4, 0, 7))], "task-t5", "op",
    )  # fmt: skip


@pytest.mark.parametrize("state", ["waiting", "running", "completed", "cancelled"])
def test_only_a_failed_job_goes_on(state: str) -> None:
    with pytest.raises(Refused, match=f"is {state}: only a failed job") as refused:
        replays.reopening(job(state=state), [], "e", "op", tags())
    assert refused.value.status == 409


def test_the_meshs_own_tests_of_workers_do_not_go_on() -> None:
    with pytest.raises(Refused, match="was a test of a worker"):
        replays.reopening(job(matmul(*SHAPE, policy=kinds.CANARY)), [], "e", "op", tags())


def test_the_number_of_tasks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [task(f"t{i}", Tile(i, 1, 0, 7)) for i in range(9)]
    whole = job(cursor=Cursor(0, 7, 0))
    monkeypatch.setattr(replays, "REOPENED_TASKS_MAX", 9)
    assert len(replays.reopening(whole, tasks, "e", "op", tags()).tasks) == 9
    monkeypatch.setattr(replays, "REOPENED_TASKS_MAX", 8)
    with pytest.raises(Refused, match="misses 9 tiles: at most 8"):
        replays.reopening(whole, tasks, "e", "op", tags())


def test_the_largest_event_fits_the_log() -> None:
    """The longest ids and tiles, and as many as there may be."""
    tile = Tile(1_048_575, 1_048_576, 1_048_575, 1_048_576)
    name = f"{JOB}xx-1048575-1048575-ffffff"
    event = ev.JobReopened(
        JOB, matmul(), "r" * 64, 2**50, 2**50, 2**30, Cursor(1, 1, 1), [(name, tile)] * replays.REOPENED_TASKS_MAX,
        "e" * 128, "b" * 64,
    )  # fmt: skip
    assert len(ev.encode(event)) < 1024 * 1024 - 4096


# -- fraud ------------------------------------------------------------------------------------------------------------


def test_a_product_task_is_audited_as_a_job_of_its_own() -> None:
    tile = Tile(3, 4, 2, 5)
    again = replays.rerun(letter(), job(matmul(9, 7, 3)), task("t", tile))
    assert [(c.name, c.offset, c.length, c.rows, c.cols) for c in again.cuts] == [
        ("a", 9, 12, 4, 3),
        ("b", 6, 15, 5, 3),
    ]
    event = again.submitted({"a": "a" * 64, "b": "b" * 64})
    assert event.requester == "mesh" and event.spec.policy == "audit" and "fraud-t-0" in event.spec.label
    assert kinds.KINDS["matmul"].shape(event.spec) == (4, 5)
    assert replays.rerun(letter(), job(matmul(9, 7, 3)), task("t", tile)).job == again.job, "one letter, one job"
    assert replays.rerun(letter(entry="fraud-u-0"), job(matmul(9, 7, 3)), task("t", tile)).job != again.job


def test_a_stream_task_is_run_again_by_a_quorum() -> None:
    spec = stream(8, 4, redundancy=3)
    event = replays.rerun(letter(), job(spec), task("t", Tile(2, 3, 0, 4))).submitted({"x": "a" * 64})
    assert (event.spec.policy, event.spec.redundancy) == ("quorum", 3)
    assert kinds.KINDS["stream"].shape(event.spec) == (3, 4)


def test_a_task_that_nobody_knows_is_refused() -> None:
    for known in ((None, None), (job(), None), (None, task("t", Tile(0, 1, 0, 1)))):
        with pytest.raises(Refused, match="not known"):
            replays.rerun(letter(), *known)


def test_the_outcome_says_where_the_tile_is_and_what_is_undecided() -> None:
    pre = Pre(-1.0, 1.0, 0, 0.5, 4, "row", 26)
    again = replays.rerun(letter(), job(matmul_f32(64, 64, 2, pre)), task("t", Tile(40, 4, 8, 4)))
    assert (again.lead_rows, again.lead_cols) == (28, 8)
    words = replays.rerun_outcome(again, task("t", Tile(40, 4, 8, 4)), True)
    assert "begins at row 28, column 8" in words and f"job {JOB} is still undecided" in words
    assert "undecided" not in replays.rerun_outcome(again, task("t", Tile(40, 4, 8, 4)), False)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.sampled_from([0.3, 0.5, 0.9, 1.0]),
    st.sampled_from([-1, 0, 1]),
    st.sampled_from(["row", "tensor"]),
    st.integers(0, 2**32),
)
def test_cut_rows_come_out_as_in_the_whole_operand(
    segment: int, alpha: float, axis: int, scale: str, seed: int
) -> None:
    """The slow oracle over the whole operand, and over what is cut for any tile: the tile's rows are equal bit for bit,
    and their lead is whole segments."""
    rng = np.random.default_rng(seed)
    warm = kinds.warm_rows(axis, alpha)
    pre = Pre(-1.0, 1.0, axis, alpha, segment, scale, warm)
    quantum = segment if axis == 0 else 1
    total = quantum * int(rng.integers(1, 40)) + int(rng.integers(0, quantum))
    x = rng.normal(0, 0.8, (total, 3)).astype(np.float32)
    row0 = quantum * int(rng.integers(0, max(total // quantum, 1)))
    rows = int(rng.integers(1, total - row0 + 1))
    if row0 + rows < total:
        rows = max(rows // quantum * quantum, min(quantum, total - row0))
    lead = replays.lead_of(pre, row0)
    assert 0 <= lead <= row0 and lead % quantum == 0

    def prepared(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return reference.preexec(
            y, row0=0, rows=len(y), warm_rows=warm, segment_rows=segment, lo=-1.0, hi=1.0,
            ema_axis=axis, alpha=alpha, scale=scale,
        )  # fmt: skip

    whole, part = prepared(x), prepared(x[row0 - lead : row0 + rows])
    for a, b in zip(whole, part, strict=True):
        assert a[row0 : row0 + rows].tobytes() == b[lead:].tobytes()


# -- poison -----------------------------------------------------------------------------------------------------------

OLD = b'{"e":"job.failed/0","job":"j9","why":"an old word"}'


def poison(data: bytes, subject: str = "job.failed.j9") -> Any:
    return recorded(Message(subject.encode(), 4, 1_000_000, data, None))


def test_bytes_that_no_version_explains_are_refused_with_the_decoders_words() -> None:
    with pytest.raises(Refused, match=r"cannot decode message 4 either: .*job.failed/0") as refused:
        replays.reread(letter("poison"), poison(OLD))
    assert refused.value.status == 409
    with pytest.raises(Refused, match="in the log no longer"):
        replays.reread(letter("poison"), None)


def test_a_new_upcaster_explains_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        ev.UPCASTERS, "job.failed/0", lambda old: {"e": "job.failed/1", "job": old["job"], "cause": old["why"]}
    )
    assert replays.reread(letter("poison"), poison(OLD)) == ev.JobFailed("j9", "an old word")
    with pytest.raises(Refused, match=r"stands on job\.failed\.j8"):
        replays.reread(letter("poison"), poison(OLD, "job.failed.j8"))


# -- max-deliveries ---------------------------------------------------------------------------------------------------


def test_a_consumer_begins_at_the_message_and_is_else_as_it_was() -> None:
    config = {"durable_name": "c", "deliver_policy": "all", "max_deliver": 3, "filter_subject": "job.>"}
    again = replays.from_message({**config, "opt_start_time": "2026-01-01T00:00:00Z"}, 17)
    assert again == {**config, "deliver_policy": "by_start_sequence", "opt_start_seq": 17}
