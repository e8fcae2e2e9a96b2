"""A proof that snarkjs made (vectors/), and the programs that make others: snarkjs, circom, our key maker.

What needs a program that is absent is skipped and says how to get it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from shardy_common.proofs.parse import Proof, VerificationKey, parse_proof, parse_publics, parse_vkey
from shardy_common.proofs.verifier import Verifier

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VECTORS = HERE / "vectors"
PEERS = HERE / "peers"


@dataclass(frozen=True)
class Known:
    """A right proof with its key and signals, parsed and as they lie on disk."""

    key: VerificationKey
    proof: Proof
    publics: list[int]
    proof_json: bytes
    vkey_json: bytes


@pytest.fixture(scope="session")
def known() -> Known:
    read = {name: (VECTORS / f"chain_small.{name}.json").read_bytes() for name in ("proof", "public", "vkey")}
    return Known(
        parse_vkey(read["vkey"]), parse_proof(read["proof"]), parse_publics(read["public"]), read["proof"], read["vkey"]
    )


@pytest.fixture(scope="session")
def verifier() -> Verifier:
    return Verifier()


@pytest.fixture(scope="session")
def handle(verifier: Verifier, known: Known) -> int:
    return verifier.add_key(known.key)


def node(program: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run snarkjs or circom2 from peers/; skips the test where they are not installed."""
    path = PEERS / "node_modules" / ".bin" / program
    if not path.exists():
        pytest.skip("run `npm ci` in tests/proofs/peers")
    return subprocess.run(
        [path, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=200, check=False
    )


@dataclass(frozen=True)
class Files:
    """A circuit's files: constraint system, proving and verification key, a witness."""

    r1cs: Path
    zkey: Path
    vkey: Path
    witness: Path


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


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """chain_small compiled, keyed by the key maker, with a witness."""
    out = tmp_path_factory.mktemp("chain")
    # circom2 sees only the folder that it runs in.
    for source in (HERE / "circuits").glob("*.circom"):
        shutil.copy(source, out)
    done = node("circom2", "chain_small.circom", "--r1cs", "--wasm", "--O2", cwd=out)
    assert (out / "chain_small.r1cs").exists(), done.stdout + done.stderr
    found = Files(
        out / "chain_small.r1cs", out / "chain_small.zkey", out / "chain_small.vkey.json", out / "chain_small.wtns"
    )
    made = devkeys(found.r1cs, found.zkey, found.vkey)
    assert made.returncode == 0, made.stderr
    count = 43
    given = {"tag": "7", "count": str(count), "first": "123456789", "bits": [str(count >> at & 1) for at in range(16)]}
    (out / "input.json").write_text(json.dumps(given))
    program = out / "chain_small_js" / "chain_small.wasm"
    calculated = node("snarkjs", "wtns", "calculate", program, out / "input.json", found.witness)
    assert calculated.returncode == 0, calculated.stdout
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
