"""Groth16 by libmcl, through the C library inside the wheel `mclbn256`: what is to be had in Python without our module.

e(−A, B)·e(α, β)·e(Σ xᵢICᵢ, γ)·e(C, δ) = 1, one call for the four Miller loops. Points are checked as they are read.
"""

from __future__ import annotations

import ctypes
from typing import Any

from shardy_common.proofs.parse import G1, G2, Proof, VerificationKey

SNARK1, COMPILED = 4, 44
BYTES = {"Fr": 32, "G1": 96, "G2": 192, "GT": 384}


class Mcl:
    """A key held ready; `verify` is one proof from integers."""

    def __init__(self, key: VerificationKey) -> None:
        from mclbn256.mclbn256 import lib

        self.lib: Any = lib
        if lib.mclBn_init(SNARK1, COMPILED):
            raise RuntimeError("libmcl does not know the curve")
        lib.mclBn_verifyOrderG2(1)
        self.ic = [self.g1(point) for point in key.ic]
        self.ic_tail = b"".join(point.raw for point in self.ic[1:])
        self.alpha, self.beta, self.gamma, self.delta = (
            self.g1(key.alpha), self.g2(key.beta), self.g2(key.gamma), self.g2(key.delta)
        )  # fmt: skip

    def _read(self, kind: str, text: str) -> Any:
        found = ctypes.create_string_buffer(BYTES[kind])
        if getattr(self.lib, f"mclBn{kind}_setStr")(found, text.encode(), len(text), 10):
            raise ValueError(f"libmcl refuses a {kind}")
        return found

    def g1(self, point: G1) -> Any:
        return self._read("G1", f"1 {point[0]} {point[1]}")

    def g2(self, point: G2) -> Any:
        (x0, x1), (y0, y1) = point
        return self._read("G2", f"1 {x0} {x1} {y0} {y1}")

    def verify(self, proof: Proof, publics: list[int]) -> bool:
        a, b, c = self.g1(proof.a), self.g2(proof.b), self.g1(proof.c)
        self.lib.mclBnG1_neg(a, a)
        scalars = b"".join(self._read("Fr", str(value)).raw for value in publics)
        signals = ctypes.create_string_buffer(96)
        self.lib.mclBnG1_mulVec(signals, self.ic_tail, scalars, len(publics))
        self.lib.mclBnG1_add(signals, signals, self.ic[0])
        product = ctypes.create_string_buffer(384)
        left = a.raw + self.alpha.raw + signals.raw + c.raw
        right = b.raw + self.beta.raw + self.gamma.raw + self.delta.raw
        self.lib.mclBn_millerLoopVec(product, left, right, 4)
        self.lib.mclBn_finalExp(product, product)
        return bool(self.lib.mclBnGT_isOne(product))
