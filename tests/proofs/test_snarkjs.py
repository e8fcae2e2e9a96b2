"""Both directions with snarkjs: its prover under our keys, our proofs under its verifier, files that do not belong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from proofkit import Files, devkeys, node, proof_json

from shardy_common.proofs.parse import parse_proof, parse_publics, parse_vkey
from shardy_common.proofs.verifier import Verifier

pytestmark = pytest.mark.timeout(600)  # the first compiles a circuit, writes keys, starts snarkjs


def accepted(vkey: Path, public: Path, proof: Path) -> bool:
    done = node("snarkjs", "groth16", "verify", vkey, public, proof)
    assert done.returncode in (0, 1), done.stdout
    return done.returncode == 0


def test_snarkjs_proves_under_our_key_and_we_verify(files: Files, tmp_path: Path, verifier: Verifier) -> None:
    proof, public = tmp_path / "proof.json", tmp_path / "public.json"
    done = node("snarkjs", "groth16", "prove", files.zkey, files.witness, proof, public)
    assert done.returncode == 0, done.stdout
    key = verifier.add_key(parse_vkey(files.vkey.read_bytes()))
    signals = parse_publics(public.read_bytes())
    parsed = parse_proof(proof.read_bytes())
    assert verifier.verify(key, parsed, signals)
    for at in range(4):
        wrong = [value + (place == at) for place, value in enumerate(signals)]
        assert not verifier.verify(key, parsed, wrong)


def test_we_prove_and_snarkjs_verifies(files: Files, tmp_path: Path, verifier: Verifier) -> None:
    proof, signals = verifier.prove(files.zkey.read_bytes(), files.witness.read_bytes())
    (tmp_path / "proof.json").write_text(proof_json(proof))
    (tmp_path / "public.json").write_text(json.dumps([str(value) for value in signals]))
    assert accepted(files.vkey, tmp_path / "public.json", tmp_path / "proof.json")
    signals[0] += 1
    (tmp_path / "public.json").write_text(json.dumps([str(value) for value in signals]))
    assert not accepted(files.vkey, tmp_path / "public.json", tmp_path / "proof.json")


def test_the_browsers_module_proves_the_same(files: Files, verifier: Verifier) -> None:
    """Without wide arithmetic, other multiplications: the same randomness gives the same bytes."""
    module = Path(__file__).parents[2] / "libs" / "shardy_common" / "proofs" / "prover.wasm"
    zkey, witness, random = files.zkey.read_bytes(), files.witness.read_bytes(), bytes(range(128))
    assert Verifier(module.read_bytes()).prove(zkey, witness, random) == verifier.prove(zkey, witness, random)


def test_snarkjs_reads_the_same_key_out_of_the_zkey(files: Files, tmp_path: Path) -> None:
    done = node("snarkjs", "zkey", "export", "verificationkey", files.zkey, tmp_path / "vkey.json")
    assert done.returncode == 0, done.stdout
    theirs, ours = parse_vkey((tmp_path / "vkey.json").read_bytes()), parse_vkey(files.vkey.read_bytes())
    assert theirs.wire() == ours.wire()
    assert ours.dev and not theirs.dev
    assert dict(ours.note)["circuit"] == "chain_small"


def test_a_seed_makes_its_own_key(files: Files, tmp_path: Path, verifier: Verifier) -> None:
    first, again, other = (tmp_path / f"{name}.zkey" for name in ("first", "again", "other"))
    for path, seed in ((first, "00" * 32), (again, "00" * 32), (other, "00" * 31 + "01")):
        assert devkeys(files.r1cs, path, path.with_suffix(".json"), "--seed", seed).returncode == 0
    assert first.read_bytes() == again.read_bytes() == files.zkey.read_bytes()
    notes = [parse_vkey(path.with_suffix(".json").read_bytes()).note for path in (first, other)]
    assert dict(notes[0])["seed_tag"] != dict(notes[1])["seed_tag"]
    proof, signals = verifier.prove(first.read_bytes(), files.witness.read_bytes())
    wrong = verifier.add_key(parse_vkey(other.with_suffix(".json").read_bytes()))
    assert not verifier.verify(wrong, proof, signals)
    assert devkeys(files.r1cs, other, tmp_path / "x.json", "--seed", "zz").returncode == 1


def test_files_that_are_not_what_they_should_be(files: Files, tmp_path: Path, verifier: Verifier) -> None:
    """Cut short anywhere, or with a length or an index changed: refused, never a crash, and the module goes on."""
    zkey, witness = files.zkey.read_bytes(), files.witness.read_bytes()
    for cut in range(0, len(zkey), 499):
        with pytest.raises(ValueError):
            verifier.prove(zkey[:cut], witness)
    for cut in range(len(witness)):
        with pytest.raises(ValueError):
            verifier.prove(zkey, witness[:cut])
    for at in range(0, 900):
        changed = bytearray(zkey)
        changed[at] ^= 0x80
        try:
            verifier.prove(bytes(changed), witness)
        except ValueError:
            continue
    with pytest.raises(ValueError, match="belong together"):
        short = witness[:-32].replace(
            len(witness[76:]).to_bytes(8, "little"), (len(witness[76:]) - 32).to_bytes(8, "little")
        )
        count = (len(witness) - 76) // 32
        verifier.prove(zkey, short.replace(count.to_bytes(4, "little"), (count - 1).to_bytes(4, "little"), 1))
    for cut in range(0, files.r1cs.stat().st_size, 997):
        (tmp_path / "cut.r1cs").write_bytes(files.r1cs.read_bytes()[:cut])
        done = devkeys(tmp_path / "cut.r1cs", tmp_path / "cut.zkey", tmp_path / "cut.json")
        assert done.returncode == 1 and "cannot be used" in done.stderr


def test_a_wrong_witness_proves_nothing(files: Files, verifier: Verifier) -> None:
    witness = bytearray(files.witness.read_bytes())
    witness[-32] ^= 1
    proof, signals = verifier.prove(files.zkey.read_bytes(), bytes(witness))
    key = verifier.add_key(parse_vkey(files.vkey.read_bytes()))
    assert not verifier.verify(key, proof, signals)
