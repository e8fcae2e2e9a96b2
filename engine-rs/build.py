#!/usr/bin/env python3
"""Build the engine module and its manifest; check or compare what is committed.

    python engine-rs/build.py            build into libs/shardy_common/engine/
    python engine-rs/build.py --check    needs no Rust: do manifest, sources and module fit together?
    python engine-rs/build.py --compare  build elsewhere and compare with the committed module

A module depends on the compiler's version, so `--compare` compares bytes where the toolchain is the one that the
manifest names, and otherwise only behaviour, by running vectors/ on both modules.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from blake3 import blake3

CRATE = Path(__file__).resolve().parent
ROOT = CRATE.parent
TARGET_FOLDER = ROOT / "libs" / "shardy_common" / "engine"
MODULE_NAME = "shardy_engine.wasm"
MANIFEST_NAME = "manifest.json"
TRIPLE = "wasm32-unknown-unknown"
ABI = 1
# Only what every current browser and wasmtime have on by default; no relaxed SIMD, whose results may differ by machine.
FLAGS = ("-C", "target-feature=+simd128", "-C", "link-arg=--export-memory")


class Unbuildable(RuntimeError):
    """No usable Rust toolchain; the message says what to install."""


def sources() -> list[Path]:
    """The files that determine the module, sorted by their path in the crate."""
    return sorted(
        [CRATE / "Cargo.toml", *(CRATE / "src").rglob("*.rs")], key=lambda path: path.relative_to(CRATE).as_posix()
    )


def sources_digest() -> str:
    """hex(BLAKE3) over `path NUL length NUL bytes` of each source; line ends count as LF."""
    hasher = blake3()
    for path in sources():
        text = path.read_bytes().replace(b"\r\n", b"\n")
        hasher.update(f"{path.relative_to(CRATE).as_posix()}\0{len(text)}\0".encode() + text)
    return hasher.hexdigest()


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


class Toolchain:
    """How to call cargo: the user's own with its wasm32 target, else Debian's with the standard library's source."""

    def __init__(self) -> None:
        rustc, cargo = os.environ.get("RUSTC") or shutil.which("rustc"), shutil.which("cargo")
        folder = _output(rustc, "--print", "target-libdir", "--target", TRIPLE) if rustc else ""
        if rustc and cargo and folder and any(Path(folder).glob("libcore-*.rlib")):
            self.rustc, self.cargo, self.extra, self.environment = rustc, cargo, [], {}
        elif Path("/usr/bin/rustc").exists() and Path("/usr/lib/rustlib/src/rust/library/std").exists():
            self.rustc, self.cargo = "/usr/bin/rustc", "/usr/bin/cargo"
            self.extra = ["-Zbuild-std=std,panic_abort"]
            # Debian ships no wasm32 standard library, so std is built from its source, which a stable compiler
            # allows only with this variable.
            self.environment = {"RUSTC_BOOTSTRAP": "1", "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER": "wasm-ld-19"}
        else:
            raise Unbuildable(
                f"run `rustup target add {TRIPLE}`, or on Debian install rustc-web cargo-web rust-web-src lld-19"
            )
        self.name = _output(self.rustc, "--version") + (" with std from source" if self.extra else "")
        self.sysroot = _output(self.rustc, "--print", "sysroot")

    def build(
        self,
        work: Path,
        crate: Path = CRATE,
        name: str = "engine",
        flags: tuple[str, ...] = FLAGS,
        file: str = MODULE_NAME,
    ) -> bytes:
        """The bytes of the crate's module `file`, built in `work`. name: what paths in it call the crate's folder."""
        remaps = {
            str(crate): name,
            str(work): "target",
            os.environ.get("CARGO_HOME", str(Path.home() / ".cargo")): "cargo",
            self.sysroot: "rust",
        }
        # Debian's standard library lies behind a link outside the sysroot's real path.
        if self.extra:
            remaps[os.path.realpath("/usr/lib/rustlib/src/rust")] = "rust/lib/rustlib/src/rust"
        # The folder of fetched crates is named after where they came from, which is no part of the module. It exists
        # once they are fetched, and of several remappings that fit a path the last one counts.
        fetch = [self.cargo, "fetch", "--quiet", "--target", TRIPLE]
        subprocess.run(fetch, cwd=crate, env=os.environ | self.environment | {"RUSTC": self.rustc}, check=True)
        home = Path(os.environ.get("CARGO_HOME", str(Path.home() / ".cargo")))
        for source in sorted((home / "registry" / "src").glob("*")):
            remaps[str(source)] = "crates"
        every = [*flags, *(f"--remap-path-prefix={old}={new}" for old, new in remaps.items())]
        environment = (
            os.environ
            | self.environment
            | {
                "RUSTC": self.rustc,
                "CARGO_TARGET_DIR": str(work),
                "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(every),
            }
        )
        environment.pop("RUSTFLAGS", None)
        command = [self.cargo, "build", "--release", "--lib", "--target", TRIPLE, *self.extra]
        subprocess.run(command, cwd=crate, env=environment, check=True)
        return (work / TRIPLE / "release" / file).read_bytes()


def build() -> None:
    """Write module and manifest."""
    toolchain = Toolchain()
    module = toolchain.build(CRATE / "target" / "module")
    TARGET_FOLDER.mkdir(parents=True, exist_ok=True)
    (TARGET_FOLDER / MODULE_NAME).write_bytes(module)
    manifest = {
        "abi": ABI,
        "sources_blake3": sources_digest(),
        "wasm_blake3": blake3(module).hexdigest(),
        "bytes": len(module),
        "toolchain": toolchain.name,
        "flags": " ".join(FLAGS),
    }
    (TARGET_FOLDER / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n")
    print(f"{MODULE_NAME}: {len(module):,} bytes, BLAKE3 {manifest['wasm_blake3']}, {toolchain.name}")


def mismatches(folder: Path = TARGET_FOLDER) -> list[str]:
    """What does not fit together between sources, manifest and module in `folder`; empty when all is well."""
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text())
        module = (folder / MODULE_NAME).read_bytes()
    except (OSError, ValueError) as problem:
        return [f"cannot read: {problem}"]
    found = {
        "abi": ABI,
        "sources_blake3": sources_digest(),
        "wasm_blake3": blake3(module).hexdigest(),
        "bytes": len(module),
        "flags": " ".join(FLAGS),
    }
    return [
        f"{key}: the manifest says {manifest.get(key)}, found {value}"
        for key, value in found.items()
        if manifest.get(key) != value
    ]


def compare() -> int:
    """Build again and compare; the exit status."""
    toolchain = Toolchain()
    committed = (TARGET_FOLDER / MODULE_NAME).read_bytes()
    manifest = json.loads((TARGET_FOLDER / MANIFEST_NAME).read_text())
    with tempfile.TemporaryDirectory() as folder:
        module = toolchain.build(Path(folder))
    if toolchain.name == manifest["toolchain"]:
        print("same toolchain; bytes are", "equal" if module == committed else "DIFFERENT")
        return 0 if module == committed else 1
    print(f"built with {manifest['toolchain']}, here is {toolchain.name}: comparing behaviour only")
    sys.path.insert(0, str(ROOT / "vectors"))
    from replay import failures  # needs wasmtime and NumPy, which --check does without

    bad = {name: failures(data) for name, data in (("committed", committed), ("built", module))}
    for name, messages in bad.items():
        print(f"{name}: {messages if messages else 'all vectors pass'}")
    return 1 if any(bad.values()) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="verify manifest, sources and module without Rust")
    group.add_argument("--compare", action="store_true", help="build elsewhere and compare")
    arguments = parser.parse_args()
    try:
        if arguments.check:
            problems = mismatches()
            print("\n".join(problems) or "sources, manifest and module fit together")
            return 1 if problems else 0
        if arguments.compare:
            return compare()
        build()
    except Unbuildable as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
