"""A proof that snarkjs made (tests/proofs/vectors), and the programs that make others: snarkjs, circom, our key maker.

What needs a program that is absent is skipped and says how to get it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from shardy_common.proofs.parse import Proof, VerificationKey

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests/proofs"
VECTORS = FOLDER / "vectors"
PEERS = FOLDER / "peers"


@dataclass(frozen=True)
class Known:
    """A right proof with its key and signals, parsed and as they lie on disk."""

    key: VerificationKey
    proof: Proof
    publics: list[int]
    proof_json: bytes
    vkey_json: bytes


@dataclass(frozen=True)
class Files:
    """A circuit's files: constraint system, proving and verification key, a witness."""

    r1cs: Path
    zkey: Path
    vkey: Path
    witness: Path


def node(program: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run snarkjs or circom2 from peers/; skips the test where they are not installed."""
    path = PEERS / "node_modules" / ".bin" / program
    if not path.exists():
        pytest.skip("run `npm ci` in tests/proofs/peers")
    return subprocess.run(
        [path, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=200, check=False
    )


def devkeys(r1cs: Path, zkey: Path, vkey: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the key maker, built by cargo; skips the test without Rust."""
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("Rust is needed to make keys")
    crate = ROOT / "proofs-rs"
    subprocess.run(
        [cargo, "build", "--release", "--quiet", "-j", "1", "--bin", "shardy-devkeys"], cwd=crate, check=True
    )
    program = crate / "target" / "release" / "shardy-devkeys"
    return subprocess.run([program, r1cs, zkey, "--vkey", vkey, *more], capture_output=True, text=True, check=False)


def circuit_files(m: int, k: int, n: int, out: Path, seed: str = "") -> Files:
    """A circuit of circuits/, with development keys made from this seed (hex; each has others), in a folder to make.
    Skips the test where circuits cannot be compiled. No witness."""
    name = f"v2-{m}x{k}x{n}"
    built = ROOT / "circuits/build" / name / f"{name}.r1cs"
    command = [sys.executable, ROOT / "circuits/build.py", "--shapes", f"{m}x{k}x{n}", "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    if done.returncode:
        pytest.skip(f"{name} cannot be compiled: {done.stderr[-500:]}")
    out.mkdir(parents=True, exist_ok=True)
    found = Files(built, out / f"{name}.zkey", out / "verification_key.json", out / "none.wtns")
    made = devkeys(built, found.zkey, found.vkey, *(("--seed", seed.ljust(64, "0")) if seed else ()))
    assert made.returncode == 0, made.stderr
    return found


def proof_json(proof: Proof) -> str:
    """As snarkjs writes it."""
    (x, y), ((x0, x1), (y0, y1)), (u, v) = proof.a, proof.b, proof.c
    return json.dumps({
        "pi_a": [str(x), str(y), "1"],
        "pi_b": [[str(x0), str(x1)], [str(y0), str(y1)], ["1", "0"]],
        "pi_c": [str(u), str(v), "1"],
        "protocol": "groth16",
        "curve": "bn128",
    })  # fmt: skip
