"""Events: each type survives its codec, names its own subject, and old versions are read for ever."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardy_common import ids
from shardy_common.carving import Cursor
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_common.wire.job import JobSpec, Operand, Pre, ProofPlan, Tile

TOKENS = st.sampled_from(["j01h2", "12D3KooWx", "a_b-c", "Z"]) | st.text("abzAZ09_-", min_size=1, max_size=12)
NUMBERS = st.integers(0, 2**53)
FLOATS = st.floats(0, 1e9)
TEXT = st.text(max_size=12)
OPERANDS = st.builds(Operand, TOKENS, st.sampled_from(["int8", "float32"]), NUMBERS, NUMBERS)
PRES = st.builds(Pre, FLOATS, FLOATS, st.sampled_from([-1, 0, 1]), FLOATS, NUMBERS, st.just("row"), NUMBERS)
SPECS = st.builds(
    JobSpec,
    TOKENS,
    st.dictionaries(TOKENS, OPERANDS, max_size=2),
    pre=st.none() | PRES,
    task_rows=st.none() | NUMBERS,
    proof=st.none() | st.builds(ProofPlan, TOKENS, NUMBERS),
)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: TOKENS,
    bool: st.booleans(),
    tuple[int, int, int]: st.tuples(NUMBERS, NUMBERS, NUMBERS),
    int: NUMBERS,
    float: FLOATS,
    Tile: st.builds(Tile, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    JobSpec: SPECS,
    Cursor: st.builds(Cursor, NUMBERS, NUMBERS, NUMBERS),
    list[tuple[str, Tile]]: st.lists(
        st.tuples(TOKENS, st.builds(Tile, NUMBERS, NUMBERS, NUMBERS, NUMBERS)), max_size=3
    ),
    ev.Probe: st.builds(ev.Probe, FLOATS, FLOATS, NUMBERS, TEXT, TEXT, TEXT, TEXT, FLOATS, NUMBERS),
    ev.ProverFiles | None: st.none() | st.builds(ev.ProverFiles, TOKENS, NUMBERS, NUMBERS, TOKENS, NUMBERS, NUMBERS),
    list[ev.Lease]: st.lists(st.builds(ev.Lease, TOKENS, TOKENS, TOKENS, NUMBERS), max_size=3),
    list[str]: st.lists(TOKENS, max_size=3),
    dict[str, str]: st.dictionaries(TOKENS, TEXT, max_size=3),
    dict[str, float]: st.dictionaries(TOKENS, FLOATS, max_size=3),
    list[ev.Carved]: st.lists(
        st.builds(
            ev.Carved,
            TOKENS,
            st.builds(Tile, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
            st.lists(st.builds(ev.Lease, TOKENS, TOKENS, TOKENS, NUMBERS), max_size=2),
            NUMBERS,
        ),
        max_size=3,
    ),
    list[ev.HandedIn]: st.lists(
        st.builds(
            ev.HandedIn,
            TOKENS,
            TOKENS,
            TOKENS,
            st.lists(
                st.builds(
                    ev.Answered,
                    TOKENS,
                    TOKENS,
                    TOKENS,
                    NUMBERS,
                    FLOATS,
                    TOKENS,
                    NUMBERS,
                    st.dictionaries(TOKENS, FLOATS, max_size=2),
                ),
                max_size=2,
            ),
        ),
        max_size=3,
    ),
    dict[str, list[str]]: st.dictionaries(TOKENS, st.lists(TOKENS, max_size=3), max_size=3),
}


def events_of(kind: type[ev.Event]) -> st.SearchStrategy[ev.Event]:
    hints = get_type_hints(kind)
    return st.builds(kind, **{f.name: BY_TYPE[hints[f.name]] for f in msgspec.structs.fields(kind)})


EVERY = st.one_of(*map(events_of, ev.EVENT_TYPES))


@pytest.mark.parametrize("kind", ev.EVENT_TYPES, ids=lambda kind: kind.__name__)
@settings(max_examples=12)
@given(data=st.data())
def test_round_trip_tag_and_subject(kind: type[ev.Event], data: Any) -> None:
    event = data.draw(events_of(kind))
    encoded = ev.encode(event)
    assert ev.decode(encoded) == event
    assert type(ev.decode(encoded)) is kind
    name, version = msgspec.json.decode(encoded)["e"].split("/")
    assert name == kind.name and int(version) >= 1
    tokens = event.subject.split(".")
    assert ".".join(tokens[:2]) == kind.name and tokens[2] == event.entity_id and len(tokens) == 3
    assert all(ids.is_token(token) for token in tokens)
    assert tokens[0] in subjects.ENTITIES, "the stream takes it"


def test_every_event_has_a_tag_of_its_own() -> None:
    tags = [kind.__struct_config__.tag for kind in ev.EVENT_TYPES]
    assert len(set(tags)) == len(tags)
    leaves = {kind for kind in _leaves(ev.Event) if kind.__module__.startswith("shardy_common.wire.")}
    assert leaves == set(ev.EVENT_TYPES), "an event type that the decoder does not know is poison to every reader"


def _leaves(kind: type) -> Iterator[type]:
    children = kind.__subclasses__()
    if not children:
        yield kind
    for child in children:
        yield from _leaves(child)


GARBAGE = [
    b"",
    b"\0",
    b"{",
    b"[]",
    b"3",
    b'"text"',
    b"null",
    b"{}",
    b'{"e": 1}',
    b'{"e": []}',
    b'{"e": {}}',
    b'{"e": "task.created/99", "task": "t", "job": "j"}',
    b'{"e": "task.created/1", "task": "t"}',
    b'{"e": "job.completed/1", "job": "j", "cells": "many", "tasks": 1}',
    b'{"e": "job.completed/1", "job": "j", "cells": 1e999, "tasks": 1}',
    b'{"e": "job.completed/1", "job": "\xff", "cells": 1, "tasks": 1}',
    b'{"e":' + b"[" * 100_000,
    b'{"a":' * 100_000,
]


@pytest.mark.parametrize("payload", GARBAGE, ids=lambda payload: repr(payload[:24]))
def test_garbage_is_an_undecodable_event(payload: bytes) -> None:
    with pytest.raises(ev.UndecodableEvent):
        ev.decode(payload)


@settings(max_examples=150)
@given(EVERY, st.data())
def test_mutated_events_decode_or_are_undecodable(event: ev.Event, data: Any) -> None:
    encoded = bytearray(ev.encode(event))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(encoded) - 1))
        if data.draw(st.booleans()):
            encoded[at] = data.draw(st.integers(0, 255))
        else:
            del encoded[at : at + 5]
            encoded += b"}"
    with contextlib.suppress(ev.UndecodableEvent):
        assert isinstance(ev.decode(bytes(encoded)), ev.Event)


@pytest.fixture
def upcasters() -> Iterator[dict[str, Any]]:
    before = dict(ev.UPCASTERS)
    yield ev.UPCASTERS
    ev.UPCASTERS.clear()
    ev.UPCASTERS.update(before)


def test_old_versions_are_upcast_step_by_step(upcasters: dict[str, Any]) -> None:
    upcasters["job.completed/-1"] = lambda old: {"e": "job.completed/0", "id": old["identity"], "n": old["n"]}
    upcasters["job.completed/0"] = lambda old: {"e": "job.completed/1", "job": old["id"], "cells": old["n"], "tasks": 1}
    assert ev.decode(b'{"e": "job.completed/0", "id": "j1", "n": 12}') == ev.JobCompleted("j1", 12, 1)
    assert ev.decode(b'{"e": "job.completed/-1", "identity": "j1", "n": 12}') == ev.JobCompleted("j1", 12, 1)


def test_an_upcaster_that_fails_or_loops_makes_poison_and_no_crash(upcasters: dict[str, Any]) -> None:
    upcasters["job.completed/0"] = lambda old: {"e": "job.completed/1", "job": old["missing"]}
    upcasters["job.failed/0"] = lambda old: old
    upcasters["job.cancelled/0"] = lambda old: old["job"].upper.nothing
    for name in ("job.completed/0", "job.failed/0", "job.cancelled/0"):
        with pytest.raises(ev.UndecodableEvent):
            ev.decode(msgspec.json.encode({"e": name, "job": "j1"}))
