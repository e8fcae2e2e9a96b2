"""The same check as `Verifier`'s by py_ecc alone: no compiled code, no module, half a second a proof.

For people who want nothing between them and the pairing but Python that they can read, and a second opinion for tests.
py_ecc is imported when it is needed: the package does not depend on it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from .parse import G1, G2, Proof, VerificationKey, publics_wire


def _curve() -> Any:
    deep = sys.getrecursionlimit()
    try:
        from py_ecc import optimized_bn128
    except ImportError as problem:
        raise ImportError("install py_ecc to verify a proof in Python alone") from problem
    finally:
        # It raises the limit for the whole process, and needs it not: then deeply nested input, which the limit stops
        # elsewhere, would run over the end of the stack and kill the process.
        sys.setrecursionlimit(deep)
    return optimized_bn128


def _g1(curve: Any, point: G1) -> Any:
    x, y = point
    found = (curve.FQ(x), curve.FQ(y), curve.FQ(1))
    if not curve.is_on_curve(found, curve.b):
        raise ValueError("a point of G1 is not on its curve")
    return found


def _g2(curve: Any, point: G2) -> Any:
    (x0, x1), (y0, y1) = point
    found = (curve.FQ2([x0, x1]), curve.FQ2([y0, y1]), curve.FQ2.one())
    if not curve.is_on_curve(found, curve.b2):
        raise ValueError("a point of G2 is not on its curve")
    # The twist has many more points than the group; py_ecc's pairing does not look.
    if not curve.is_inf(curve.multiply(found, curve.curve_order)):
        raise ValueError("a point of G2 is outside the subgroup of order r")
    return found


def verify(key: VerificationKey, proof: Proof, publics: Sequence[int]) -> bool:
    """Whether the proof proves the signals: e(A, B) = e(α, β)·e(Σ xᵢICᵢ, γ)·e(C, δ). False for points off their curves.

    Raises ValueError for a key whose points are off their curves, for another number of signals and for signals that
    are not in [0, r); ImportError without py_ecc.
    """
    curve = _curve()
    if len(publics) != key.public:
        raise ValueError(f"the key has {key.public} public signals, not {len(publics)}")
    publics_wire(list(publics))
    alpha, beta, gamma, delta = (
        _g1(curve, key.alpha), _g2(curve, key.beta), _g2(curve, key.gamma), _g2(curve, key.delta)
    )  # fmt: skip
    signals = _g1(curve, key.ic[0])
    for point, value in zip(key.ic[1:], publics, strict=True):
        signals = curve.add(signals, curve.multiply(_g1(curve, point), value))
    try:
        a, b, c = _g1(curve, proof.a), _g2(curve, proof.b), _g1(curve, proof.c)
    except ValueError:
        return False
    pairs = [(b, curve.neg(a)), (beta, alpha), (gamma, signals), (delta, c)]
    product = curve.FQ12.one()
    for twisted, plain in pairs:
        product *= curve.pairing(twisted, plain, final_exponentiate=False)
    return bool(curve.final_exponentiate(product) == curve.FQ12.one())
