"""The folder's licence, pins and command; and the vectors that other languages read, held to the real circuit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardy_common.proofs.poseidon import P
from shardy_common.proofs.signals import Circuit

ROOT = Path(__file__).resolve().parents[2]
CIRCUITS = ROOT / "circuits"
RECORDED: dict[str, Any] = json.loads((CIRCUITS / "constraints.json").read_text())["circuits"]
VECTORS: dict[str, Any] = json.loads((ROOT / "vectors/proofs.json").read_text(encoding="utf-8"))
OF_EIGHT = [one for one in VECTORS["signals"] if one["circuit"] == "v2-8x8x8"]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, CIRCUITS / "build.py", *words], capture_output=True, text=True, check=False)


def test_everything_says_its_licence() -> None:
    found = [path for path in CIRCUITS.rglob("*.circom") if not {"node_modules", "build"} & set(path.parts)]
    assert len(found) >= 4
    for path in (*found, *CIRCUITS.glob("*.mjs")):
        assert path.read_text().startswith("// SPDX-License-Identifier: GPL-3.0-only\n"), path.name
    package = json.loads((CIRCUITS / "package.json").read_text())
    assert package["private"] is True and package["license"] == "GPL-3.0-only"
    assert "GNU GENERAL PUBLIC LICENSE" in (CIRCUITS / "LICENSE").read_text()


def test_packages_are_pinned_and_from_no_address() -> None:
    package = json.loads((CIRCUITS / "package.json").read_text())
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in package["devDependencies"].values())
    assert '"resolved"' not in (CIRCUITS / "package-lock.json").read_text()


@pytest.mark.parametrize("vector", OF_EIGHT, ids=[one["name"] for one in OF_EIGHT])
def test_vectors_satisfy_the_circuit(compiled: Any, vector: dict[str, Any]) -> None:
    size = compiled(8, 8, 8)
    wires = size.witness(vector["witness"])
    assert list(size.constraints.broken(wires)) == []
    assert [str(value) for value in size.publics(wires)] == vector["signals"]


def test_the_command_compares_with_the_record(compiled: Any) -> None:
    compiled(8, 8, 8)
    done = command("--shapes", "8x8x8", "--check")
    assert done.returncode == 0, done.stderr
    assert "2,431 constraints" in done.stdout and RECORDED["v2-8x8x8"]["r1cs_blake3"] in done.stdout


@pytest.mark.parametrize("shape", ["8x8", "4x8x8", "8x65536x8", "0x8x8", "8x8x8x8", "08x8x8"])
def test_shapes_refused(shape: str) -> None:
    done = command("--shapes", shape)
    assert done.returncode == 2 and shape in done.stderr


def test_padded_rows_hide_nothing(compiled: Any, random_case: Any) -> None:
    """Five rows in a circuit of eight: what stands in C below them is refused as anywhere else."""
    size, task = compiled(8, 8, 8, unchecked=True), random_case(Circuit(8, 8, 8), 3, rows=5)
    inputs = task.inputs
    forged = inputs._replace(c=[[(inputs.c[0][0] + (1 << 31 * 6)) % P, *inputs.c[0][1:]]])
    assert list(size.constraints.broken(size.witness(inputs))) == []
    assert len(list(size.constraints.broken(size.witness(forged)))) == 1


def test_easier_operands_are_not_those_committed_to(compiled: Any, random_case: Any, make_case: Any) -> None:
    """Zeros multiply well, but their proof's inputCommit is not the task's, and cannot be made so."""
    size, task = compiled(8, 8, 8, unchecked=True), random_case(Circuit(8, 8, 8), 4)
    easy = make_case(task.shape, task.a * 0, task.b)
    easy = replace(easy, context=task.context)
    wires = size.witness(easy.inputs)
    assert list(size.constraints.broken(wires)) == [] and wires[1] == task.signals.task_ctx
    assert wires[3] != task.signals.input_commit
    wires[3] = task.signals.input_commit
    assert list(size.constraints.broken(wires))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_multiplying_everything_costs_is_as_the_readme_says(builder: Any) -> None:
    table = dict(re.findall(r"(?m)^\| `v2-([\dx]+)` .* ([\d,]+) \|$", (CIRCUITS / "README.md").read_text()))
    for shape in ("8x8x8", "16x16x16"):
        folder = builder.BUILD / f"naive-{shape}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "main.circom").write_text(
            'pragma circom 2.1.6;\ninclude "../../compare/naive_product.circom";\n'
            f"component main = NaiveProduct({shape.replace('x', ', ')});\n"
        )
        words = ["node", "node_modules/circom2/cli.js", f"build/naive-{shape}/main.circom", "--r1cs", "--O2"]
        with builder.alone(folder.name):
            subprocess.run([*words, "-o", f"build/naive-{shape}"], cwd=CIRCUITS, check=True, capture_output=True)
            made = builder.header((folder / "main.r1cs").read_bytes())
        assert table[shape] == f"{made['constraints']:,}" and made["publics"] == 4
