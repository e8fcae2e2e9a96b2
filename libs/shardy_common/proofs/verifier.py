"""`Verifier`: Groth16 on BN254 by the committed module, in an instance of its own with prepared keys."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import wasmtime

from shardy_common.engine.calls import bind
from shardy_common.engine.module import wasm_engine

from .parse import Proof, R, VerificationKey, publics_wire

MODULE_PATH = Path(__file__).with_name("verifier.wasm")
MANIFEST_PATH = Path(__file__).with_name("manifest.json")
ABI = 1
BATCH_MAX = 1024
_RANGE = -3
_REASONS = {
    -1: "a file is cut short or has parts of the wrong length",
    -2: "a file is of another kind, version or field",
    -3: "a number or point is out of range",
    -4: "too large, or too many keys (256)",
    -5: "the parts do not belong together (number of signals, or a witness of another circuit)",
    -6: "no such key",
}

Claim = tuple[Proof, Sequence[int]]


@cache
def compiled() -> tuple[wasmtime.Engine, wasmtime.Module]:
    """The committed module, compiled once per process; safe to share among threads."""
    engine = wasm_engine(wide_arithmetic=True)  # the module's field multiplications are made of it
    return engine, wasmtime.Module(engine, MODULE_PATH.read_bytes())


class Verifier:
    """Keys by handle, proofs one by one or in batches. Safe to share among threads, which then take turns.

    source: another module's bytes, to compare modules; the committed one when absent.
    """

    def __init__(self, source: bytes | None = None) -> None:
        if source is None:
            engine, module = compiled()
        else:
            engine = wasm_engine(disk_cache=False, wide_arithmetic=True)
            module = wasmtime.Module(engine, source)
        self._lock = threading.Lock()
        self._store = wasmtime.Store(engine)
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        self._memory: wasmtime.Memory = exports["memory"]  # type: ignore[assignment]
        self._calls: dict[str, Callable[..., Any]] = {
            name: bind(self._store, item) for name, item in exports.items() if isinstance(item, wasmtime.Func)
        }
        if self._calls["abi_version"]() != ABI:
            raise ImportError(f"the proof module speaks another ABI than this binding, {ABI}")
        self._public: dict[int, int] = {}

    # Keys

    def add_key(self, key: VerificationKey) -> int:
        """Prepare a key; its handle. Raises ValueError for points off their curves or outside their groups."""
        data = key.wire()
        with self._lock:
            handle = self._checked("add_key", self._run("add_key", [data], len(data)))
            self._public[handle] = key.public
        return handle

    def drop_key(self, handle: int) -> None:
        """Forget a key. Raises ValueError for a handle that is not held."""
        with self._lock:
            self._checked("drop_key", self._calls["drop_key"](handle))
            del self._public[handle]

    # Proofs

    def verify(self, handle: int, proof: Proof, publics: Sequence[int]) -> bool:
        """Whether the proof proves the signals under the key; False too for points off their curves.

        Raises ValueError for an unknown handle, another number of signals, and signals that are not in [0, r).
        """
        signals = publics_wire(list(publics))
        with self._lock:
            self._count(handle, publics)
            result = self._run("verify", [proof.wire(), signals], len(publics), before=(handle,))
        return result != _RANGE and self._checked("verify", result) == 1

    def verify_batch(self, handle: int, claims: Sequence[Claim]) -> list[bool]:
        """What `verify` says of each claim, at less than half the price: one random combination for all of them.

        A wrong proof passes with probability at most 2⁻¹²⁸. Where the combination fails, halves are tried until each
        wrong proof is found. Raises as `verify` does.
        """
        if len(claims) > BATCH_MAX:
            raise ValueError(f"a batch holds at most {BATCH_MAX:,} proofs")
        if not claims:
            return []
        proofs = b"".join(proof.wire() for proof, _ in claims)
        signals = b"".join(publics_wire(list(publics)) for _, publics in claims)
        with self._lock:
            for _, publics in claims:
                self._count(handle, publics)
            count, size = self._public[handle], len(claims)
            blocks = [proofs, signals, secrets.token_bytes(16 * size), bytes(size)]
            with _Blocks(self, blocks) as (at_proofs, at_signals, at_random, at_out):
                call = self._calls["verify_batch"]
                result = call(handle, size, at_proofs, at_signals, count, at_random, at_out)
                self._checked("verify_batch", result)
                return [byte == 1 for byte in self._read(at_out, size)]

    def prove(self, zkey: bytes, witness: bytes, random: bytes | None = None) -> tuple[Proof, list[int]]:
        """A proof and its public signals from a .zkey and a .wtns. Raises ValueError for files that do not fit.

        random: 128 secret bytes, for tests that want the same proof again. Takes as much of the module's memory as the
        key is long, and that memory never shrinks: prove with an instance that verifies nothing else.
        """
        secret = secrets.token_bytes(128) if random is None else random
        if len(secret) != 128:
            raise ValueError("random must be 128 bytes")
        with self._lock, _Blocks(self, [zkey, witness, secret]) as (at_key, at_witness, at_random):
            count = self._checked("zkey_publics", self._calls["zkey_publics"](at_key, len(zkey)))
            size = 256 + 32 * count
            with _Blocks(self, [bytes(size)]) as (at_out,):
                result = self._calls["prove_groth16"](
                    at_key, len(zkey), at_witness, len(witness), at_random, at_out, size
                )
                self._checked("prove_groth16", result)
                out = self._read(at_out, size)
        numbers = [int.from_bytes(out[at : at + 32], "big") for at in range(0, size, 32)]
        ax, ay, bx0, bx1, by0, by1, cx, cy = numbers[:8]
        return Proof((ax, ay), ((bx0, bx1), (by0, by1)), (cx, cy)), numbers[8:]

    def poseidon(self, inputs: Sequence[int]) -> int:
        """circomlib's Poseidon of 1 to 12 elements in [0, r)."""
        if not 1 <= len(inputs) <= 12 or not all(0 <= value < R for value in inputs):
            raise ValueError("Poseidon takes 1 to 12 elements, each in [0, r)")
        with self._lock, _Blocks(self, [publics_wire(list(inputs)), bytes(32)]) as (at, out):
            self._checked("poseidon_hash", self._calls["poseidon_hash"](at, len(inputs), out))
            return int.from_bytes(self._read(out, 32), "big")

    # Memory

    def _count(self, handle: int, publics: Sequence[int]) -> None:
        if handle not in self._public:
            raise ValueError(f"no key has the handle {handle}")
        if len(publics) != self._public[handle]:
            raise ValueError(f"the key has {self._public[handle]} public signals, not {len(publics)}")

    def _checked(self, name: str, result: int) -> int:
        if result < 0:
            raise ValueError(f"{name}: {_REASONS.get(result, result)}")
        return result

    def _run(self, name: str, blocks: list[bytes], *after: int, before: tuple[int, ...] = ()) -> int:
        with _Blocks(self, blocks) as places:
            result: int = self._calls[name](*before, *places, *after)
        return result

    def _read(self, at: int, size: int) -> bytes:
        return bytes(self._memory.read(self._store, at, at + size))

    def _alloc(self, data: bytes) -> int:
        at = int(self._calls["alloc_bytes"](len(data))) & 0xFFFF_FFFF
        if at == 0:
            raise MemoryError(f"the proof module's memory has no room for {len(data):,} bytes")
        self._memory.write(self._store, data, at)
        return at


class _Blocks:
    """Bytes copied into the module's memory for the length of a call; empty ones take a null pointer."""

    def __init__(self, owner: Verifier, blocks: list[bytes]) -> None:
        self._owner, self._blocks = owner, blocks
        self._places: list[tuple[int, int]] = []

    def __enter__(self) -> list[int]:
        for data in self._blocks:
            self._places.append((self._owner._alloc(data) if data else 0, len(data)))
        return [at for at, _ in self._places]

    def __exit__(self, *_: object) -> None:
        for at, size in self._places:
            if size:
                self._owner._calls["free_bytes"](at, size)
