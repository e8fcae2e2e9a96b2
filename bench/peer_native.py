"""The verifier's own source, compiled natively: arkworks without WebAssembly. What the sandbox costs."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from shardy_common.proofs.parse import Proof, VerificationKey, publics_wire

FOLDER = Path(__file__).parents[1] / "proofs-rs"
LIBRARY = FOLDER / "target" / "release" / "libshardy_proofs.so"


class Native:
    """A key held ready. OSError where there is no Rust to build the library with."""

    def __init__(self, key: VerificationKey) -> None:
        if shutil.which("cargo") is None:
            raise OSError("no cargo")
        subprocess.run(["cargo", "build", "--quiet", "--release", "--lib"], cwd=FOLDER, check=True)
        self._library = ctypes.CDLL(str(LIBRARY))
        data = key.wire()
        self._library.add_key.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self._library.verify.argtypes = [ctypes.c_uint32, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
        self._key = self._library.add_key(data, len(data))
        if self._key < 0:
            raise ValueError(f"the native verifier refuses the key: {self._key}")

    def verify(self, proof: Proof, publics: Sequence[int]) -> bool:
        return bool(self._library.verify(self._key, proof.wire(), publics_wire(list(publics)), len(publics)) == 1)
