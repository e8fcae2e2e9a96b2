"""Compiled circuits are the recorded ones, and make public what signals.py computes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import CIRCUITS, ROOT, Compiled, load_build
from constraint_system import read_witness

from shardy_common.proofs.signals import Circuit, signals_of, witness
from shardy_common.proofs.signals import Context as ProofContext

RECORDED: dict[str, Any] = json.loads((CIRCUITS / "constraints.json").read_text())["circuits"]
VECTORS: dict[str, Any] = json.loads((ROOT / "vectors/proofs.json").read_text(encoding="utf-8"))
BYTES_FIELDS = ("worker", "nonce", "vk_hash", "seed", "a", "b", "c", "tile")
# A second of this per 2,000 constraints and more is spent in the compiler.
SIZES = [
    pytest.param(name, marks=pytest.mark.slow if made["constraints"] > 10_000 else [], id=name)
    for name, made in RECORDED.items()
]


def test_default_shapes_are_recorded() -> None:
    module = load_build()
    assert list(RECORDED) == [module.name_of(shape) for shape in module.SHAPES]
    assert all(Circuit.named(name).name == name for name in RECORDED)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SIZES)
def test_compiled_circuits_are_the_recorded_ones(
    build: ModuleType, compiled: Callable[[str], Compiled], name: str
) -> None:
    assert build.describe(compiled(name).folder) == RECORDED[name]


def test_the_readme_states_the_recorded_counts() -> None:
    table = dict(re.findall(r"(?m)^\| `(v2-[\dx]+)` \| ([\d,]+) \|", (CIRCUITS / "README.md").read_text()))
    assert table == {name: f"{made['constraints']:,}" for name, made in RECORDED.items()}


def test_licence_heads() -> None:
    for path in (*CIRCUITS.glob("*.circom"), *CIRCUITS.glob("templates/*.circom"), *CIRCUITS.glob("*.mjs")):
        assert path.read_text().startswith("// SPDX-License-Identifier: GPL-3.0-only\n"), path.name
    package = json.loads((CIRCUITS / "package.json").read_text())
    assert package["private"] is True and package["license"] == "GPL-3.0-only"
    assert "GNU GENERAL PUBLIC LICENSE" in (CIRCUITS / "LICENSE").read_text()


def test_packages_are_pinned_and_come_from_no_address() -> None:
    package = json.loads((CIRCUITS / "package.json").read_text())
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in package["devDependencies"].values())
    assert "resolved" not in (CIRCUITS / "package-lock.json").read_text()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SIZES)
def test_a_product_satisfies_its_circuit_and_its_public_signals_are_ours(
    compiled: Callable[[str], Compiled], tmp_path: Path, name: str
) -> None:
    circuit, size = Circuit.named(name), compiled(name)
    inputs = product_inputs(circuit)
    [found] = size.witnesses([inputs], tmp_path)
    assert size.system.publics == 4 and tuple(found[1:5]) == tuple(signals_of(inputs))
    assert size.system.broken(found) == []
    found[4] ^= 1
    assert size.system.broken(found)


@pytest.mark.parametrize(
    "case", [case for case in VECTORS["signals"] if case["circuit"] == "v2-8x8x8"], ids=lambda case: case["name"]
)
def test_vectors_satisfy_the_circuit(compiled: Callable[[str], Compiled], tmp_path: Path, case: Any) -> None:
    size = compiled(case["circuit"])
    assert size.run([case["witness"]], tmp_path) == [None]
    found = read_witness(tmp_path / "0.wtns")
    assert size.system.broken(found) == [] and [str(value) for value in found[1:5]] == case["signals"]


def test_the_command_compares_with_the_record(build: ModuleType, compiled: Callable[[str], Compiled]) -> None:
    compiled("v2-8x8x8")
    words = [sys.executable, CIRCUITS / "build.py", "--shapes", "8x8x8", "--check"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2,431 constraints" in done.stdout and RECORDED["v2-8x8x8"]["r1cs_blake3"] in done.stdout


@pytest.mark.parametrize("shape", ["8x8", "4x8x8", "8x65536x8", "0x8x8", "8x8x8x8", "8x-1x8", "08x8x8"])
def test_shapes_refused(shape: str) -> None:
    words = [sys.executable, CIRCUITS / "build.py", "--shapes", shape]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and shape in done.stderr


def product_inputs(circuit: Circuit) -> Any:
    """Inputs of a random product that fills the circuit but for a row."""
    import numpy as np
    from blake3 import blake3

    rows, k, n = circuit.m - 1, circuit.k, circuit.n
    a, b = blake3(b"left").digest(rows * k), blake3(b"right").digest(n * k)
    left, right = (np.frombuffer(data, np.int8).reshape(-1, k).astype(np.int32) for data in (a, b))
    c = (left @ right.T).astype("<i4").tobytes()
    task = ProofContext(
        task="task",
        worker=bytes(32),
        nonce=b"nonce",
        circuit=circuit.name,
        vk_version="1",
        vk_hash=bytes(32),
        rows=rows,
        k=k,
        cols=n,
        seed=b"",
        a=blake3(a).digest(),
        b=blake3(b).digest(),
        c=blake3(c).digest(),
    )
    return witness(circuit, task, a, b, c)
