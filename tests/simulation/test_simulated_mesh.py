"""Thousands of meshes in storms, each from a seed (docs/simulation.md).

SHARDY_SIM_SEEDS=n runs n seeds, SHARDY_SIM_SEED=n replays one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import storms
from mesh_faults import COUNTED, KINDS
from mesh_oracle import check

from shardy_common.wire.events import EVENT_TYPES

SEEDS = int(os.environ.get("SHARDY_SIM_SEEDS", "10000"))
ONE = os.environ.get("SHARDY_SIM_SEED")
CEREMONIES = "ceremony."  # no world holds one
A_FEW = 240  # where all of them would take too long
METHODS = ("quorum", "audit", "arbitration", "trust", "canary", "proof")
ENOUGH = 1_000  # seeds in which everything that may happen does
HASHES_APART = 60


def words(totals: storms.Totals) -> str:
    by_kind: dict[str, list[str]] = defaultdict(list)
    for what, times in sorted(totals.tally.items()):
        kind, _, name = what.rpartition(": ")
        by_kind[kind or "fault"].append(f"{name} {times}")
    lines = [f"{totals.worlds} worlds, {totals.events} events"]
    return "\n".join(lines + [f"{kind}: {', '.join(names)}" for kind, names in by_kind.items()])


def holds(totals: storms.Totals) -> None:
    print("\n" + words(totals))
    if totals.failed is not None:
        seed, why = totals.failed
        pytest.fail(f"seed {seed} fails; SHARDY_SIM_SEED={seed} replays it: {why}", pytrace=False)


@pytest.mark.skipif(not ONE, reason="replays the seed that SHARDY_SIM_SEED names")
def test_storms_of_one_seed_end_well() -> None:
    mesh = storms.storm(int(ONE or "0"))
    print(f"\n{mesh.shape}: {len(mesh.log.events)} events, {dict(mesh.tally)}")


@pytest.mark.skipif(bool(ONE), reason="one seed is replayed")
def test_some_storms_end_well() -> None:
    holds(storms.run_many(1_000_000, min(A_FEW, SEEDS)))


@pytest.mark.slow
@pytest.mark.alone  # it takes every core
@pytest.mark.timeout(1_800)
@pytest.mark.skipif(bool(ONE), reason="one seed is replayed")
def test_storms_end_well() -> None:
    totals = storms.run_many(0, SEEDS)
    holds(totals)
    assert totals.worlds == SEEDS
    if SEEDS >= ENOUGH:  # a storm in which nothing happens shows nothing
        happened = [*COUNTED, *(f"verdict: {method}" for method in METHODS), *(f"worlds: {kind}" for kind in KINDS)]
        happened += [f"event: {event.name}" for event in EVENT_TYPES if not event.name.startswith(CEREMONIES)]
        happened += ["worlds: large", "wrong on trust", "caught by a canary", "void tasks"]
        happened += ["matchmakers gone for good", "quorums gone for good", "jobs that went on twice", "taken for gone"]
        happened += [f"rejected: {cause}" for cause in ("late", "failed", "wrong", "missing", "version")]
        happened += [f"looked at again: {outcome}" for outcome in ("right", "missing", "wrong")]
        happened += ["wrong tiles that were drawn", "wrong tiles that were not drawn", "right results without a proof"]
        happened += ["proofs within a grace", "proofs behind a revocation", "proofs after their rejection"]
        happened += ["prover-verifiers gone for good", "jobs that no circuit proved for now"]
        happened += ["changes of verifiers refused", "changes of verifiers decided again", "versions claimed twice"]
        missing = [what for what in happened if totals.tally[what] < SEEDS // ENOUGH]
        assert not missing, "never happened, or hardly ever"
        drawn, not_drawn = (totals.tally[f"wrong tiles that were {what}"] for what in ("drawn", "not drawn"))
        assert not_drawn < drawn
        assert totals.tally["wrong on trust"] < totals.tally["verdict: trust"] / 4


def test_a_seed_replays_to_the_same_log() -> None:
    """In another process too, whatever order Python's sets have there."""
    here = Path(__file__).parent
    code = f"import storms; print(storms.fingerprint(range({HASHES_APART})), storms.fingerprint(range(4), large=True))"
    logs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=here,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(logs) == 1


def test_a_broken_promise_is_told_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storms, "check_end", lambda mesh: check(mesh.seed < 3, "seed", mesh.seed))
    totals = storms.run(range(6))
    assert totals.worlds == 3 and totals.failed is not None and totals.failed[0] == 3
    with pytest.raises(pytest.fail.Exception, match="seed 3 fails; SHARDY_SIM_SEED=3 replays it"):
        holds(totals)
