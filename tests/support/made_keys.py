"""Verification keys whose points lie on their curves and in their groups, as whoever checks proofs demands."""

from __future__ import annotations

from functools import cache
from typing import Any

from shardy_common.proofs import pure
from shardy_common.verifiers import Key, checked_key

NOTE = {"dev": True, "circuit": "c", "r1cs_blake3": "ab", "seed_tag": "cd"}
"""What a development key says of itself."""


@cache
def _g1(times: int) -> tuple[str, str, str]:
    curve = pure._curve()
    x, y = curve.normalize(curve.multiply(curve.G1, times))
    return str(x.n), str(y.n), "1"


@cache
def _g2(times: int) -> tuple[tuple[str, str], ...]:
    curve = pure._curve()
    x, y = curve.normalize(curve.multiply(curve.G2, times))
    return (*((str(int(c.coeffs[0])), str(int(c.coeffs[1]))) for c in (x, y)), ("1", "0"))


def made_vk(number: int, public: int = 4, **more: Any) -> dict[str, Any]:
    """Another key for each number: multiples of the generators, so anybody can forge under it."""
    return {
        "protocol": "groth16",
        "curve": "bn128",
        "nPublic": public,
        "vk_alpha_1": list(_g1(100 * number + 1)),
        "vk_beta_2": [list(pair) for pair in _g2(2)],
        "vk_gamma_2": [list(pair) for pair in _g2(3)],
        "vk_delta_2": [list(pair) for pair in _g2(4)],
        "IC": [list(_g1(at + 5)) for at in range(public + 1)],
        **more,
    }


def made_key(number: int) -> Key:
    return checked_key(made_vk(number))
