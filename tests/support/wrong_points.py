"""Points that belong into no proof, and a right proof's other spellings; py_ecc computes them."""

from __future__ import annotations

from shardy_common.proofs import pure
from shardy_common.proofs.parse import Proof, Q, R

bn = pure._curve()


def off_curve(point: tuple[int, int]) -> tuple[int, int]:
    return point[0], (point[1] + 1) % Q


def outside_group() -> tuple[tuple[int, int], tuple[int, int]]:
    """A point of the twist that is not of order r, found by trying x."""
    for number in range(1, 200):
        x = bn.FQ2([number, 1])
        y = root(x * x * x + bn.b2)
        if y is not None and not bn.is_inf(bn.multiply((x, y, bn.FQ2.one()), bn.curve_order)):
            return tuple(int(c) for c in x.coeffs), tuple(int(c) for c in y.coeffs)  # type: ignore[return-value]
    raise AssertionError("nearly every point is one")


def root(value: object) -> object | None:
    """A square root in Fq2, q = 3 mod 4 (Adj, Rodríguez-Henríquez 2012, algorithm 9)."""
    a1 = value ** ((Q - 3) // 4)  # type: ignore[operator]
    x0, alpha = a1 * value, a1 * a1 * value
    special = alpha == bn.FQ2([Q - 1, 0])
    found = bn.FQ2([0, 1]) * x0 if special else (alpha + bn.FQ2.one()) ** ((Q - 1) // 2) * x0
    return found if found * found == value else None


def affine(point: object) -> tuple[int, int]:
    x, y = bn.normalize(point)
    return int(x), int(y)


def rerandomised(proof: Proof) -> Proof:
    """(k⁻¹·A, k·B, C): another spelling of the same proof."""
    k = 12345
    a = (bn.FQ(proof.a[0]), bn.FQ(proof.a[1]), bn.FQ(1))
    b = (bn.FQ2(list(proof.b[0])), bn.FQ2(list(proof.b[1])), bn.FQ2.one())
    x, y = bn.normalize(bn.multiply(b, k))
    twist = (tuple(int(c) for c in x.coeffs), tuple(int(c) for c in y.coeffs))
    return Proof(affine(bn.multiply(a, pow(k, -1, R))), twist, proof.c)  # type: ignore[arg-type]
