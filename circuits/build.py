#!/usr/bin/env python3
"""Compile the circuits; with --keys also make development keys.

    python circuits/build.py                       compile the default shapes into circuits/build/<name>/
    python circuits/build.py --shapes 8x8x8,24x8x8 compile these (m×k×n)
    python circuits/build.py --keys COMMAND        and call `COMMAND NAME.r1cs NAME.zkey --vkey verification_key.json`
    python circuits/build.py --record              write what was compiled to circuits/constraints.json
    python circuits/build.py --check               fail where a compiled circuit is not the recorded one

A folder holds NAME.r1cs, NAME.wasm (the witness calculator), witness_calculator.cjs and main.circom. What is there is
kept while the sources and the compiler's version stay the same. The same sources give the same bytes on any machine.
Two are compiled at a time, the largest first: it takes half of the work. Needs Node.js 20 or newer with npm.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from blake3 import blake3

FOLDER = Path(__file__).resolve().parent
BUILD = FOLDER / "build"
RECORD = FOLDER / "constraints.json"
SHAPES = ((8, 8, 8), (16, 16, 16), (32, 32, 32), (64, 64, 64), (8, 384, 8))
"""m×k×n of A[m, k]·B[n, k]ᵀ."""


class Unbuildable(Exception):
    """What is missing, in words."""


def name_of(shape: tuple[int, int, int]) -> str:
    """The circuit's id, as in taskCtx: v2-8x384x8."""
    return "v2-{}x{}x{}".format(*shape)


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Only one process at a time makes `what`: tests in several processes ask for the same circuits."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / f"{what}.lock").open("w") as handle:
        try:
            import fcntl
        except ImportError:  # where there are no such locks, nobody but the user is in the way
            yield
            return
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def install() -> None:
    """node_modules as package-lock.json pins it."""
    with alone("node_modules"):
        _install()


def _install() -> None:
    ready = FOLDER / "node_modules" / ".ready"
    lock = blake3((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    if ready.exists() and ready.read_text() == lock:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise Unbuildable("Node.js 20 or newer with npm is needed to compile circuits")
    done = subprocess.run([npm, "ci", "--silent", "--no-audit", "--no-fund"], cwd=FOLDER, check=False)
    if done.returncode:
        raise Unbuildable("npm could not install the packages of circuits/package.json")
    ready.write_text(lock)


def sources_digest() -> str:
    """hex(BLAKE3) over `path NUL length NUL bytes` of our circuits and the lock file that pins compiler and library."""
    hasher = blake3()
    for path in sorted([*FOLDER.glob("*.circom"), *FOLDER.glob("templates/*.circom"), FOLDER / "package-lock.json"]):
        text = path.read_bytes().replace(b"\r\n", b"\n")
        hasher.update(f"{path.relative_to(FOLDER).as_posix()}\0{len(text)}\0".encode() + text)
    return hasher.hexdigest()


def header(r1cs: bytes) -> dict[str, int]:
    """Wires, publics and constraints out of an .r1cs file's header section."""
    if r1cs[:4] != b"r1cs":
        raise ValueError("not an .r1cs file")
    at = 12
    for _ in range(struct.unpack_from("<I", r1cs, 8)[0]):
        kind, size = struct.unpack_from("<IQ", r1cs, at)
        if kind == 1:
            wires, outputs, inputs, _private, _labels, constraints = struct.unpack_from("<IIIIQI", r1cs, at + 16 + 32)
            return {"constraints": constraints, "wires": wires, "publics": outputs + inputs}
        at += 12 + size
    raise ValueError("an .r1cs file without a header")


def compile_one(shape: tuple[int, int, int], sources: str, unchecked: bool = False) -> Path:
    """Compile one shape, unless it stands there already; its folder.

    unchecked: for tests, a witness calculator that asserts nothing and so computes what a cheater would, and the names
    of wires (NAME.sym); the constraints are the same. It lies in a folder of its own.
    """
    name = name_of(shape)
    folder = BUILD / (f"{name}-unchecked" if unchecked else name)
    stamp = folder / "sources"
    with alone(folder.name):
        if not (stamp.exists() and stamp.read_text() == sources):
            shutil.rmtree(folder, ignore_errors=True)
            _compile(shape, folder, unchecked)
            stamp.write_text(sources)
    return folder


def without_assertions(calculator: bytes) -> bytes:
    """The calculator going on where an equation fails: `print the message; return 4` becomes `print the message`."""
    failing, going_on = bytes.fromhex("1001 41040f 0b"), bytes.fromhex("1001 010101 0b")
    if failing not in calculator:
        raise Unbuildable("the compiler writes assertions in another way: without_assertions must be told")
    return calculator.replace(failing, going_on)


def _compile(shape: tuple[int, int, int], folder: Path, unchecked: bool) -> None:
    name = name_of(shape)
    folder.mkdir(parents=True)
    main = folder / "main.circom"
    main.write_text(
        'pragma circom 2.1.6;\ninclude "../../shardy_task_proof_v2.circom";\n'
        f"component main = ShardyTaskProofV2({', '.join(map(str, shape))});\n"
    )
    # The compiler sees nothing above the folder it is called in.
    inside = folder.relative_to(FOLDER).as_posix()
    flags = ["--r1cs", "--wasm", "--O2", *(["--sym"] if unchecked else []), "-o", inside]
    command = ["node", "node_modules/circom2/cli.js", f"{inside}/main.circom", *flags]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / "main.r1cs").exists():
        raise Unbuildable(f"{name} does not compile:\n{done.stdout}{done.stderr}")
    # Who makes keys names the circuit after the .r1cs file.
    (folder / "main.r1cs").rename(folder / f"{name}.r1cs")
    if unchecked:
        (folder / "main.sym").rename(folder / f"{name}.sym")
    calculator = (folder / "main_js" / "main.wasm").read_bytes()
    (folder / f"{name}.wasm").write_bytes(without_assertions(calculator) if unchecked else calculator)
    # The generated script is CommonJS, whatever a package.json above it says.
    (folder / "main_js" / "witness_calculator.js").rename(folder / "witness_calculator.cjs")
    shutil.rmtree(folder / "main_js")


def describe(folder: Path) -> dict[str, Any]:
    """What constraints.json says of one compiled circuit."""
    r1cs = (folder / f"{folder.name}.r1cs").read_bytes()
    return header(r1cs) | {"r1cs_bytes": len(r1cs), "r1cs_blake3": blake3(r1cs).hexdigest()}


def make_keys(folder: Path, command: str) -> None:
    """Call the key generator on one circuit, unless it made this circuit's keys before."""
    name = folder.name
    files = (folder / f"{name}.r1cs", folder / f"{name}.zkey", folder / "verification_key.json")
    stamp = folder / "keys"
    wanted = f"{command}\n{blake3(files[0].read_bytes()).hexdigest()}"
    if stamp.exists() and stamp.read_text() == wanted and files[1].exists() and files[2].exists():
        return
    stamp.unlink(missing_ok=True)
    words = [*shlex.split(command), str(files[0]), str(files[1]), "--vkey", str(files[2])]
    if subprocess.run(words, check=False).returncode:
        raise Unbuildable(f"no keys for {name}: {shlex.join(words)} failed")
    stamp.write_text(wanted)


def shape_of(text: str) -> tuple[int, int, int]:
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is no shape: write m×k×n as 8x384x8")
    m, k, n = (int(group) for group in found.groups())
    if m % 8 or k > 65_535:
        raise argparse.ArgumentTypeError(f"{text}: m must be a multiple of 8 and k at most 65535")
    return m, k, n


def recorded() -> dict[str, Any]:
    """constraints.json's circuits by name."""
    circuits: dict[str, Any] = json.loads(RECORD.read_text())["circuits"] if RECORD.exists() else {}
    return circuits


def build(shapes: list[tuple[int, int, int]], keys: str | None, jobs: int) -> dict[str, dict[str, Any]]:
    """Compile, and make keys; what constraints.json says of each. Unbuildable says what is missing."""
    install()
    sources = sources_digest()

    def one(shape: tuple[int, int, int]) -> dict[str, Any]:
        started = time.monotonic()
        folder = compile_one(shape, sources)
        made = describe(folder)
        if keys:
            make_keys(folder, keys)
        seconds = time.monotonic() - started
        print(f"{folder.name}: {made['constraints']:,} constraints, BLAKE3 {made['r1cs_blake3']}, {seconds:.1f} s")
        return made

    with ThreadPoolExecutor(jobs) as pool:
        running = {shape: pool.submit(one, shape) for shape in sorted(shapes, key=prod, reverse=True)}
        return {name_of(shape): running[shape].result() for shape in shapes}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shapes", type=lambda text: [shape_of(part) for part in text.split(",")], default=SHAPES)
    parser.add_argument(
        "--keys", metavar="COMMAND", help="program that makes keys, called with r1cs, zkey, --vkey file"
    )
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="how many at a time")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--record", action="store_true", help="write constraints.json")
    group.add_argument("--check", action="store_true", help="compare with constraints.json")
    arguments = parser.parse_args()
    try:
        found = build(list(arguments.shapes), arguments.keys, max(1, arguments.jobs))
    except Unbuildable as problem:
        print(problem, file=sys.stderr)
        return 2
    if arguments.record:
        RECORD.write_text(json.dumps({"circuits": found}, indent=2) + "\n")
    if arguments.check and (other := [name for name in found if found[name] != recorded().get(name)]):
        print(f"not as recorded in {RECORD.name}: {', '.join(other)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
