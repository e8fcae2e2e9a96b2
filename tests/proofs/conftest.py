"""The known proof, a verifier with its key, and a circuit's files made here."""

from __future__ import annotations

import json
import shutil

import pytest
from proofkit import FOLDER, VECTORS, Files, Known, devkeys, node

from shardy_common.proofs.parse import parse_proof, parse_publics, parse_vkey
from shardy_common.proofs.verifier import Verifier


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


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """chain_small compiled, keyed by the key maker, with a witness."""
    out = tmp_path_factory.mktemp("chain")
    # circom2 sees only the folder that it runs in.
    for source in (FOLDER / "circuits").glob("*.circom"):
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
