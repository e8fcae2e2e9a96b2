"""Suite `soak`: half an hour of steady load with random faults, the history checked at the end.

SHARDY_SOAK_S: seconds (1800); SHARDY_SOAK_SEED: which faults (1). Curves of memory and latency go to bench/out.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

from bench.curves import Line, chart
from bench.faults.soaking import WATCHED, Outcome, soak

SECONDS = 1_800.0
OUT = Path(__file__).parent / "out"


def run() -> list[dict[str, Any]]:
    seconds, seed = float(os.environ.get("SHARDY_SOAK_S", SECONDS)), int(os.environ.get("SHARDY_SOAK_SEED", "1"))
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(soak(Path(folder), seconds, seed))
    _curves(outcome)
    half = [[s for at, s in outcome.latencies if (at > seconds / 2) is late] for late in (False, True)]
    figures = [
        _figure("soak_s", outcome.seconds, "s"),
        _figure("soak_faults", len(outcome.faults), ""),
        _figure("soak_jobs", outcome.jobs, ""),
        _figure("soak_tasks_verified", outcome.verified, ""),
        _figure("soak_errors_seen_by_clients", outcome.errors, ""),
        _figure("soak_violations", 0, "", "0"),  # one would have ended the run with its words
    ]
    for name, seen in zip(("first_half", "second_half"), half, strict=True):
        figures += [
            _figure(f"soak_job_{name}_p50_s", _quantile(seen, 0.5), "s"),
            _figure(f"soak_job_{name}_p99_s", _quantile(seen, 0.99), "s"),
        ]
    for name in WATCHED:
        figures.append(_figure(f"soak_memory_{name}_mib", outcome.memory[name][-1][1], "MiB"))
        figures.append(_figure(f"soak_memory_{name}_growth", outcome.growth_mib_per_min(name), "MiB/min", "flat"))
    return figures


def _curves(outcome: Outcome) -> None:
    OUT.mkdir(exist_ok=True)
    memory = [Line(name, outcome.memory[name]) for name in WATCHED if outcome.memory.get(name)]
    (OUT / "soak-memory.svg").write_text(chart("Memory under faults", "seconds", "MiB", memory))
    if outcome.latencies:
        line = [Line("one job", sorted(outcome.latencies))]
        (OUT / "soak-latency.svg").write_text(chart("Jobs under faults", "seconds", "seconds a job", line))


def _quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)] if ordered else 0.0


def _figure(name: str, value: float, unit: str, aim: str = "") -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "compared_with": "", "ratio": None, "aim": aim}
