"""Groth16 proofs on BN254: strict parsing, verifier and prover in one WebAssembly module, a second verifier in Python.

`Verifier` is what servers use; `pure` shares no code with it and needs no compiled code.
"""

from __future__ import annotations

from .parse import Proof, VerificationKey, parse_proof, parse_publics, parse_vkey
from .verifier import Verifier

__all__ = ["Proof", "VerificationKey", "Verifier", "parse_proof", "parse_publics", "parse_vkey"]
