"""The engine beside NumPy: products, pre-execution, Freivalds checks. One core each, all in one process and one run.

Measured in turns, so that a busy machine slows both sides; each figure is the median of REPEATS turns.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from shardy_common.engine import Engine
from shardy_common.engine.binding import Int8

SIDE = 1024
ROWS, COLS = 4096, 1024
REPEATS = 15
# NumPy's BLAS takes its thread count from the environment when it is loaded, so the comparison runs in a process of
# its own where these say one.
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "OMP")}

Timed = dict[str, float]


def in_turns(work: dict[str, Callable[[], object]], repeats: int = REPEATS) -> Timed:
    """Median seconds of each function, called in turns after one call to warm up."""
    for call in work.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


def numpy_preexec(x: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The same clamp, EMA down the rows, and quantise by row, as NumPy code would have it."""
    y = np.clip(np.nan_to_num(x, nan=-2.0), np.float32(-2), np.float32(2))
    for row in range(1, len(y)):
        y[row] = y[row - 1] + np.float32(0.1) * (y[row] - y[row - 1])
    m = np.abs(y).max(axis=1, keepdims=True)
    q = np.clip(np.rint(y * (np.float32(127) / m)), -127, 127).astype(np.int8)
    return q, (m / np.float32(127))[:, 0]


def product_times(engine: Engine, a: Int8, b: Int8) -> Timed:
    wide_a, wide_b = a.astype(np.float32), b.astype(np.float32)
    exact_a, exact_b = a.astype(np.float64), b.astype(np.float64)
    c, seed = engine.matmul_i8(a, b), secrets.token_bytes(32)
    with engine.load(a) as left, engine.load(b) as right, engine.load(c) as result:
        inside = (left.ptr, right.ptr, result.ptr, SIDE, SIDE, SIDE)
        return in_turns({
            "matmul": lambda: engine.matmul_i8(a, b),
            "matmul inside": lambda: engine.instance.checked("matmul_i8", *inside),
            "numpy f32": lambda: wide_a @ wide_b.T,
            "numpy f64": lambda: exact_a @ exact_b.T,
            "freivalds": lambda: engine.freivalds(left, right, result, seed, 2),
            "freivalds arrays": lambda: engine.freivalds(a, b, c, seed, 2),
        })  # fmt: skip


def preexec_times(engine: Engine) -> Timed:
    x = np.random.default_rng(1).standard_normal((ROWS, COLS), dtype=np.float32)
    other = np.empty_like(x)
    with engine.load(x) as values, engine.alloc(x.size) as q, engine.alloc(4 * ROWS) as scale:

        def inside(axis: int) -> Callable[[], object]:
            arguments = (values.ptr, ROWS, 0, COLS, -2.0, 2.0, axis, 0.1, -1.0, q.ptr, scale.ptr)
            return lambda: engine.instance.checked("preexec_f32", *arguments)

        return in_turns({
            "axis -1": inside(-1), "axis 0": inside(0), "axis 1": inside(1), "numpy": lambda: numpy_preexec(x),
            "copy": lambda: np.copyto(other, x),
        })  # fmt: skip


def measure() -> list[dict[str, Any]]:
    """The figures; call it where NumPy has one thread."""
    engine, rng = Engine(), np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, (SIDE, SIDE), dtype=np.int8) for _ in range(2))
    products, streams = product_times(engine, a, b), preexec_times(engine)
    operations, nbytes = 2 * SIDE**3, 4 * ROWS * COLS

    def row(name: str, value: float, unit: str, other: str, compared: float, aim: str) -> dict[str, Any]:
        return {"name": name, "value": value, "unit": unit, "compared_with": f"{other}: {compared:.4g} {unit}",
                "ratio": value / compared, "aim": aim}  # fmt: skip

    def gops(name: str) -> float:
        return operations / products[name] / 1e9

    def rate(name: str) -> float:
        return nbytes / streams[name] / 1e9

    result = 4 * SIDE * SIDE
    # Host to linear memory: A and B. Linear memory to host: C. What the engine moves inside (packing) is not a copy of
    # the caller's data between memories and is not counted.
    copied = (a.nbytes + b.nbytes + result) / result
    figures = [
        row("matmul_i8_gops", gops("matmul"), "GOPS", "NumPy float32 product, one thread", gops("numpy f32"), "> 40"),
        row("matmul_i8_gops_inside", gops("matmul inside"), "GOPS", "the same with copies", gops("matmul"), "> 40"),
        row("freivalds_1024_ms", products["freivalds"] * 1e3, "ms", "NumPy float64 product, one thread",
            products["numpy f64"] * 1e3, "about 1, two rounds"),
        row("freivalds_1024_arrays_ms", products["freivalds arrays"] * 1e3, "ms", "NumPy float64 product, one thread",
            products["numpy f64"] * 1e3, "with copies of A, B and C"),
        row("preexec_gb_per_s", rate("axis 0"), "GB/s", "NumPy, the same steps (EMA down the rows)", rate("numpy"),
            "near the copy rate"),
    ]  # fmt: skip
    for axis in ("axis -1", "axis 0", "axis 1"):
        name = f"preexec_gb_per_s_{axis.replace(' ', '_').replace('-', 'minus')}"
        figures.append(row(name, rate(axis), "GB/s", "memory copy", rate("copy"), "near the copy rate"))
    figures.append(row("copied_bytes_per_result_byte", copied, "bytes", "the result alone", 1.0, "A, B in; C out"))
    return figures


def run() -> list[dict[str, Any]]:
    """[{name, value, unit, compared_with, ratio, aim}, …], measured in a process where NumPy has one thread."""
    command = [sys.executable, os.path.abspath(__file__)]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=True)
    figures: list[dict[str, Any]] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    print(json.dumps(measure()))
