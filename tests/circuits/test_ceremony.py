"""The production path to keys: powers of tau, three people, a beacon, a check by anyone; and each step out of place.

Rules are tested on a circuit of one multiplication, whose powers take a second; the whole path on the smallest circuit
of products, whose powers take minutes, over a mesh: test_ceremony_on_mesh.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from ceremony_kit import BEACON, powers, tiny_r1cs
from constraints import Circuit as Constraints


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


@pytest.fixture(scope="module")
def tiny(builder: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Ceremony]:
    """(folder) → a ceremony for the circuit of one multiplication."""
    made = tmp_path_factory.mktemp("tiny")
    r1cs = tiny_r1cs(builder)
    ptau = powers(builder.FOLDER, 4, made)
    return lambda folder: Ceremony(builder.FOLDER, r1cs, ptau, folder)


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


def test_keys_on_their_way(tiny: Any, tmp_path: Path) -> None:
    """What a key lists at each step, and whether it follows from that; powers that nobody published have no name."""
    run = tiny(tmp_path)
    run.contributed()
    assert json.loads(run.done("list", run.key("0"))) == {"contributions": []}
    listed = json.loads(run.done("list", run.key("2")))["contributions"]
    assert [(one["kind"], one["name"]) for one in listed] == [("person", "Ada"), ("person", "Bo")]
    for number in ("0", "2"):
        checked = json.loads(run.done("check", run.r1cs, run.ptau, run.key(number)))
        assert checked == json.loads(run.done("list", run.key(number)))
    good = run.key("2").read_bytes()
    run.key("bad").write_bytes(good[:-70] + bytes([good[-70] ^ 1]) + good[-69:])
    run.refused("check", run.r1cs, run.ptau, run.key("bad"))
    found = json.loads(run.done("digest", run.ptau))
    assert found == {"blake2b": blake2b(run.ptau.read_bytes()).hexdigest(), "published": ""}


def test_published_powers_are_known_by_their_digest(builder: Any) -> None:
    known = json.loads((builder.FOLDER / "powers.json").read_text())["powers"]
    names = [f"powersOfTau28_hez_final_{power:02}" for power in range(8, 28)]
    assert list(known.values()) == [*names, "powersOfTau28_hez_final"]
    assert all(len(bytes.fromhex(digest)) == 64 for digest in known)
