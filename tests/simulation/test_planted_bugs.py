"""Every planted bug is found within its number of seeds, and by the fault that it names (mutations.py)."""

from __future__ import annotations

import mutations
import pytest
import storms
from mesh_faults import FAULTS, PROVER_FAULTS, PROVING_FAULTS

LEAST = 25
CORES = (
    "matchmaker",
    "quorum",
    "dlq",
    "gateway",
    "prover-verifier",
    "gossip-bridge",
    "common/log",
    "common/service",
    "common/verifiers",
)
ASTRAY = ("appends lost", "answers lost", "bytes that were missing")  # things that go astray one by one


@pytest.mark.timeout(900)
def test_each_planted_bug_is_found() -> None:
    with storms.processes() as executor:
        hunts = list(executor.map(mutations.hunt, mutations.MUTATIONS))
    for hunt in hunts:
        mutation = mutations.MUTATIONS[hunt.name]
        print(f"{mutation.module}: {mutation.what} [{mutation.needs or 'any'}] seed {hunt.seed}: {hunt.says[:100]}")
    missed = [f"{hunt.name} in {mutations.MUTATIONS[hunt.name].seeds} seeds" for hunt in hunts if hunt.seed < 0]
    assert not missed, "seen by no world"
    needless = [f"{hunt.name}: {hunt.without[:200]}" for hunt in hunts if hunt.without]
    assert not needless, "found without the fault that it names"


def test_every_core_and_every_fault_has_its_bug() -> None:
    found = mutations.MUTATIONS.values()
    assert len(found) >= LEAST
    for core in CORES:
        assert any(core in mutation.module for mutation in found), core
    needed = {mutation.needs for mutation in found}
    assert {*FAULTS, *ASTRAY, *PROVING_FAULTS} <= needed
    assert needed <= {"", mutations.NOTHING, *FAULTS, *ASTRAY, *PROVING_FAULTS, *PROVER_FAULTS}
