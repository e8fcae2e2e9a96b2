"""When the client tries again: a decision table, without sockets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardy_client.retry import Attempts, Outcome, Patience, retry_after_s

REFUSED, BROKEN = Outcome(sent=False), Outcome(sent=True)
BUSY, LIMITED = Outcome(True, 503, 1.0), Outcome(True, 429, 2.0)


def attempts(gateways: int = 1, *, repeat: bool = True, known: bool = False, first: int = 0) -> Attempts:
    return Attempts(Patience(), gateways, first, lambda: 1.0, repeat=repeat, known=known)


def test_the_next_gateway_is_asked_at_once_and_a_round_ends_with_a_pause() -> None:
    tries = attempts(3, first=1)
    assert [(tries.after(BROKEN, 0), tries.gateway) for _ in range(4)] == [(0, 2), (0, 0), (0.2, 1), (0, 2)]


def test_a_mesh_that_never_answered_is_given_up_after_its_rounds() -> None:
    tries = attempts()
    assert [tries.after(REFUSED, 0) for _ in range(3)] == [0.2, 0.4, None]


def test_a_mesh_that_answered_before_is_waited_for() -> None:
    tries = attempts(known=True)
    pauses = [tries.after(REFUSED, 29.9) for _ in range(20)]
    assert None not in pauses and max(pauses) == Patience().pause_s_max  # type: ignore[type-var]
    assert tries.after(REFUSED, 30.1) is None


def test_what_may_not_be_done_twice_is_repeated_only_if_nothing_was_sent() -> None:
    for outcome, again in ((REFUSED, True), (BROKEN, False), (BUSY, False), (LIMITED, True)):
        assert (attempts(2, repeat=False).after(outcome, 0) is not None) is again, outcome


def test_what_is_not_sent_again_blindly_is_still_repeated_when_the_mesh_asks_for_it() -> None:
    for outcome, again in ((REFUSED, True), (BROKEN, False), (BUSY, True)):
        tries = Attempts(Patience(), 2, 0, lambda: 1.0, repeat=True, known=False, resend=False)
        assert (tries.after(outcome, 0) is not None) is again, outcome


def test_retry_after_is_honoured_up_to_a_limit() -> None:
    tries = attempts()
    assert tries.after(LIMITED, 0) == pytest.approx(2.2) and tries.gateway == 0
    assert attempts().after(BUSY, 0) == 1.0
    assert attempts().after(Outcome(True, 503, 31.0), 0) is None
    assert attempts().after(Outcome(True, 429, 31.0), 0) is None
    assert attempts().after(Outcome(True, 429, None), 0) is None
    held = [attempts.after(Outcome(True, 429, 8.0), 0) for attempts in [attempts()] * 4]
    assert held[-1] is None and None not in held[:3], "all pauses of a call together"


@given(st.lists(st.sampled_from([REFUSED, BROKEN, BUSY, LIMITED]), max_size=200), st.integers(1, 4), st.booleans())
def test_every_call_ends(outcomes: list[Outcome], gateways: int, known: bool) -> None:
    tries, elapsed_s = attempts(gateways, known=known), 0.0
    made = 0
    for outcome in outcomes:
        pause_s = tries.after(outcome, elapsed_s)
        if pause_s is None:
            break
        assert 0 <= pause_s <= 30 and 0 <= tries.gateway < gateways
        elapsed_s += pause_s
        made += 1
    assert elapsed_s < 30 + 30 + 3 and made <= gateways * 120


@pytest.mark.parametrize(("text", "seconds"), [("3", 3), ("0.5", 0.5), ("-1", None), ("soon", None), (None, None)])
def test_retry_after_headers(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text) == seconds


def test_a_mesh_with_too_much_to_do_is_waited_for_longer_and_not_for_ever() -> None:
    """Also where it says so by 503, as for a full log: nothing was done, so that any call is made again."""
    once = attempts(gateways=2, repeat=False)
    pauses = [once.after(Outcome(True, 503, 30.0, held=True), 0) for _ in range(6)]
    assert pauses[:3] == [33.0] * 3 and pauses[-1] is None
    assert once.gateway == 0, "the mesh is busy, not this gateway broken"
    assert sum(pause for pause in pauses if pause) <= Patience().held_s_max
    assert attempts().after(Outcome(True, 429, 121.0, held=True), 0) is None
