"""Which filters take which events: what folds are asked about."""

from __future__ import annotations

import pytest

from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_gateway.side import SideFold, by_event
from shardy_gateway.views import SIDES, Views


@pytest.mark.parametrize(
    ("filters", "name", "taken"),
    [
        (["task.*.*"], "task.created", True),
        (["task.verified.*"], "task.verified", True),
        (["task.verified.*"], "task.created", False),
        (["task.*.*"], "job.created", False),
        (["job.*.*", "dlq.recorded.*"], "dlq.recorded", True),
        ([], "task.created", False),
    ],
)
def test_filters(filters: list[str], name: str, taken: bool) -> None:
    assert subjects.taken(filters, name) is taken


def test_a_side_is_asked_about_what_its_filters_name() -> None:
    class Two(SideFold):
        tables = []
        filters = ("task.verified.*", "worker.*.*")

    places = by_event([Two, *SIDES])
    assert set(places) == set(ev.EVENT_TYPES)
    assert [event.name for event in ev.EVENT_TYPES if 0 in places[event]] == [
        "task.verified",
        "worker.joined",
        "worker.tiered",
        "worker.left",
    ]


def test_the_gateway_reads_what_its_sides_fold() -> None:
    for side in SIDES:
        for event in ev.EVENT_TYPES:
            if subjects.taken(side.filters, event.name):
                assert subjects.taken(Views.filters, event.name), (side, event)
