"""How long a decider waits before it decides again, by tables: what the log answered, and when."""

from __future__ import annotations

import pytest

from shardy_common.log import Appended, Conflict, Full, Outcome, Unknown
from shardy_common.pace import AGAIN_S, AGAIN_S_MAX, FULL_S, FULL_S_MAX, Pace

TAKEN, RACED, SILENT, FULL = Appended(1), Conflict(), Unknown(), Full()


@pytest.mark.parametrize(
    ("outcomes", "wait_s", "held"),
    [
        ([TAKEN, TAKEN], 0.0, False),
        ([TAKEN, RACED], AGAIN_S, False),
        ([RACED], AGAIN_S, False),
        ([TAKEN, SILENT], AGAIN_S, False),
        ([SILENT, SILENT], 2 * AGAIN_S, True),
        ([TAKEN, FULL], FULL_S, True),
        ([RACED, FULL, SILENT], FULL_S, True),
    ],
)
def test_one_answer(outcomes: list[Outcome], wait_s: float, held: bool) -> None:
    """held: nothing new is proposed meanwhile either. A race lost is decided anew as soon as the winner is read."""
    pace = Pace("test")
    assert pace.heard(outcomes, 100.0) == pytest.approx(wait_s)
    assert (pace.held_until > 100.0) is held


@pytest.mark.parametrize(
    ("outcome", "first_s", "most_s"), [(SILENT, 2 * AGAIN_S, AGAIN_S_MAX), (FULL, FULL_S, FULL_S_MAX)]
)
def test_waits_double_up_to_a_bound_and_begin_anew(outcome: Outcome, first_s: float, most_s: float) -> None:
    pace, now_s = Pace("test"), 100.0
    waits = []
    for _ in range(20):
        waits.append(pace.heard([outcome], now_s))
        now_s += waits[-1]
    assert waits == pytest.approx([min(first_s * 2**i, most_s) for i in range(20)])
    pace.heard([TAKEN], now_s)
    assert pace.fulls == 0 and pace.heard([outcome], now_s + 1) == pytest.approx(first_s)


def test_batches_that_hear_of_one_full_log_count_once() -> None:
    pace = Pace("test")
    waits = [pace.heard([FULL], now_s) for now_s in (100.0, 100.0, 100.1)]
    assert pace.fulls == 1 and waits == pytest.approx([FULL_S, FULL_S, FULL_S - 0.1])
