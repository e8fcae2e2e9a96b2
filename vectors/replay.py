"""Run vectors/engine.json on an engine module through the Python binding."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "libs")]

from generate import array  # noqa: E402

from shardy_common.engine import Engine  # noqa: E402
from shardy_common.engine import reference as ref  # noqa: E402

Args = dict[str, Any]


def cases() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((HERE / "engine.json").read_text())["cases"]
    return loaded


def matches(got: np.ndarray[Any, Any] | bytes, want: dict[str, str]) -> bool:
    """Are these the expected bytes?"""
    raw = got if isinstance(got, bytes) else ref.as_bytes(got)
    return raw.hex() == want["hex"] if "hex" in want else ref.blake3(raw).hex() == want["blake3"]


def _preexec(engine: Engine, args: Args) -> dict[str, Any]:
    x = array(args["x"])
    rule = {key: value for key, value in args.items() if key not in {"x", "splits"}}
    whole = engine.preexec(x, row0=0, rows=len(x), **rule)
    for row0, rows in args["splits"]:
        part = engine.preexec(x[row0 - min(rule["warm_rows"], row0) : row0 + rows], row0=row0, rows=rows, **rule)
        expected = [ref.as_bytes(values[row0 : row0 + rows]) for values in (whole[0], whole[1])]
        if [ref.as_bytes(part[0]), ref.as_bytes(part[1])] != expected:
            return {"q": b"", "scale": b""}
    return dict(zip(("q", "scale"), whole, strict=True))


def _freivalds(engine: Engine, args: Args) -> dict[str, Any]:
    a, b = array(args["a"]), array(args["b"])
    c = engine.matmul_i8(a, b).astype(np.int64)
    for row, column, delta in args["edits"]:
        c[row, column] += delta
    return {"bad": engine.freivalds(a, b, c.astype(np.int32), bytes.fromhex(args["seed"]), args["rounds"])}


def _quantise(engine: Engine, args: Args) -> dict[str, Any]:
    absmax = args["tensor_absmax"]
    q, scale = engine.quantise(array(args["x"]), None if absmax < 0 else absmax)
    return {"q": q, "scale": scale}


RUN: dict[str, Callable[[Engine, Args], dict[str, Any]]] = {
    "clamp": lambda e, v: {"y": e.clamp(array(v["x"]), v["lo"], v["hi"])},
    "ema": lambda e, v: {"y": e.ema(array(v["x"]), v["axis"], v["alpha"])},
    "quantise": _quantise,
    "dequantise": lambda e, v: {"d": e.dequantise(array(v["c"]), array(v["a_scale"]), array(v["b_scale"]))},
    "preexec": _preexec,
    "matmul": lambda e, v: {"c": e.matmul_i8(array(v["a"]), array(v["b"]))},
    "freivalds": _freivalds,
    "blake3": lambda e, v: {"digest": e.blake3(array(v["data"]))},
    "xof": lambda e, v: {"out": e.xof(array(v["data"]).tobytes(), v["bytes"])},
    "probe": lambda e, v: {"digest": e.probe(bytes.fromhex(v["seed"]), v["m"], v["n"], v["k"], v["rounds"])},
}


def outcomes(engine: Engine) -> Iterator[tuple[str, bool]]:
    """(case, passed) for every case."""
    for item in cases():
        got, want = RUN[item["function"]](engine, item["args"]), item["want"]
        passed = got.keys() == want.keys() and all(
            got[key] == want[key] if isinstance(want[key], list) else matches(got[key], want[key]) for key in want
        )
        yield f"{item['function']}: {item['name']}", passed


def failures(module: bytes | None = None) -> list[str]:
    """The cases that a module (the committed one when absent) does not meet."""
    return [name for name, passed in outcomes(Engine(module)) if not passed]
