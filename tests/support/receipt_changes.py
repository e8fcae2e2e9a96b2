"""Receipts of every kind, everything that one place of a receipt may be changed to, and what a mesh that lies signs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from made_receipts import Device, signed_again

from shardy_common.receipts import task_leaf
from shardy_common.receipts.tree import GrowingRoot

CASES: dict[str, dict[str, Any]] = {
    "quorum": {},
    "float32": {"floats": True},
    "stream": {"kind": "stream"},
    "audit": {"policy": "audit", "method": "audit", "rounds": 2, "replicas": 1},
    "arbitration by audit": {"method": "arbitration", "rounds": 2, "replicas": 1},
    "arbitration by agreement": {"kind": "stream", "method": "arbitration"},
    "trust": {"policy": "adaptive", "method": "trust", "replicas": 1},
    "adaptive quorum": {"policy": "adaptive"},
    "canary": {"policy": "canary", "method": "canary", "replicas": 1},
    "before workers signed": {"signed": False},
}
Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every map, list and leaf of a document."""
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def at(document: Any, path: Path) -> Any:
    for key in path:
        document = document[key]
    return document


def changes(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Documents that differ from this one in just one place, and what was done."""
    for path, value in places(document):

        def altered(act: Callable[[Any], None], path: Path = path) -> dict[str, Any]:
            copied = copy.deepcopy(document)
            act(at(copied, path))
            return copied

        def replaced(new: Any, path: Path = path) -> dict[str, Any]:
            copied = copy.deepcopy(document)
            at(copied, path[:-1])[path[-1]] = new
            return copied

        name = ".".join(map(str, path))
        if isinstance(value, dict):
            yield f"{name}: a field more", altered(lambda m: m.update(more=1))
            for key in value:
                yield f"{name}.{key} dropped", altered(lambda m, key=key: m.pop(key))
        elif isinstance(value, list):
            yield f"{name}: an item more", altered(lambda m: m.append(m[0] if m else "x"))
            for i in range(len(value)):
                yield f"{name}.{i} dropped", altered(lambda m, i=i: m.pop(i))
            for i in range(len(value) - 1):
                if value[i] != value[i + 1]:
                    yield f"{name}: {i} and {i + 1} swapped", altered(lambda m, i=i: m.insert(i, m.pop(i + 1)))
        elif isinstance(value, str):
            for i in (0, len(value) // 2, len(value) - 1) if value else ():
                other = "1" if value[i] == "0" else "0"
                yield f"{name}: character {i}", replaced(value[:i] + other + value[i + 1 :])
            yield f"{name} longer", replaced(value + "0")
            yield f"{name} of another type", replaced(1)
        elif isinstance(value, int):
            for new in (value + 1, value - 1, float(value), str(value), True, None):
                yield f"{name} = {new!r}", replaced(new)
        else:
            yield f"{name} = 0", replaced(0)


def lies() -> Iterator[tuple[str, str, Callable[[dict[str, Any]], Any]]]:
    """Changes to a task statement that its signer makes, and what is said of them."""
    yield "tile outside", "not inside", lambda s: s["tile"].__setitem__(1, 99)
    yield "no rows", "not inside", lambda s: s["tile"].__setitem__(1, 0)
    yield "another place", "id is not one", lambda s: s["tile"].__setitem__(0, 2)
    yield "another job", "id is not one", lambda s: s.update(job="j0000000000000002")
    yield "fewer bytes", "bytes where the tile makes", lambda s: s["result"].update(bytes=4)
    yield "another result", "not over this result", lambda s: s["result"].update(digest="0" * 64)
    yield "another kind", "no job that a mesh takes", lambda s: s.update(kind="sum")
    yield "operands that do not fit", "no job that a mesh takes", lambda s: s["operands"]["a"].update(cols=9)
    yield "another dtype", "no job that a mesh takes", lambda s: s["operands"]["a"].update(dtype="float32")
    yield "a policy that there is not", "not known", lambda s: s.update(policy="hope")
    yield "a method that there is not", "gives no verdict", lambda s: s.update(method="hope")
    yield "the method of another policy", "gives no verdict", lambda s: s.update(method="trust")
    yield "rounds that were not made", "makes no rounds", lambda s: s.update(rounds=2)
    yield "a claim too large", "claims something else", lambda s: s.update(claimed="all is well")
    yield "no disclaimer", "claims something else", lambda s: s.update(not_claimed="")
    yield "a bound from nowhere", "error bound", lambda s: s.update(error_bound={"base": "2147483647", "exponent": 2})
    yield "one worker alone", "1 workers where 2 must agree", lambda s: s["workers"].pop()
    yield "a worker twice", "a worker is named twice", lambda s: s["workers"].__setitem__(1, s["workers"][0])
    yield "a lease twice", "a lease is named twice", lambda s: s["workers"].__setitem__(1, s["workers"][0])
    yield "a higher wish", "2 workers where 3 must agree", lambda s: s.update(redundancy=3)
    yield "another's key", "another peer's", lambda s: s["workers"][0].update(key=Device(9).key.hex())
    yield "another's name", "another peer's", lambda s: s["workers"][0].update(worker=Device(9).id)
    yield "another lease", "not over this result", lambda s: s["workers"][0].update(lease=s["task"] + "-7")
    yield "a lease of another task", "of another task", lambda s: s["workers"][0].update(lease="j0-0-0-a-0")
    yield "another place in the frame", "not over this result", lambda s: s["workers"][0].update(index=0)
    yield "a place without such a path", "too long", lambda s: s["workers"][0].update(index=2)
    yield "another frame size", "path", lambda s: s["workers"][0].update(count=9)
    yield "no path", "path", lambda s: s["workers"][0].update(path=[])
    yield "no signature", "unsigned", lambda s: s["workers"][0].update(sig="", index=0, count=1, path=[])
    yield "a signature by the other", "not over", lambda s: s["workers"][0].update(sig=s["workers"][1]["sig"])
    yield "unsigned though signed", "unsigned", lambda s: s.update(unsigned=[s["workers"][0]["worker"]])
    yield "a proof", "no receipt of the format", lambda s: s.update(proof={"a": "1"})
    yield "another format", "no receipt of the format", lambda s: s.update(format="shardy-receipt/2")
    yield "another protocol", "no receipt of the format", lambda s: s.update(protocol=3)


def with_tasks(receipt: dict[str, Any], listed: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A job receipt over other tasks, with a root, a count and a signature that fit them."""
    root = GrowingRoot()
    for task in listed:
        root.add(task_leaf(task))
    statement = {**receipt["statement"], "tasks_root": root.root().hex(), "tasks": len(listed), **fields}
    return signed_again({**receipt, "tasks": listed, "statement": statement})
