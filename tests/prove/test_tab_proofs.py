"""Proofs of the prover of tabs in Node, Bun and Chromium, as others see them, and its words where none can be made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from proofkit import node

from bench.tab_prover import SMALLEST, Follow, order, product
from shardy_common.proofs.parse import parse_proof, parse_publics, parse_vkey
from shardy_common.proofs.signals import public_signals
from shardy_common.proofs.verifier import Verifier

# The first of them waits for circuit and key, and for the key maker where it was not built.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Verifier()


def assert_accepted(made: dict[str, Any], proved: Any, circuit: Path, verifier: Verifier) -> None:
    """By our verifier, with the signals computed here; and not with one of them changed."""
    assert isinstance(proved, dict), proved
    key = verifier.add_key(parse_vkey((circuit / "verification_key.json").read_bytes()))
    signals = list(public_signals(made["circuit"], made["context"], made["a"], made["b"], made["c"]))
    assert parse_publics(json.dumps(proved["publics"]).encode()) == signals
    proof = parse_proof(json.dumps(proved["proof"]).encode())
    assert verifier.verify(key, proof, signals)
    for at in range(len(signals)):
        assert not verifier.verify(key, proof, [value + (place == at) for place, value in enumerate(signals)])
    verifier.drop_key(key)


def snarkjs_accepts(proved: dict[str, Any], circuit: Path, folder: Path) -> bool:
    for name in ("proof", "publics"):
        (folder / f"{name}.json").write_text(json.dumps(proved[name]))
    vkey = circuit / "verification_key.json"
    done = node("snarkjs", "groth16", "verify", vkey, folder / "publics.json", folder / "proof.json")
    assert done.returncode in (0, 1), done.stdout
    return done.returncode == 0


@pytest.mark.parametrize("instances", [1, 3])
async def test_proofs_are_accepted(
    follow: Follow, circuit: Path, verifier: Verifier, tmp_path: Path, instances: int
) -> None:
    made = product(SMALLEST, instances, size=(7, 8, 5))
    outcome = await follow(order("prove", made, instances))
    assert "failed" not in outcome, outcome
    first, second, third = outcome["proofs"]
    for proved in (first, second, third):
        assert_accepted(made, proved, circuit, verifier)
    # Randomness is drawn for each: the same proof twice would tell about the witness.
    assert len({json.dumps(proved["proof"]) for proved in (first, second, third)}) == 3
    assert snarkjs_accepts(first, circuit, tmp_path)
    first["publics"][0] = str(int(first["publics"][0]) + 1)
    assert not snarkjs_accepts(first, circuit, tmp_path)

    for told in (outcome["opening"], outcome["told"]):
        parts = [progress["part"] for progress in told]
        assert parts == sorted(parts) and parts[0] == 0 and parts[-1] == 1
        assert all(progress["phase"] for progress in told)
    phases = list(dict.fromkeys(progress["phase"] for progress in outcome["told"]))
    assert phases == ["solving the circuit", "summing up", "closing the proof", "proved"]
    assert outcome["memoryBytes"] > 2**20
    assert "closed" in outcome["late"]


@pytest.mark.parametrize("instances", [1, 2])
async def test_a_cancelled_proof_ends_at_once_and_the_next_one_is_made(
    follow: Follow, circuit: Path, verifier: Verifier, instances: int
) -> None:
    made = product(SMALLEST, 4)
    outcome = await follow(order("cancel", made, instances))
    assert "failed" not in outcome, outcome
    # The last phases are over before anybody can stop them.
    stopped = [end for end in outcome["ends"] if end["said"] != "proved"]
    assert {"solving the circuit", "summing up"} <= {end["phase"] for end in stopped}
    assert all(end["said"] == "Error: that is enough" and end["ms"] < 1000 for end in stopped)
    assert outcome["before"] == "Error: too late"
    assert_accepted(made, outcome["proof"], circuit, verifier)


def section(zkey: bytes, wanted: int) -> tuple[int, int]:
    """Where a section's bytes begin, and how many there are."""
    at = 12
    while at < len(zkey):
        number, size = int.from_bytes(zkey[at : at + 4], "little"), int.from_bytes(zkey[at + 4 : at + 12], "little")
        if number == wanted:
            return at + 12, size
        at += 12 + size
    raise AssertionError(f"no section {wanted}")


async def test_a_damaged_key_gives_words_and_no_proof(follow: Follow, circuit: Path) -> None:
    zkey = (circuit / f"{circuit.name}.zkey").read_bytes()
    places = [0, 4, 8]
    for number in range(2, 10):
        start, size = section(zkey, number)
        # The last is a coordinate that is no zero of a point at infinity.
        filled = next(at for at in range(start + size // 2, start + size) if zkey[at])
        places += [start - 12, start - 8, start + 4, filled]
    outcome = await follow(order("damage", product(SMALLEST, 5), 2, at=places))
    assert "failed" not in outcome, outcome
    for at, said in zip(places, outcome["said"], strict=True):
        assert isinstance(said, str) and said.startswith("Error: ") and "undefined" not in said, (at, said)
    assert "cut short" in outcome["cut"] and "no .zkey" in outcome["nothing"] and "no .zkey" in outcome["exchanged"]
    assert "the circuit: " in outcome["circuit"]
    assert outcome["whole"] == "object"


async def test_a_wrong_product_is_refused_and_the_next_one_proved(
    follow: Follow, circuit: Path, verifier: Verifier
) -> None:
    made = product(SMALLEST, 6)
    outcome = await follow(order("wrong", made, 2))
    assert "C is not A·Bᵀ" in outcome["said"]
    assert outcome["unfit"].startswith("RangeError: A has 63 bytes")
    assert_accepted(made, outcome["proof"], circuit, verifier)
