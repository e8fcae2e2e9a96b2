"""The record, what it buys, and that no order of events lets anybody owe more than the bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardy_common import trust
from shardy_common.trust import (
    CHECK_COVERS,
    FLOOR,
    PROBATION_OPS,
    PROBATION_TASKS,
    UNCHECKED_MS,
    VALUE_SHARE,
    Book,
    Record,
    canary_urgency,
    on_probation,
    replication_probability,
)

G = 10**9


@pytest.mark.parametrize(
    ("record", "ops", "probability"),
    [
        (Record(), 0, 1.0),
        (Record(tasks=PROBATION_TASKS - 1, ops=1000 * G), G, 1.0),
        (Record(tasks=1000, ops=PROBATION_OPS - 1), 1, 1.0),
        (Record(tasks=PROBATION_TASKS, ops=PROBATION_OPS), 1, 1.0),
        (Record(tasks=2 * PROBATION_TASKS, ops=1000 * G), G, 0.5),
        (Record(tasks=10_000, ops=4 * PROBATION_OPS), G, 0.25),
        (Record(tasks=100, ops=1000 * G), 50 * G, 0.1),
        (Record(tasks=100, ops=1000 * G), 50 * G + 1, 1.0),
        (Record(tasks=100, ops=1000 * G, exposure=49 * G), G, 0.1),
        (Record(tasks=100, ops=1000 * G, exposure=49 * G, lent=1), G, 1.0),
        (Record(tasks=10**6, ops=10**18), G, FLOOR),
        (Record(tasks=10**6, ops=10**18, faults=1), 1, 1.0),
    ],
)
def test_how_likely_a_replica_is(record: Record, ops: int, probability: float) -> None:
    assert replication_probability(record, ops) == pytest.approx(probability)


@pytest.mark.parametrize(
    ("method", "counts"), [("quorum", 1), ("audit", 1), ("arbitration", 1), ("canary", 1), ("trust", 0)]
)
def test_only_what_was_checked_builds_trust(method: str, counts: int) -> None:
    book = Book()
    book.records["w"] = Record(tasks=100, ops=1000 * G)
    assert book.lend("t", "w", G)
    book.verified("t", ["w"], method, G, 7)
    record = book.of("w")
    assert (record.tasks, record.ops, record.lent) == (100 + counts, (1000 + counts) * G, 0)
    assert (record.exposure, record.alone_tasks) == ((0, 0) if counts else (G, 1))


def test_a_check_answers_for_a_bounded_amount_of_trust() -> None:
    book = Book()
    book.records["w"] = Record(tasks=100, ops=1000 * G, exposure=50 * G)
    assert not book.lend("t", "w", 1)
    book.verified("tiny", ["w"], "quorum", 1, 7)
    assert book.of("w").exposure == 50 * G - CHECK_COVERS, "a tiny checked task does not wash off large unchecked ones"
    book.verified("large", ["w"], "canary", 2 * G, 8)
    assert book.of("w").exposure == 0 and book.of("w").checked_ms == 8


def test_a_verdict_on_trust_for_a_task_that_had_ended_counts_nowhere() -> None:
    book = Book()
    book.records["w"] = Record(tasks=100, ops=1000 * G)
    assert book.lend("t", "w", G)
    book.release("t")
    book.verified("t", ["w"], "trust", G, 7)
    assert (book.of("w").exposure, book.of("w").lent, book.of("w").alone_tasks) == (0, 0, 0)


def test_a_fault_ends_trust_for_good() -> None:
    book = Book()
    book.records["w"] = Record(tasks=10**6, ops=10**18)
    assert book.lend("t", "w", G) and book.held_alone("w") == ["t"] and book.held_alone("v") == []
    assert book.fraud("w") and not book.fraud("w"), "the first is news"
    book.verified("u", ["w"], "quorum", 10**18, 7)
    assert book.convicted("w") and not book.convicted("v") and not book.lend("v", "w", 1)
    assert on_probation(book.of("w"))


def test_whom_a_canary_tells_most_about() -> None:
    def of(**more: Any) -> float:
        return canary_urgency(Record(**{"tasks": 1000, "ops": 1000 * G, "checked_ms": 10**6, **more}), 10**6)

    new, half, done = canary_urgency(Record(), 0), canary_urgency(Record(PROBATION_TASKS // 2, 0), 0), of()
    assert new == 2.0 > half > 1.0 > done == 0.0
    assert of(checked_ms=10**6 - UNCHECKED_MS) == 1.0 and of(checked_ms=10**6 - 3 * UNCHECKED_MS) > new
    assert of(exposure=25 * G) == 0.5


# -- properties -------------------------------------------------------------------------------------------------------

RECORDS = st.builds(
    Record,
    tasks=st.integers(0, 10**5),
    ops=st.integers(0, 10**16),
    exposure=st.integers(0, 10**14),
    lent=st.integers(0, 10**14),
    faults=st.sampled_from((0, 0, 0, 1)),
)


@given(RECORDS, st.integers(0, 10**15), st.integers(0, 10**4), st.integers(0, 10**15))
def test_the_probability_keeps_its_bounds_and_falls_with_the_record(
    record: Record, ops: int, more_tasks: int, more_ops: int
) -> None:
    before = replication_probability(record, ops)
    assert FLOOR <= before <= 1.0
    better = Record(
        record.tasks + more_tasks, record.ops + more_ops, 0, record.exposure, record.lent, 0, 0, record.faults
    )
    assert replication_probability(better, ops) <= before <= replication_probability(record, ops + more_ops)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("lend", "lend", "lend", "trust", "quorum", "audit", "canary", "release", "fraud")),
        st.sampled_from("abc"),
        st.integers(0, 5),
        st.integers(0, 3 * PROBATION_OPS),
    ),
    max_size=80,
)


@settings(max_examples=300)
@given(EVENTS, st.booleans())
def test_no_order_of_events_owes_more_than_the_bound(events: list[tuple[str, str, int, int]], known: bool) -> None:
    book = Book()
    if known:
        book.records["a"] = Record(tasks=PROBATION_TASKS, ops=40 * PROBATION_OPS)
    lent: dict[str, tuple[str, int]] = {}
    for step, (what, worker, slot, ops) in enumerate(events):
        task = f"{worker}{slot}"
        if what == "lend" and task not in lent:
            if book.lend(task, worker, ops // 5):
                lent[task] = (worker, ops // 5)
        elif what == "release":
            book.release(task)
            lent.pop(task, None)
        elif what == "fraud":
            book.fraud(worker)
        elif what != "lend":
            holder, size = lent.pop(task, (worker, ops))
            book.verified(task, [holder], what, size, step)
        for name, record in book.records.items():
            out = sum(size for holder, size in lent.values() if holder == name)
            assert record.lent == out and record.exposure >= 0
            assert (record.exposure + record.lent) * VALUE_SHARE <= record.ops
            assert record.exposure <= record.alone_ops


def test_the_numbers_are_those_of_the_decision() -> None:
    """docs/adr/0008-adaptive-trust.md argues with them."""
    assert (PROBATION_TASKS, PROBATION_OPS, FLOOR, VALUE_SHARE, CHECK_COVERS) == (10, 10**10, 0.05, 20, 40)
    assert trust.CHECK_COVERS == 2 * (1 / trust.FLOOR)
