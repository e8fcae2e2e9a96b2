"""The shape of every event version, as it was when somebody wrote it down.

`python tests/wire/event_schemas.py` adds what is new to event_schemas.json, and refuses what would misread events that
stand in logs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec

from shardy_common.wire import events as ev

FILE = Path(__file__).with_name("event_schemas.json")
Schema = dict[str, dict[str, list[Any]]]


def schemas() -> Schema:
    """tag → field → [type, required, default]; parts of events (a lease, a tile) under their names."""
    found: Schema = {}
    for event in ev.EVENT_TYPES:
        found[str(event.__struct_config__.tag)] = _fields(event, found)
    return dict(sorted(found.items()))


def _fields(struct: type[msgspec.Struct], found: Schema) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for field in msgspec.structs.fields(struct):
        for part in _parts(field.type):
            name = f"{part.__name__}{' (list)' if part.__struct_config__.array_like else ''}"
            if name not in found:
                found[name] = {}
                found[name] = _fields(part, found)
        default = "" if field.required else repr(_default(field))
        out[field.encode_name] = [_text(field.type), field.required, default]
    return out


def _parts(kind: Any) -> list[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [part for argument in get_args(kind) for part in _parts(argument)]


def _text(kind: Any) -> str:
    arguments = get_args(kind)
    if not arguments:
        return "none" if kind is type(None) else str(kind.__name__)
    name = getattr(kind, "__origin__", None)
    inner = ", ".join(map(_text, arguments))
    return (
        f"{name.__name__}[{inner}]" if isinstance(name, type) and name.__module__ == "builtins" else f"one of {inner}"
    )


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def changes(old: Schema, new: Schema) -> list[str]:
    """What in new would misread events that were written under old."""
    wrong = []
    for name, fields in old.items():
        if name not in new:
            if "/" in name and name not in ev.UPCASTERS:
                wrong.append(f"{name} is gone, and no upcaster reads it")
            continue
        for field, known in fields.items():
            if field not in new[name]:
                wrong.append(f"{name} lost its field {field}")
            elif new[name][field] != known:
                wrong.append(f"{name}: {field} was {known}, and is {new[name][field]}")
        wrong += [
            f"{name} got the field {field} without a default"
            for field, (_, required, _) in new[name].items()
            if field not in fields and required
        ]
        order, now = list(fields), list(new[name])
        if name.endswith("(list)") and now[: len(order)] != order:
            wrong.append(f"{name} is written as a list, and its fields {', '.join(order)} have moved")
    return wrong


def main() -> int:
    old: Schema = json.loads(FILE.read_text()) if FILE.exists() else {}
    wrong = changes(old, schemas())
    if wrong:
        print("\n".join([*wrong, "make it a new version of the event (CONTRIBUTING.md)"]), file=sys.stderr)
        return 1
    kept = {**{name: fields for name, fields in old.items() if "/" in name}, **schemas()}
    FILE.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
