"""Dead letters as the gateway folds and lists them: states, filters, pages that stay where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mesh_events import Story

from shardy_common.log import Projection
from shardy_common.wire import events as ev
from shardy_gateway.letters import Letters
from shardy_gateway.views import TABLES, VERSION, Views


class Given:
    def __init__(self, path: Path) -> None:
        self.story, self.views = Story(), Views()
        self.projection = Projection(path, TABLES, version=VERSION)
        self.views.load(self.projection)
        self.views.flush = self.flush

    @property
    def letters(self) -> Letters:
        return self.views.letters

    def then(self, *events: ev.Event) -> Given:
        for recorded in self.story.add(*events):
            self.views.evolve(recorded)
        return self

    def flush(self) -> None:
        self.projection.commit(self.views.rows(), len(self.story.log.events))

    def entries(self, **query: Any) -> list[str]:
        return [letter.entry for letter in self.letters.page(**query)]


@pytest.fixture
def given(tmp_path: Path) -> Any:
    given = Given(tmp_path / "g.db")
    yield given
    given.projection.close()


def letter(entry: str, cause: str = "poison") -> ev.DlqRecorded:
    return ev.DlqRecorded(entry, cause, f"job.failed.{entry}", 7, {"trace": f"trace of {entry}", "reader": "x"})


def test_a_letters_life(given: Given) -> None:
    given.story.at(50)
    given.then(letter("e1"), letter("e2"), letter("e3"))
    shown = given.letters.page()[-1].shown()
    assert shown == {
        "entry": "e1",
        "cause": "poison",
        "state": "open",
        "subject": "job.failed.e1",
        "seq": 7,
        "at_ms": 50,
        "trace": "trace of e1",
        "evidence": {"trace": "trace of e1", "reader": "x"},
        "closed_by": None,
        "closed_ms": None,
        "outcome": None,
    }
    given.story.at(60)
    given.then(ev.DlqReplayed("e1", "op", "done"), ev.DlqDiscarded("e2", "op2", "a reason"))
    one, two = given.letters.get("e1"), given.letters.get("e2")
    assert one is not None and two is not None
    assert (one.state, one.closed_by, one.closed_ms, one.outcome) == ("replayed", "op", 60, "done")
    assert (two.state, two.closed_by, two.closed_ms, two.outcome) == ("discarded", "op2", 60, "a reason")
    assert given.letters.get("e3").state == "open" and given.letters.get("e4") is None  # type: ignore[union-attr]


def test_filters(given: Given) -> None:
    given.then(letter("p1"), letter("f1", "fraud"), letter("p2"), letter("f2", "fraud"))
    given.then(ev.DlqReplayed("p1", "op", "x"), ev.DlqDiscarded("f1", "op", "x"))
    assert given.entries() == ["f2", "p2", "f1", "p1"]
    assert given.entries(cause="fraud") == ["f2", "f1"] and given.entries(cause="unresolved") == []
    assert given.entries(state="open") == ["f2", "p2"] and given.entries(state="replayed") == ["p1"]
    assert given.entries(cause="fraud", state="discarded") == ["f1"]


def test_pages_are_stable(given: Given) -> None:
    """Between two pages letters come, and some are closed: the rest follows without gaps or repeats."""
    given.then(*(letter(f"e{i}") for i in range(5)))
    first = given.letters.page(2)
    assert [x.entry for x in first] == ["e4", "e3"]
    given.then(letter("e5"), ev.DlqReplayed("e3", "op", "x"), ev.DlqReplayed("e2", "op", "x"))
    second = given.letters.page(2, first[-1].at)
    assert [x.entry for x in second] == ["e2", "e1"]
    assert [x.entry for x in given.letters.page(2, second[-1].at)] == ["e0"]


def test_what_a_batch_brings_is_listed_before_it_is_committed(given: Given) -> None:
    given.then(letter("e1"))
    given.flush()
    given.then(ev.DlqReplayed("e1", "op", "x"))
    assert given.entries(state="open") == [] and given.entries() == ["e1"]
