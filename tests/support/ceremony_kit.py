"""What tests of ceremonies share: snarkjs as a program, powers of tau made on the spot, and a circuit of one
multiplication, with which a step takes a second."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

BEACON = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
TINY = """pragma circom 2.1.6;
template Tiny() {
    signal input a;
    signal input b;
    signal output c <== a * b;
}
component main = Tiny();
"""


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


def tiny_r1cs(builder: Any) -> Path:
    """The circuit of one multiplication, compiled. builder: circuits/build.py."""
    inside = builder.BUILD / "tiny"
    with builder.alone("tiny"):
        inside.mkdir(parents=True, exist_ok=True)
        (inside / "tiny.circom").write_text(TINY)
        command = ["node", "node_modules/circom2/cli.js", "build/tiny/tiny.circom", "--r1cs", "-o", "build/tiny"]
        subprocess.run(command, cwd=builder.FOLDER, capture_output=True, check=True)
    return inside / "tiny.r1cs"
