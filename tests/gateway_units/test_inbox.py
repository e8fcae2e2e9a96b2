"""Results on their way into the log: turns of workers, bounds, and that what was taken counts until it is recorded."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from shardy_gateway import inbox
from shardy_gateway.inbox import Inbox


def test_one_result_is_in_the_next_batch_whatever_another_worker_sends() -> None:
    box: Inbox[int] = Inbox()
    for n in range(1_000):
        box.put("flood", n, 10)
    box.put("honest", -1, 10)
    batch = box.take(4, 1 << 20)
    assert [worker for worker, _, _ in batch] == ["flood", "honest", "flood", "flood"]
    assert [item for worker, item, _ in batch if worker == "flood"] == [0, 1, 2], "in the order in which they came"


def test_a_batch_is_bounded_in_bytes_and_is_never_empty() -> None:
    box: Inbox[int] = Inbox()
    for n in range(5):
        box.put("a", n, 100)
    assert len(box.take(10, 250)) == 3 and len(box.take(10, 1)) == 1 and len(box.take(0, 1)) == 0
    assert len(box.take(1, 0)) == 1 and box.take(1, 0) == [] and box.queued == 0


def test_a_worker_at_its_bound_is_not_read_until_its_results_are_recorded() -> None:
    box: Inbox[int] = Inbox()
    for n in range(inbox.EACH_ITEMS_MAX):
        assert not box.full_for("a")
        box.put("a", n, 1)
    assert box.full_for("a") and not box.full_for("b")
    taken = box.take(10, 1 << 20)
    assert box.full_for("a"), "what is being recorded counts"
    box.done(taken)
    assert not box.full_for("a")


def test_bytes_bound_it_too() -> None:
    box: Inbox[int] = Inbox()
    box.put("a", 1, inbox.EACH_BYTES_MAX - 1)
    assert not box.full_for("a")
    box.put("a", 2, 1)
    assert box.full_for("a")


def test_all_together_are_bounded_and_whoever_has_nothing_here_is_heard() -> None:
    box: Inbox[int] = Inbox()
    for n in range(inbox.ALL_ITEMS_MAX):
        box.put(f"w{n % 100}", n, 1)
    assert box.full_for("w1") and not box.full_for("new")
    box.done(box.take(200, 1 << 30))
    assert not box.full_for("w1")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=60), st.integers(0, 2**32))
def test_nothing_is_lost_or_repeated_and_the_counts_come_back_to_nothing(
    puts: list[tuple[str, int]], seed: int
) -> None:
    rng, box = random.Random(seed), Inbox[int]()
    waiting, seen, batches = list(enumerate(puts)), [], []
    while waiting or box.queued or batches:
        if waiting and rng.random() < 0.6:
            number, (worker, size) = waiting.pop(0)
            box.put(worker, number, size)
        elif box.queued and rng.random() < 0.7:
            batches.append(box.take(rng.randint(1, 5), rng.randint(1, 80)))
            seen += batches[-1]
        elif batches:
            box.done(batches.pop(0))
    for worker in "abc":
        assert [item for who, item, _ in seen if who == worker] == [
            n for n, (who, _) in enumerate(puts) if who == worker
        ]
    assert (box.items, box.bytes, box.queued, box._held, box._queues) == (0, 0, 0, {}, {})
