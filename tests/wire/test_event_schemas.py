"""Events that stand in logs keep their meaning: a version's fields neither change nor vanish."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from event_schemas import FILE, Schema, changes, schemas

from shardy_common.wire import events as ev

WRITTEN: Schema = json.loads(FILE.read_text())


def test_no_version_has_changed() -> None:
    assert changes(WRITTEN, schemas()) == [], "make it a new version of the event (CONTRIBUTING.md)"


def test_every_version_is_written_down() -> None:
    missing = {
        f"{name}.{field}"
        for name, fields in schemas().items()
        for field in fields
        if field not in WRITTEN.get(name, ())
    }
    assert missing == set(), "python tests/wire/event_schemas.py writes them down"


def _drop(schema: Schema) -> None:
    del schema["task.created/1"]["tile"]


def _retype(schema: Schema) -> None:
    schema["task.verified/1"]["ops"][0] = "float"


def _require(schema: Schema) -> None:
    schema["result.submitted/1"]["sig"][1] = True


def _another_default(schema: Schema) -> None:
    schema["key.issued/1"]["expires_ms"][2] = "1"


def _new_required(schema: Schema) -> None:
    schema["job.failed/1"]["again"] = ["bool", True, ""]


def _part(schema: Schema) -> None:
    schema["Operand"]["rows"][0] = "str"


def _moved(schema: Schema) -> None:
    (name,) = [name for name in schema if name.startswith("Tile")]
    schema[name] = dict(reversed(schema[name].items()))


def _gone(schema: Schema) -> None:
    del schema["worker.left/1"]


@pytest.mark.parametrize("change", [_drop, _retype, _require, _another_default, _new_required, _part, _moved, _gone])
def test_a_change_without_a_new_version_is_found(change: Callable[[Schema], None]) -> None:
    changed = copy.deepcopy(schemas())
    change(changed)
    assert len(changes(WRITTEN, changed)) == 1


def test_a_new_version_and_a_field_with_a_default_are_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = copy.deepcopy(schemas())
    changed["job.failed/1"]["note"] = ["str", False, "''"]
    changed["worker.left/2"] = {**changed.pop("worker.left/1"), "why": ["str", True, ""]}
    upcasters: dict[str, Any] = {"worker.left/1": lambda old: old}
    monkeypatch.setattr(ev, "UPCASTERS", ev.UPCASTERS | upcasters)
    assert changes(WRITTEN, changed) == []
