"""The production path to keys: powers of tau, three people, a beacon, a check by anyone; and each step out of place.

Rules are tested on a circuit of one multiplication, whose powers take a second; the whole path once more on the
smallest circuit of products, whose powers take minutes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from constraints import Circuit as Constraints

from shardy_common.proofs.signals import Circuit

BEACON = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
TINY = """pragma circom 2.1.6;
template Tiny() {
    signal input a;
    signal input b;
    signal output c <== a * b;
}
component main = Tiny();
"""


@dataclass
class Ceremony:
    circuits: Path
    r1cs: Path
    ptau: Path
    folder: Path

    def step(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        command = ["node", "ceremony.mjs", *map(str, words)]
        return subprocess.run(command, cwd=self.circuits, capture_output=True, text=True, timeout=600, check=False)

    def done(self, *words: str | Path) -> str:
        found = self.step(*words)
        assert found.returncode == 0, found.stderr
        return found.stdout

    def refused(self, *words: str | Path) -> str:
        found = self.step(*words)
        assert found.returncode == 1, found.stdout + found.stderr
        return found.stderr

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.zkey"

    def contributed(self) -> Path:
        """The key after three people, by the steps that lead to it."""
        self.done("start", self.r1cs, self.ptau, self.key("0"))
        for number, who in enumerate(("Ada", "Bo", "Cyd")):
            self.done("contribute", self.key(str(number)), self.key(str(number + 1)), who)
        return self.key("3")


def snarkjs(circuits: Path, *words: str | Path) -> str:
    command = ["node", "node_modules/snarkjs/build/cli.cjs", *map(str, words)]
    return subprocess.run(command, cwd=circuits, capture_output=True, text=True, timeout=600, check=True).stdout


def powers(circuits: Path, power: int, folder: Path) -> Path:
    """Powers of tau of one contributor: for a test they do. What is published takes their place in production."""
    new, made, ready = (folder / f"{name}.ptau" for name in ("new", "made", "ready"))
    snarkjs(circuits, "powersoftau", "new", "bn128", str(power), new)
    snarkjs(circuits, "powersoftau", "contribute", new, made, "--name=test", "-e=test")
    snarkjs(circuits, "powersoftau", "prepare", "phase2", made, ready)
    return ready


@pytest.fixture(scope="module")
def tiny(builder: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Ceremony]:
    """(folder) → a ceremony for the circuit of one multiplication."""
    made = tmp_path_factory.mktemp("tiny")
    inside = builder.BUILD / "tiny"
    inside.mkdir(parents=True, exist_ok=True)
    (inside / "tiny.circom").write_text(TINY)
    command = ["node", "node_modules/circom2/cli.js", "build/tiny/tiny.circom", "--r1cs", "-o", "build/tiny"]
    subprocess.run(command, cwd=builder.FOLDER, capture_output=True, check=True)
    ptau = powers(builder.FOLDER, 4, made)
    return lambda folder: Ceremony(builder.FOLDER, inside / "tiny.r1cs", ptau, folder)


def test_the_whole_path(tiny: Any, tmp_path: Path) -> None:
    run = tiny(tmp_path)
    assert "consistent" in run.done("powers", run.ptau)
    run.done("beacon", run.contributed(), run.key("final"), BEACON)
    run.done("verify", run.r1cs, run.ptau, run.key("final"), tmp_path / "transcript.json")
    transcript = json.loads((tmp_path / "transcript.json").read_text())
    assert [(one["kind"], one["name"]) for one in transcript["contributions"]] == [
        ("person", "Ada"),
        ("person", "Bo"),
        ("person", "Cyd"),
        ("beacon", "beacon"),
    ]
    assert transcript["contributions"][-1]["beacon"] == BEACON and transcript["contributions"][-1]["iterations"] == 10
    assert len({one["transcript"] for one in transcript["contributions"]}) == 4
    run.done("export", run.key("final"), tmp_path / "vk.json")
    vk = json.loads((tmp_path / "vk.json").read_text())
    assert vk["protocol"] == "groth16" and vk["nPublic"] == 1 and "shardy" not in vk


def test_steps_out_of_place(tiny: Any, tmp_path: Path) -> None:
    run = tiny(tmp_path)
    run.contributed()
    assert "1 contributions" in run.refused("beacon", run.key("1"), tmp_path / "x", BEACON)
    assert "not a beacon" in run.refused("verify", run.r1cs, run.ptau, run.key("3"))
    assert "not a beacon" in run.refused("export", run.key("3"), tmp_path / "x")
    assert "already" in run.refused("contribute", run.key("2"), run.key("3"), "Dee")
    assert "name" in run.refused("contribute", run.key("2"), tmp_path / "x", " ")
    assert "hex" in run.refused("beacon", run.key("3"), tmp_path / "x", "0102")
    assert "ITERATIONS" in run.refused("beacon", run.key("3"), tmp_path / "x", BEACON, "9")
    run.done("contribute", run.key("2"), run.key("twice"), "Ada")
    assert "one name" in run.refused("beacon", run.key("twice"), tmp_path / "x", BEACON)
    run.done("beacon", run.key("3"), run.key("final"), BEACON)
    assert "last step" in run.refused("contribute", run.key("final"), tmp_path / "x", "Dee")
    assert not (tmp_path / "x").exists()


def test_keys_that_were_touched(tiny: Any, tmp_path: Path) -> None:
    run = tiny(tmp_path)
    run.done("beacon", run.contributed(), run.key("final"), BEACON)
    good = run.key("final").read_bytes()
    # one bit in points of the key, and in the first thing that the last contributor showed
    for at in (len(good) // 2, good.index(b"Cyd") - 100):
        run.key("bad").write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        run.refused("verify", run.r1cs, run.ptau, run.key("bad"))
    run.key("bad").write_bytes(good[: len(good) // 2])
    run.refused("verify", run.r1cs, run.ptau, run.key("bad"))
    run.refused("verify", run.r1cs, run.ptau, run.ptau)


def test_contributors_know_theirs_by_the_transcript(tiny: Any, tmp_path: Path) -> None:
    """A name can be changed without a trace; what a step printed cannot."""
    run = tiny(tmp_path)
    run.contributed()
    printed = run.done("contribute", run.key("3"), run.key("4"), "Dee").split()[-1]
    run.done("beacon", run.key("4"), run.key("final"), BEACON)
    found = json.loads(run.done("verify", run.r1cs, run.ptau, run.key("final")))["contributions"]
    assert found[3]["name"] == "Dee" and found[3]["transcript"] == printed
    good = run.key("final").read_bytes()
    run.key("bad").write_bytes(good.replace(bytes.fromhex(printed), bytes(64)))
    run.refused("verify", run.r1cs, run.ptau, run.key("bad"))
    run.key("renamed").write_bytes(good.replace(b"Dee", b"Eve"))
    renamed = json.loads(run.done("verify", run.r1cs, run.ptau, run.key("renamed")))["contributions"]
    assert renamed[3]["name"] == "Eve" and renamed[3]["transcript"] == printed


def test_another_circuit_or_powers(tiny: Any, builder: Any, tmp_path: Path) -> None:
    run = tiny(tmp_path)
    run.done("beacon", run.contributed(), run.key("final"), BEACON)
    other = powers(builder.FOLDER, 4, tmp_path)
    run.refused("verify", run.r1cs, other, run.key("final"))
    data = bytearray(run.r1cs.read_bytes())
    first = Constraints.read(bytes(data)).constraints[0][0][0][1]
    at = data.index(first.to_bytes(32, "little"), 100)
    data[at : at + 32] = (first - 1).to_bytes(32, "little")
    (tmp_path / "other.r1cs").write_bytes(bytes(data))
    run.refused("verify", tmp_path / "other.r1cs", run.ptau, run.key("final"))


def test_words_that_are_no_step(builder: Any, tmp_path: Path) -> None:
    run = Ceremony(builder.FOLDER, tmp_path, tmp_path, tmp_path)
    for words in ((), ("start",), ("constructor",), ("export", "a", "b", "c")):
        found = run.step(*words)
        assert found.returncode == 2 and "contribute IN.zkey" in found.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_products_at_the_smallest_size(builder: Any, compiled: Any, random_case: Any, tmp_path: Path) -> None:
    """Keys of a ceremony prove a product to snarkjs; with another result's signals the proof is refused."""
    shape = Circuit(8, 8, 8)
    circuit, case = compiled(8, 8, 8), random_case(shape, 21)
    ptau = powers(builder.FOLDER, 12, tmp_path)
    run = Ceremony(builder.FOLDER, circuit.folder / f"{shape.name}.r1cs", ptau, tmp_path)
    run.done("beacon", run.contributed(), run.key("final"), BEACON)
    run.done("verify", run.r1cs, run.ptau, run.key("final"))
    run.done("export", run.key("final"), tmp_path / "vk.json")
    (tmp_path / "inputs.json").write_text(json.dumps([case.inputs.as_json()]))
    command = ["node", "witness.mjs", str(circuit.folder), str(tmp_path / "inputs.json"), str(tmp_path)]
    subprocess.run(command, cwd=builder.FOLDER, check=True)
    files = [tmp_path / name for name in ("vk.json", "public.json", "proof.json")]
    snarkjs(builder.FOLDER, "groth16", "prove", run.key("final"), tmp_path / "0.wtns", files[2], files[1])
    assert json.loads(files[1].read_text()) == [str(value) for value in case.signals]
    assert "OK!" in snarkjs(builder.FOLDER, "groth16", "verify", *files)
    files[1].write_text(json.dumps([str(case.signals[0] + 1), *map(str, case.signals[1:])]))
    with pytest.raises(subprocess.CalledProcessError):
        snarkjs(builder.FOLDER, "groth16", "verify", *files)
