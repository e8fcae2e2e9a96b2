"""Two minutes of load with random faults (SHARDY_SOAK_S: of another length): nothing is lost, memory stays flat.

A seed that fails is named: SHARDY_SOAK_SEED repeats its faults, though not their moments to the millisecond."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bench.faults.soaking import WATCHED, soak

SECONDS = float(os.environ.get("SHARDY_SOAK_S", "120"))
GROWTH_MIB_PER_MIN_MAX = 30.0  # a leak of a kilobyte for each event would be steeper
MEMORY_MIB_MAX = 400.0


@pytest.mark.timeout(SECONDS + 400)
async def test_a_mesh_under_random_faults_keeps_its_word_and_its_size(tmp_path: Path) -> None:
    seed = int(os.environ.get("SHARDY_SOAK_SEED", time.time_ns() % 1_000_000))
    print(f"SHARDY_SOAK_SEED={seed} repeats these faults")
    outcome = await soak(tmp_path, SECONDS, seed)
    assert len(outcome.faults) >= SECONDS / 20 and outcome.verified >= SECONDS, "it was a quiet day: nothing is shown"
    for name in WATCHED:
        growth, last = outcome.growth_mib_per_min(name), outcome.memory[name][-1][1]
        assert growth < GROWTH_MIB_PER_MIN_MAX, f"{name} grows by {growth:.1f} MiB a minute"
        assert last < MEMORY_MIB_MAX, f"{name} takes {last:.0f} MiB"
