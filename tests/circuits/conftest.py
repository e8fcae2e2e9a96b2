"""Compiled circuits: those of `make circuits`, and a forger's, which computes every signal and asserts nothing."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from constraint_system import ConstraintSystem, read_names, read_witness

from shardy_common.proofs.signals import Witness

ROOT = Path(__file__).resolve().parents[2]
CIRCUITS = ROOT / "circuits"
# What a calculator checks on its way. Without it, it writes the witness of whatever it is given.
ASSERTIONS = {
    "templates/packed_freivalds.circom": "left === right;",
    "node_modules/circomlib/circuits/bitify.circom": "lc1 === in;",
}


def load_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("circuits_build", CIRCUITS / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Compiled:
    """A folder with NAME.r1cs, NAME.wasm and witness_calculator.js."""

    folder: Path
    name: str

    @cached_property
    def system(self) -> ConstraintSystem:
        return ConstraintSystem(self.folder / f"{self.name}.r1cs")

    def run(self, inputs: list[dict[str, Any]], out: Path) -> list[str | None]:
        """Writes witness i to out/i.wtns; why each was refused, None for those that were not."""
        out.mkdir(parents=True, exist_ok=True)
        words = ["node", CIRCUITS / "witness.mjs", self.folder / "witness_calculator.js"]
        words += [self.folder / f"{self.name}.wasm", out]
        done = subprocess.run(words, input=json.dumps(inputs), capture_output=True, text=True, check=True)
        refusals: list[str | None] = json.loads(done.stdout.splitlines()[-1])
        return refusals

    def witnesses(self, inputs: list[Witness], out: Path) -> list[list[int]]:
        refusals = self.run([one.as_json() for one in inputs], out)
        assert refusals == [None] * len(inputs), refusals
        return [read_witness(out / f"{index}.wtns") for index in range(len(inputs))]


@dataclass
class Forger:
    """Makes the best witness that there is for any inputs: each wire of the true circuit as its formula says, whether
    or not the assertions hold."""

    true: Compiled
    wires: dict[str, int]
    free: Compiled
    free_wires: dict[str, int]

    def witnesses(self, inputs: list[Witness], out: Path) -> list[list[int]]:
        found = []
        for all_signals in self.free.witnesses(inputs, out):
            witness = [0] * self.true.system.wires
            witness[0] = 1
            for name, wire in self.wires.items():
                witness[wire] = all_signals[self.free_wires[name]]
            found.append(witness)
        return found


def compiler(folder: Path, *words: str) -> None:
    command = ["node", CIRCUITS / "node_modules/circom2/cli.js", "main.circom", "-o", ".", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def build() -> Iterator[ModuleType]:
    """circuits/build.py with its packages installed; one process at a time works in circuits/build."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("Node.js 20 or newer with npm is needed to compile circuits")
    module = load_build()
    module.BUILD.mkdir(exist_ok=True)
    with (module.BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            module.install()
        except module.Unbuildable as problem:
            pytest.skip(str(problem))
        yield module


@pytest.fixture(scope="session")
def compiled(build: ModuleType) -> Callable[[str], Compiled]:
    """The compiled circuit of a name."""

    def get(name: str) -> Compiled:
        return Compiled(build.compile_one(build.shape_of(name.removeprefix("v2-")), build.sources_digest()), name)

    return get


@pytest.fixture(scope="session")
def forger(build: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Forger:
    """For v2-8x8x8."""
    made = []
    for kind, optimise in (("true", "--O2"), ("free", "--O0")):
        folder = tmp_path_factory.mktemp(kind)
        for path in (*CIRCUITS.glob("*.circom"), *CIRCUITS.glob("templates/*.circom")):
            target = folder / path.relative_to(CIRCUITS)
            target.parent.mkdir(exist_ok=True)
            target.write_text(path.read_text())
        library = "node_modules/circomlib/circuits"
        shutil.copytree(CIRCUITS / library, folder / library)
        if kind == "free":
            for path, assertion in ASSERTIONS.items():
                text = (folder / path).read_text()
                assert assertion in text
                (folder / path).write_text(text.replace(assertion, ""))
        (folder / "main.circom").write_text(
            'pragma circom 2.1.6;\ninclude "shardy_task_proof_v2.circom";\n'
            "component main = ShardyTaskProofV2(8, 8, 8);\n"
        )
        compiler(folder, "--r1cs", "--wasm", "--sym", optimise)
        (folder / "main_js/main.wasm").rename(folder / "main.wasm")
        (folder / "main_js/witness_calculator.js").rename(folder / "witness_calculator.js")
        made.append(Compiled(folder, "main"))
    true, free = made
    return Forger(true, read_names(true.folder / "main.sym"), free, read_names(free.folder / "main.sym"))
