#!/usr/bin/env python3
"""Build the two modules of the proof crate and their manifest; check or compare what is committed.

    python proofs-rs/build.py            build verifier.wasm (server) and prover.wasm (browser)
    python proofs-rs/build.py --check    needs no Rust: do manifest, sources and modules fit together?
    python proofs-rs/build.py --compare  build elsewhere and compare with the committed modules

One crate, two sets of target features. The server's module has wide arithmetic (64 × 64 → 128 bits in one instruction),
on which arithmetic in large fields lives; browsers lack it. Toolchains are found as for the engine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from blake3 import blake3

CRATE = Path(__file__).resolve().parent
ROOT = CRATE.parent
MANIFEST = ROOT / "libs" / "shardy_common" / "proofs" / "manifest.json"
ABI = 2
BUILT = "shardy_proofs.wasm"
LINK = ("-C", "link-arg=--export-memory")


@dataclass(frozen=True)
class Module:
    """One committed file and the flags that make it."""

    path: Path
    flags: tuple[str, ...]


MODULES = {
    "verifier.wasm": Module(
        ROOT / "libs" / "shardy_common" / "proofs" / "verifier.wasm",
        ("-C", "target-feature=+simd128,+wide-arithmetic", *LINK),
    ),
    "prover.wasm": Module(
        ROOT / "libs" / "shardy_common" / "proofs" / "prover.wasm", ("-C", "target-feature=+simd128", *LINK)
    ),
}


def _engine_build() -> ModuleType:
    """engine-rs/build.py, which knows how to find and call a toolchain."""
    spec = importlib.util.spec_from_file_location("engine_build", ROOT / "engine-rs" / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sources_digest() -> str:
    """hex(BLAKE3) over `path NUL length NUL bytes` of each source, sorted by path; line ends count as LF."""
    hasher = blake3()
    files = [CRATE / "Cargo.toml", *(CRATE / "src").rglob("*.rs")]
    for path in sorted(files, key=lambda path: path.relative_to(CRATE).as_posix()):
        text = path.read_bytes().replace(b"\r\n", b"\n")
        hasher.update(f"{path.relative_to(CRATE).as_posix()}\0{len(text)}\0".encode() + text)
    return hasher.hexdigest()


def described(name: str, data: bytes) -> dict[str, object]:
    """What the manifest says of a module."""
    return {"wasm_blake3": blake3(data).hexdigest(), "bytes": len(data), "flags": " ".join(MODULES[name].flags)}


def build() -> None:
    """Write modules and manifest."""
    toolchain = _engine_build().Toolchain()
    manifest: dict[str, object] = {"abi": ABI, "sources_blake3": sources_digest(), "toolchain": toolchain.name}
    for name, module in MODULES.items():
        data = toolchain.build(CRATE / "target" / Path(name).stem, CRATE, "proofs", module.flags, BUILT)
        module.path.parent.mkdir(parents=True, exist_ok=True)
        module.path.write_bytes(data)
        manifest[name] = described(name, data)
        print(f"{name}: {len(data):,} bytes, {toolchain.name}")
    MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n")


def mismatches() -> list[str]:
    """What does not fit together between sources, manifest and modules; empty when all is well."""
    try:
        manifest = json.loads(MANIFEST.read_text())
        found: dict[str, object] = {"abi": ABI, "sources_blake3": sources_digest()}
        found |= {name: described(name, module.path.read_bytes()) for name, module in MODULES.items()}
    except (OSError, ValueError) as problem:
        return [f"cannot read: {problem}"]
    return [
        f"{key}: the manifest says {manifest.get(key)}, found {value}"
        for key, value in found.items()
        if manifest.get(key) != value
    ]


def compare() -> int:
    """Build again and compare bytes, where the toolchain is the manifest's; the exit status."""
    toolchain = _engine_build().Toolchain()
    manifest = json.loads(MANIFEST.read_text())
    if toolchain.name != manifest["toolchain"]:
        print(f"built with {manifest['toolchain']}, here is {toolchain.name}: bytes cannot be compared")
        print("build here, and run the tests of tests/proofs on what was built")
        return 2
    different = 0
    for name, module in MODULES.items():
        with tempfile.TemporaryDirectory() as folder:
            data = toolchain.build(Path(folder), CRATE, "proofs", module.flags, BUILT)
        equal = data == module.path.read_bytes()
        different += not equal
        print(f"{name}: same toolchain; bytes are {'equal' if equal else 'DIFFERENT'}")
    return 1 if different else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="verify manifest, sources and modules without Rust")
    group.add_argument("--compare", action="store_true", help="build elsewhere and compare")
    arguments = parser.parse_args()
    try:
        if arguments.check:
            problems = mismatches()
            print("\n".join(problems) or "sources, manifest and modules fit together")
            return 1 if problems else 0
        if arguments.compare:
            return compare()
        build()
    except (RuntimeError, subprocess.CalledProcessError) as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
