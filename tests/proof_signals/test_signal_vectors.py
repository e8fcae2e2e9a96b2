"""The library gives what vectors/proofs.json says, which is written from the document and not from the library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shardy_common.proofs import poseidon as hashing
from shardy_common.proofs import signals, tiles
from shardy_common.wire import merkle

ROOT = Path(__file__).resolve().parents[2]
VECTORS: dict[str, Any] = json.loads((ROOT / "vectors/proofs.json").read_text(encoding="utf-8"))
BYTES_FIELDS = ("worker", "nonce", "vk_hash", "seed", "a", "b", "c", "tile")


def context_of(case: dict[str, Any]) -> signals.Context:
    names = signals.Context.__dataclass_fields__
    fields = {name: bytes.fromhex(case[name]) if name in BYTES_FIELDS else case[name] for name in names}
    return signals.Context(**fields)


def numbers(value: Any) -> Any:
    return [numbers(one) for one in value] if isinstance(value, list) else int(value)


def test_the_file_is_what_its_script_writes() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "vectors/proofs.py"), "--check"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("case", VECTORS["poseidon"], ids=lambda case: f"{len(case['inputs'])} inputs")
def test_hashes(case: dict[str, Any]) -> None:
    assert hashing.poseidon(numbers(case["inputs"])) == int(case["out"])


@pytest.mark.parametrize("case", VECTORS["trees"], ids=lambda case: case["count"])
def test_trees(case: dict[str, Any]) -> None:
    assert hashing.tree(range(1, case["count"] + 1)) == int(case["out"])


@pytest.mark.parametrize("case", VECTORS["rows"], ids=range(len(VECTORS["rows"])))
def test_packed_rows(case: dict[str, Any]) -> None:
    shape = case["rows"], case["cols"], case["circuit_rows"], case["circuit_cols"]
    assert signals.packed_rows(case["values"], *shape) == numbers(case["packed"])


@pytest.mark.parametrize("case", VECTORS["bytes"], ids=lambda case: len(case["data"]) // 2)
def test_packed_bytes(case: dict[str, Any]) -> None:
    assert signals.packed_bytes(bytes.fromhex(case["data"])) == numbers(case["packed"])


@pytest.mark.parametrize("case", VECTORS["contexts"], ids=lambda case: case["name"])
def test_contexts(case: dict[str, Any]) -> None:
    assert signals.task_context(context_of(case)) == int(case["task_ctx"])


@pytest.mark.parametrize("case", VECTORS["signals"], ids=lambda case: case["name"])
def test_signals(case: dict[str, Any]) -> None:
    circuit, context = signals.Circuit.named(case["circuit"]), context_of(case["context"])
    a, b, c = (bytes.fromhex(case[name]) for name in "abc")
    assert signals.witness(circuit, context, a, b, c).as_json() == case["witness"]
    assert list(signals.public_signals(circuit, context, a, b, c)) == numbers(case["signals"])
    assert signals.input_commit(circuit, context, a, b) == int(case["signals"][2])


@pytest.mark.parametrize("case", VECTORS["tiles"], ids=lambda case: f"{case['rows']}x{case['cols']}")
def test_tiles(case: dict[str, Any]) -> None:
    grid = tiles.Grid(case["rows"], case["cols"], case["tile_rows"], case["tile_cols"])
    c = bytes.fromhex(case["c"])
    found = tiles.leaves(grid, c)
    assert [leaf.hex() for leaf in found] == case["leaves"] and tiles.root(grid, c).hex() == case["root"]
    for index, path in enumerate(case["paths"]):
        assert [one.hex() for one in merkle.path(found, index)] == path


@pytest.mark.parametrize("case", VECTORS["challenges"], ids=range(len(VECTORS["challenges"])))
def test_challenges(case: dict[str, Any]) -> None:
    root, binding, nonce = (bytes.fromhex(case[name]) for name in ("root", "binding", "nonce"))
    assert tiles.challenge(root, binding, nonce, case["tiles"], case["checked"]) == case["indices"]
