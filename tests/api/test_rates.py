"""Token buckets: time is an argument, so everything here is exact."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardy_gateway.rates import Buckets, Rate, limit_item, policy_item, retry_after


def test_a_burst_then_the_rate() -> None:
    buckets = Buckets(Rate(2, 3))
    assert [buckets.take("a", 100.0).ok for _ in range(4)] == [True, True, True, False]
    refused = buckets.take("a", 100.0)
    assert (refused.left, refused.wait_s, refused.full_s) == (0, 0.5, 1.5)
    assert not buckets.take("a", 100.49).ok and buckets.take("a", 100.5).ok
    assert buckets.take("b", 100.0).ok, "another name has a bucket of its own"
    assert buckets.take("a", 1e9).left == 2, "it holds no more than its burst"


def test_costs() -> None:
    buckets = Buckets(Rate(10, 100))
    assert buckets.take("a", 0, 60).ok and not buckets.take("a", 0, 41).ok
    assert buckets.take("a", 0, 40).ok, "what was refused took nothing"
    assert buckets.take("a", 0, 50).wait_s == 5.0
    assert buckets.take("b", 0, 10**12).ok, "more than a burst is met by a full bucket"
    assert not buckets.take("b", 9.9, 10**12).ok and buckets.take("b", 10, 10**12).ok


def test_a_clock_that_goes_back_gives_nothing() -> None:
    buckets = Buckets(Rate(1, 2))
    assert buckets.take("a", 10).ok and buckets.take("a", 10).ok
    assert not buckets.take("a", 5).ok and not buckets.take("a", 10.5).ok and buckets.take("a", 11).ok


def test_memory_is_bounded_and_the_unused_are_forgotten_first() -> None:
    buckets = Buckets(Rate(0.001, 1), buckets_max=3)
    for name in "abc":
        assert buckets.take(name, 0).ok
    assert not buckets.take("a", 1).ok
    assert buckets.take("d", 1).ok and len(buckets) == 3
    assert not buckets.take("a", 1).ok, "used a moment ago, so it stayed"
    assert buckets.take("b", 1).ok, "unused longest, so it was forgotten"


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 7)), max_size=60))
def test_never_more_than_burst_and_rate(asked: list[tuple[float, int]]) -> None:
    buckets, now, taken = Buckets(Rate(3, 10)), 0.0, 0
    for pause, cost in asked:
        now += pause
        taken += cost if buckets.take("a", now, cost).ok else 0
        assert taken <= 10 + 3 * now + 1e-6


@pytest.mark.parametrize(("wait", "said"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2")])
def test_fields(wait: float, said: str) -> None:
    taken = Buckets(Rate(200, 1000)).take("a", 0)
    assert policy_item("requests", 200, 1) == '"requests";q=200;w=1'
    assert limit_item("requests", taken) == '"requests";r=999;t=1'
    assert retry_after(type(taken)(False, 0, wait, 5.0)) == said
