"""What the suites `chaos` and `soak` measure with."""

from __future__ import annotations

import pytest

from bench.chaos import recovery
from bench.faults.history import Seen
from bench.faults.soaking import Outcome, latencies


@pytest.mark.parametrize(
    ("verdicts_s", "expected_s"),
    [
        ([10.2, 10.3, 10.4], 0.2),  # it never stopped
        ([13.0, 13.1], 3.0),  # it stopped at once
        ([10.1, 10.4, 14.0, 14.1], 4.0),  # what was under way came first
        ([10.1, 10.9, 11.1, 17.0], 0.9),  # a silence that begins later is none of this fault
        ([10.0, 10.9, 12.9, 13.0], 2.9),
    ],
)
def test_recovery_ends_the_longest_silence_that_begins_soon(verdicts_s: list[float], expected_s: float) -> None:
    assert recovery(verdicts_s, 10.0) == pytest.approx(expected_s)


def test_growth_is_the_slope_of_the_line_that_fits_best() -> None:
    outcome = Outcome(memory={"flat": [(t, 100 + t % 2) for t in range(60)], "leak": [(t, 0.5 * t) for t in range(60)]})
    assert abs(outcome.growth_mib_per_min("flat")) < 1
    assert outcome.growth_mib_per_min("leak") == pytest.approx(30)


def test_a_job_takes_from_its_first_acknowledgement_to_the_end_that_its_client_saw() -> None:
    seen = [
        Seen(1.0, "c", "acknowledged", job="j"),
        Seen(1.5, "c", "acknowledged", job="j"),
        Seen(2.0, "c", "status", job="j", state="running"),
        Seen(4.0, "c", "status", job="j", state="completed"),
        Seen(9.0, "reader-x", "status", job="j", state="completed"),
        Seen(5.0, "c", "acknowledged", job="k"),
    ]
    assert latencies(seen, 1.0) == [(3.0, 3.0)]
