"""Compiled product circuits, their keys, witnesses of circom's own calculator, and products to prove.

What needs Node.js, its packages or Rust is skipped where they are absent.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from proofkit import ROOT, devkeys

from shardy_common.proofs.signals import Circuit, Context, Witness, witness


@cache
def builder() -> Any:
    """circuits/build.py; other folders have a build.py too, so it goes by another name."""
    if "circuits_build" not in sys.modules:
        spec = importlib.util.spec_from_file_location("circuits_build", ROOT / "circuits/build.py")
        assert spec is not None and spec.loader is not None
        sys.modules["circuits_build"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["circuits_build"])
    return sys.modules["circuits_build"]


@dataclass(frozen=True)
class Compiled:
    """A circuit as the compiler left it in `folder`."""

    shape: Circuit
    folder: Path

    @property
    def r1cs(self) -> bytes:
        return (self.folder / f"{self.shape.name}.r1cs").read_bytes()

    def calculated(self, inputs: list[Witness]) -> list[bytes | str]:
        """Of each input the calculator's .wtns, or the words with which it refused."""
        with tempfile.TemporaryDirectory() as out:
            given = Path(out) / "inputs.json"
            given.write_text(json.dumps([each.as_json() for each in inputs]))
            command = ["node", str(ROOT / "circuits/witness.mjs"), str(self.folder), str(given), out]
            subprocess.run(command, check=True, timeout=600)
            paths = [Path(out) / f"{index}.wtns" for index in range(len(inputs))]
            return [path.read_bytes() if path.exists() else path.with_suffix(".error").read_text() for path in paths]

    def keys(self, out: Path) -> tuple[Path, Path]:
        """Development keys in `out`: .zkey and verification_key.json."""
        zkey, vkey = out / f"{self.shape.name}.zkey", out / f"{self.shape.name}.json"
        if not vkey.exists():
            made = devkeys(self.folder / f"{self.shape.name}.r1cs", zkey, vkey)
            assert made.returncode == 0, made.stderr
        return zkey, vkey


def compiled(m: int, k: int, n: int) -> Compiled:
    build = builder()
    try:
        build.install()
        folder = build.compile_one((m, k, n), build.sources_digest())
    except build.Unbuildable as problem:
        pytest.skip(str(problem))
    return Compiled(Circuit(m, k, n), folder)


@dataclass(frozen=True)
class Product:
    """A product with its context. a int8[rows, k], b int8[cols, k], c int32[rows, cols], as bytes."""

    shape: Circuit
    context: Context
    a: bytes
    b: bytes
    c: bytes

    @property
    def arguments(self) -> tuple[Circuit, Context, bytes, bytes, bytes]:
        return self.shape, self.context, self.a, self.b, self.c

    @property
    def inputs(self) -> Witness:
        return witness(*self.arguments)


def product(shape: Circuit, a: Any, b: Any, c: Any = None) -> Product:
    """c: another result than the right one."""
    a, b = np.ascontiguousarray(a, np.int8), np.ascontiguousarray(b, np.int8)
    c = np.ascontiguousarray(a.astype(np.int32) @ b.astype(np.int32).T if c is None else c, "<i4")
    digests = [blake3(part.tobytes()).digest() for part in (a, b, c)]
    context = Context(
        "t-1", bytes(range(32)), b"nonce of a lease", shape.name, "v2-1", blake3(b"vk").digest(),
        a.shape[0], a.shape[1], b.shape[0], b"", *digests,
    )  # fmt: skip
    return Product(shape, context, a.tobytes(), b.tobytes(), c.tobytes())


def random_product(shape: Circuit, seed: int, rows: int = 0, k: int = 0, cols: int = 0) -> Product:
    """Of the circuit's whole size where none is given."""
    generator = np.random.default_rng(seed)
    rows, k, cols = rows or shape.m, k or shape.k, cols or shape.n
    a, b = (generator.integers(-128, 128, size, np.int8) for size in ((rows, k), (cols, k)))
    return product(shape, a, b)
