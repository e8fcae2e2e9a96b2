"""`Verifier`: Groth16 on BN254 by the committed module, in an instance of its own with prepared keys."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence

from .instance import ABI, MANIFEST_PATH, MODULE_PATH, Instance, parse_proof_wire
from .parse import Proof, R, VerificationKey, publics_wire

__all__ = ["ABI", "BATCH_MAX", "MANIFEST_PATH", "MODULE_PATH", "Claim", "Verifier"]

BATCH_MAX = 1024
_RANGE = -3

Claim = tuple[Proof, Sequence[int]]


class Verifier:
    """Keys by handle, proofs one by one or in batches. Safe to share among threads, which then take turns.

    source: another module's bytes, to compare modules; the committed one when absent.
    """

    def __init__(self, source: bytes | None = None) -> None:
        self._instance = Instance(source)
        self._lock = threading.Lock()
        self._public: dict[int, int] = {}

    # Keys

    def add_key(self, key: VerificationKey) -> int:
        """Prepare a key; its handle. Raises ValueError for points off their curves or outside their groups."""
        data = key.wire()
        with self._lock:
            handle = self._instance.passed("add_key", self._run("add_key", [data], len(data)))
            self._public[handle] = key.public
        return handle

    def drop_key(self, handle: int) -> None:
        """Forget a key. Raises ValueError for a handle that is not held."""
        with self._lock:
            self._instance.checked("drop_key", handle)
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
        return result != _RANGE and self._instance.passed("verify", result) == 1

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
            with self._instance.blocks(proofs, signals, secrets.token_bytes(16 * size), size) as places:
                at_proofs, at_signals, at_random, at_out = places
                self._instance.checked("verify_batch", handle, size, at_proofs, at_signals, count, at_random, at_out)
                return [byte == 1 for byte in self._instance.read(at_out, size)]

    def prove(self, zkey: bytes, witness: bytes, random: bytes | None = None) -> tuple[Proof, list[int]]:
        """A proof and its public signals from a .zkey and a .wtns. Raises ValueError for files that do not fit.

        random: 128 secret bytes, for tests that want the same proof again. Takes as much of the module's memory as the
        key is long, and that memory never shrinks: prove with an instance that verifies nothing else.
        """
        secret = secrets.token_bytes(128) if random is None else random
        if len(secret) != 128:
            raise ValueError("random must be 128 bytes")
        with self._lock, self._instance.blocks(zkey, witness, secret) as (at_key, at_witness, at_random):
            size = 256 + 32 * self._instance.checked("zkey_publics", at_key, len(zkey))
            with self._instance.blocks(size) as (out,):
                self._instance.checked(
                    "prove_groth16", at_key, len(zkey), at_witness, len(witness), at_random, out, size
                )
                return parse_proof_wire(self._instance.read(out, size))

    def poseidon(self, inputs: Sequence[int]) -> int:
        """circomlib's Poseidon of 1 to 12 elements in [0, r)."""
        if not 1 <= len(inputs) <= 12 or not all(0 <= value < R for value in inputs):
            raise ValueError("Poseidon takes 1 to 12 elements, each in [0, r)")
        with self._lock, self._instance.blocks(publics_wire(list(inputs)), 32) as (at, out):
            self._instance.checked("poseidon_hash", at, len(inputs), out)
            return int.from_bytes(self._instance.read(out, 32), "big")

    def _count(self, handle: int, publics: Sequence[int]) -> None:
        if handle not in self._public:
            raise ValueError(f"no key has the handle {handle}")
        if len(publics) != self._public[handle]:
            raise ValueError(f"the key has {self._public[handle]} public signals, not {len(publics)}")

    def _run(self, name: str, blocks: list[bytes], *after: int, before: tuple[int, ...] = ()) -> int:
        with self._instance.blocks(*blocks) as places:
            return self._instance.call(name, *before, *places, *after)
