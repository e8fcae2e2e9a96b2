"""Compiled circuits and their witnesses; skipped where Node.js, npm or the packages of circuits/ are not there."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from constraints import Circuit as Constraints
from constraints import read_witness, wires_by_name

from shardy_common.proofs.signals import Circuit, Context, Signals, Witness, public_signals, witness

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location(
    "circuits_build", ROOT / "circuits/build.py"
)  # others have a build.py too
assert _spec is not None and _spec.loader is not None
circuits_build = sys.modules["circuits_build"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(circuits_build)


@pytest.fixture(scope="session")
def builder() -> Any:
    """circuits/build.py, with what it needs installed."""
    try:
        circuits_build.install()
    except circuits_build.Unbuildable as problem:
        pytest.skip(str(problem))
    return circuits_build


@dataclass
class Compiled:
    """One circuit as the compiler left it in `folder`."""

    shape: Circuit
    folder: Path
    _constraints: list[Constraints] = field(default_factory=list)

    @property
    def constraints(self) -> Constraints:
        if not self._constraints:
            self._constraints.append(Constraints.read((self.folder / f"{self.shape.name}.r1cs").read_bytes()))
        return self._constraints[0]

    @property
    def wires(self) -> dict[str, int]:
        return wires_by_name((self.folder / f"{self.shape.name}.sym").read_text())

    def run(self, inputs: list[dict[str, object]]) -> list[list[int] | str]:
        """Of each input its witness, or the words with which the calculator refused it."""
        with tempfile.TemporaryDirectory() as out:
            given = Path(out) / "inputs.json"
            given.write_text(json.dumps(inputs))
            command = ["node", str(ROOT / "circuits/witness.mjs"), str(self.folder), str(given), out]
            subprocess.run(command, check=True, timeout=200)
            return [
                read_witness(path.read_bytes()) if path.exists() else path.with_suffix(".error").read_text()
                for path in (Path(out) / f"{index}.wtns" for index in range(len(inputs)))
            ]

    def witness(self, inputs: Witness | dict[str, object]) -> list[int]:
        """ValueError with the calculator's words where it refuses."""
        found = self.run([inputs.as_json() if isinstance(inputs, Witness) else inputs])[0]
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def publics(self, wires: list[int]) -> Signals:
        return Signals(*wires[1:5])


@pytest.fixture(scope="session")
def compiled(builder: Any) -> Callable[..., Compiled]:
    """(m, k, n, unchecked=False) → the circuit; `unchecked`, with a calculator that computes what is wrong too."""
    made: dict[tuple[int, int, int, bool], Compiled] = {}

    def get(m: int, k: int, n: int, unchecked: bool = False) -> Compiled:
        key = (m, k, n, unchecked)
        if key not in made:
            folder = builder.compile_one(key[:3], builder.sources_digest(), unchecked)
            made[key] = Compiled(Circuit(m, k, n), folder)
        return made[key]

    return get


@dataclass(frozen=True)
class Case:
    """A product with its context. a int8[rows, k], b int8[cols, k], c int32[rows, cols]."""

    shape: Circuit
    a: np.ndarray[Any, Any]
    b: np.ndarray[Any, Any]
    c: np.ndarray[Any, Any]
    context: Context

    @property
    def bytes(self) -> tuple[bytes, bytes, bytes]:
        return self.a.tobytes(), self.b.tobytes(), self.c.tobytes()

    @property
    def inputs(self) -> Witness:
        return witness(self.shape, self.context, *self.bytes)

    @property
    def signals(self) -> Signals:
        return public_signals(self.shape, self.context, *self.bytes)


def case(shape: Circuit, a: Any, b: Any, c: Any = None, **changed: Any) -> Case:
    """A case of these operands; c: another result than the right one."""
    a, b = np.ascontiguousarray(a, np.int8), np.ascontiguousarray(b, np.int8)
    right = a.astype(np.int32) @ b.astype(np.int32).T
    c = right if c is None else np.ascontiguousarray(c, "<i4")
    context = Context(
        task="t-1",
        worker=bytes(range(32)),
        nonce=b"nonce of a lease",
        circuit=shape.name,
        vk_version="v2-1",
        vk_hash=blake3(b"vk").digest(),
        rows=a.shape[0],
        k=a.shape[1],
        cols=b.shape[0],
        seed=b"",
        a=blake3(a.tobytes()).digest(),
        b=blake3(b.tobytes()).digest(),
        c=blake3(c.tobytes()).digest(),
    )
    return Case(shape, a, b, c, replace(context, **changed))


@pytest.fixture(scope="session")
def make_case() -> Callable[..., Case]:
    return case


@pytest.fixture(scope="session")
def random_case() -> Callable[..., Case]:
    """(shape, seed, rows, k, cols): the whole circuit's size where none is given."""

    def get(shape: Circuit, seed: int, rows: int = 0, k: int = 0, cols: int = 0) -> Case:
        generator = np.random.default_rng(seed)
        rows, k, cols = rows or shape.m, k or shape.k, cols or shape.n
        a = generator.integers(-128, 128, (rows, k), np.int8)
        return case(shape, a, generator.integers(-128, 128, (cols, k), np.int8))

    return get
