"""Admission: which pressure refuses a job, with what words, and when to come back; and the counters behind it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_events import matmul, submitted

from shardy_gateway.admission import RETRY_S_MAX, RETRY_S_MIN, Bounds, Later, Pressure, decide
from shardy_gateway.load import WINDOW_MS, Load
from shardy_gateway.problems import PROBLEMS, slug_of
from shardy_gateway.shapes import JobView

BOUNDS = Bounds(jobs_per_requester=10, jobs=100, backlog_s=60.0, lag_events=1_000, appends=50)
# what presses → title of the refusal or nothing, seconds to wait
CASES: dict[str, tuple[Pressure, str, int]] = {
    "nothing": (Pressure(), "", 0),
    "no devices, and a huge job that waits": (Pressure(jobs=1, queued_ops=10**18), "", 0),
    "own jobs, one below": (Pressure(jobs_own=9), "", 0),
    "own jobs": (Pressure(jobs_own=10, jobs=10), "Too many active jobs", 10),
    "own jobs, which end soon": (
        Pressure(jobs_own=10, jobs=10, queued_ops=400, able_ops_s=10.0), "Too many active jobs", 4),
    "all jobs, one below": (Pressure(jobs=99), "", 0),
    "all jobs": (Pressure(jobs=100), "Mesh busy", 10),
    "a minute of work": (Pressure(queued_ops=600, able_ops_s=10.0), "", 0),
    "more than a minute": (Pressure(queued_ops=720, able_ops_s=10.0), "Mesh busy", 12),
    "the same, and it drains faster than the devices claim": (
        Pressure(queued_ops=720, able_ops_s=10.0, drained_ops_s=12.0), "", 0),
    "an hour of work": (Pressure(queued_ops=36_000, able_ops_s=10.0), "Mesh busy", RETRY_S_MAX),
    "lag, at the bound": (Pressure(lag_events=1_000), "", 0),
    "lag": (Pressure(lag_events=50_000), "Mesh busy", 3),
    "appends, one below": (Pressure(appends=49), "", 0),
    "appends": (Pressure(appends=50), "Mesh busy", 1),
    "a log nearly full": (Pressure(log_filled=0.95), "Log full", 30),
    "a log not nearly full": (Pressure(log_filled=0.949), "", 0),
    "a full log comes before all else": (Pressure(10, 100, 10**9, 1.0, 1.0, 1, 9_999, 99, 1.2), "Log full", 30),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_what_is_taken(what: str) -> None:
    now, title, wait_s = CASES[what]
    later = decide(now, BOUNDS)
    assert (later.title if later else "") == title
    if later:
        assert later.retry_s == wait_s and later.status in PROBLEMS[slug_of(title)].status and later.limit


COUNT = st.integers(0, 10**15)
RATE = st.floats(0, 1e15)


@given(st.builds(Pressure, COUNT, COUNT, COUNT, RATE, RATE, COUNT, COUNT, COUNT, st.floats(0, 2)))
def test_the_wait_is_bounded_and_never_none(now: Pressure) -> None:
    later = decide(now, BOUNDS)
    assert later is None or RETRY_S_MIN <= later.retry_s <= RETRY_S_MAX
    shown = now.shown()
    assert "jobs_own" not in shown and all(isinstance(value, (int, float)) for value in shown.values())


@given(st.builds(Pressure, COUNT, COUNT, COUNT, RATE, RATE, COUNT, COUNT, COUNT, st.floats(0, 2)), st.integers(0, 8))
def test_less_pressure_never_refuses_what_more_lets_in(now: Pressure, which: int) -> None:
    """Every counter of what has to be done, halved alone."""
    names = ("jobs_own", "jobs", "queued_ops", "lag_events", "appends", "log_filled")
    name = names[which % len(names)]
    values = {field: getattr(now, field) for field in Pressure.__dataclass_fields__}
    less = Pressure(**{**values, name: type(values[name])(values[name] / 2)})
    assert isinstance(decide(now, BOUNDS), Later) or decide(less, BOUNDS) is None


def view(job: str, requester: str, ops: int = 0) -> JobView:
    spec = matmul(8, 4, 3)  # 2·8·4·3 = 192 operations
    return JobView(job, 1, spec, requester, 0, 32, ops=ops)


def test_work_is_counted_as_it_comes_and_goes() -> None:
    load = Load()
    load.began(view("j1", "anna"))
    load.began(view("j1", "anna"))  # once
    load.began(view("j2", "anna", ops=92))  # reopened: some of it was done before
    load.began(view("j3", "bert"))
    assert load.queued_ops == 192 + 100 + 192 and load.active == {"anna": 2, "bert": 1}
    load.verified("j1", 150, 1_000)
    assert load.queued_ops == 42 + 100 + 192
    load.verified("j1", 10_000, 1_000)  # never below nothing
    load.verified("gone", 50, 1_000)
    assert load.queued_ops == 100 + 192
    for job, requester in (("j1", "anna"), ("j2", "anna"), ("j2", "anna"), ("j3", "bert")):
        load.ended(view(job, requester))
    assert load.queued_ops == 0 and load.active == {} and load._left == {}


def test_the_rate_is_that_of_late() -> None:
    load = Load()
    assert load.drained_ops_s(1_000) == 0
    for second in range(1, 601):
        load.verified("j", 5_000, second * 1_000)
    assert load.drained_ops_s(600_000) == pytest.approx(5_000, rel=0.02)
    assert load.drained_ops_s(600_000 + WINDOW_MS) == pytest.approx(5_000 / 2.718, rel=0.02)
    assert load.drained_ops_s(600_000 + 20 * WINDOW_MS) < 0.001
    load.verified("j", 5_000, 1)  # the log's clock may step back
    assert load.drained_ops_s(600_000) > 5_000


def test_counters_after_a_restart_are_those_of_before(stories: Sequence[object] = ()) -> None:
    from shardy_common.log import Projection, Recorded
    from shardy_gateway.views import TABLES, VERSION, Views

    live, projection = Views(), Projection(":memory:", TABLES, version=VERSION)
    for seq in range(1, 4):
        live.evolve(Recorded(seq, f"job.submitted.j{seq}", 1_000, submitted(job=f"j{seq}")))
    projection.commit(live.rows(), 3)
    again = Views()
    again.load(projection)
    assert again.load_now.queued_ops == live.load_now.queued_ops == 3 * 192
    assert again.load_now.active == live.load_now.active == {"requester": 3}
