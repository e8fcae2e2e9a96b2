"""The time by the log's clock, whatever the machine's own clock says."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardy_common.log import Append, JetStreamLog, read_all
from shardy_common.log.clock import STEP_MS, WINDOW_S, LogClock
from shardy_common.wire import events as ev

HOUR_MS = 3_600_000


def test_nothing_heard_is_no_time() -> None:
    assert LogClock().now_ms(5.0) is None


def test_it_goes_on_by_the_steady_clock() -> None:
    clock = LogClock()
    clock.heard(1_000_000, 10.0)
    assert [clock.now_ms(s) for s in (10.0, 10.25, 4_000.0)] == [1_000_000, 1_000_250, 4_990_000]


def test_an_event_read_late_does_not_set_it_back() -> None:
    clock = LogClock()
    clock.heard(1_000_000, 10.0)
    clock.heard(1_000_500, 13.0)  # was on its way for two seconds and a half
    assert clock.now_ms(13.0) == 1_003_000


def test_an_event_that_came_sooner_corrects_it() -> None:
    clock = LogClock()
    clock.heard(1_000_000, 10.0)
    clock.heard(1_002_000, 11.0)
    assert clock.now_ms(11.0) == 1_002_000


@pytest.mark.parametrize(("step_ms", "follows"), [(-HOUR_MS, True), (-STEP_MS - 1, True), (-STEP_MS, False)])
def test_a_clock_of_the_log_that_is_set_back_is_followed_at_once(step_ms: int, follows: bool) -> None:
    clock = LogClock()
    clock.heard(10 * HOUR_MS, 10.0)
    clock.heard(10 * HOUR_MS + step_ms, 10.0)
    assert (clock.now_ms(10.0) == 10 * HOUR_MS + step_ms) is follows


def test_a_slower_clock_is_followed_within_two_windows() -> None:
    """The steady clock of this machine runs one per cent fast: without forgetting, the error would grow for ever."""
    clock, error_ms = LogClock(), 0.0
    for second in range(1, 3_601):
        clock.heard(second * 990, float(second))
        error_ms = max(error_ms, abs((clock.now_ms(float(second)) or 0) - second * 990))
    assert error_ms <= 2 * WINDOW_S * 10 + 10


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 900)), min_size=1, max_size=60))
def test_it_is_never_ahead_and_as_late_as_the_quickest_news(steps: list[tuple[int, int]]) -> None:
    """steps: pauses between events, and how late each is read."""
    clock, true_ms, read_s, lags = LogClock(), HOUR_MS, 0.0, []
    for pause_ms, lag_ms in steps:
        true_ms += pause_ms
        read_s = max(read_s, (true_ms + lag_ms) / 1e3)
        clock.heard(true_ms, read_s)
        lags.append(read_s * 1e3 - true_ms)
        now_ms = clock.now_ms(read_s)
        assert now_ms is not None
        assert true_ms - 1 <= now_ms <= read_s * 1e3
        if read_s * 1e3 - HOUR_MS < WINDOW_S * 1e3:
            assert now_ms >= read_s * 1e3 - min(lags) - 1


@pytest.mark.connected
async def test_the_time_is_the_servers_from_the_first_read_on(
    jetstream: JetStreamLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's time of day is an hour off here; events that are read long after they were appended say nothing."""
    true_ns = time.time_ns
    await jetstream.append([Append(ev.JobFailed(f"j{i}", "x"), f"m{i}") for i in range(3)])
    monkeypatch.setattr(time, "time_ns", lambda: true_ns() - HOUR_MS * 1_000_000)
    assert abs(jetstream.now_ms() - true_ns() / 1e6) > HOUR_MS / 2, "nothing was read yet: its own"
    reader = jetstream.read([], 0)
    assert len([e async for e in read_all(reader)]) == 3
    assert abs(jetstream.now_ms() - true_ns() / 1e6) < 60_000
    (sent,) = await jetstream.append([Append(ev.JobFailed("news", "x"), "news")])
    (news,) = await reader.batch(10, 10.0)
    assert news.seq == sent.seq  # type: ignore[union-attr]
    assert news.at_ms <= jetstream.now_ms() <= true_ns() / 1e6 + 1
    await reader.close()
