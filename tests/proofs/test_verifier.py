"""What is accepted, and what is refused with one thing changed; py_ecc is asked the same."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from proofkit import ROOT, Known
from wrong_points import affine, bn, off_curve, outside_group, rerandomised

from shardy_common.proofs import pure
from shardy_common.proofs.parse import Proof, Q, R
from shardy_common.proofs.verifier import Verifier


def changed(known: Known) -> dict[str, Proof]:
    """Wrong proofs by name."""
    proof = known.proof
    (x0, x1), y = proof.b
    return {
        "A off the curve": replace(proof, a=off_curve(proof.a)),
        "A negated": replace(proof, a=(proof.a[0], Q - proof.a[1])),
        "B off the curve": replace(proof, b=((x0, (x1 + 1) % Q), y)),
        "B's coordinates in the order of EIP-197": replace(proof, b=((x1, x0), (y[1], y[0]))),
        "B outside the group": replace(proof, b=outside_group()),
        "C off the curve": replace(proof, c=off_curve(proof.c)),
        "C another point": replace(proof, c=proof.a),
        "A and C swapped": replace(proof, a=proof.c, c=proof.a),
        "A infinity as zeros": replace(proof, a=(0, 0)),
        "B infinity as zeros": replace(proof, b=((0, 0), (0, 0))),
        "C infinity as zeros": replace(proof, c=(0, 0)),
    }


def test_the_known_proof(verifier: Verifier, handle: int, known: Known) -> None:
    assert verifier.verify(handle, known.proof, known.publics)
    assert pure.verify(known.key, known.proof, known.publics)


def test_every_change_is_refused(verifier: Verifier, handle: int, known: Known) -> None:
    for name, proof in changed(known).items():
        assert not verifier.verify(handle, proof, known.publics), name
        assert not pure.verify(known.key, proof, known.publics), name


def test_signals(verifier: Verifier, handle: int, known: Known) -> None:
    for at in range(4):
        wrong = list(known.publics)
        wrong[at] = (wrong[at] + 1) % R
        assert not verifier.verify(handle, known.proof, wrong)
    assert not pure.verify(known.key, known.proof, [*known.publics[:3], 44])
    # The same signal plus r is the same number to a verifier that does not look: an alias, which would be a replay.
    for value in (known.publics[0] + R, R, -1, 1 << 256):
        for check in (verifier.verify, lambda _, *rest: pure.verify(known.key, *rest)):
            with pytest.raises(ValueError, match="must be in"):
                check(handle, known.proof, [value, *known.publics[1:]])
    for signals in (known.publics[:3], [*known.publics, 0], []):
        with pytest.raises(ValueError, match="4 public signals"):
            verifier.verify(handle, known.proof, signals)


def test_the_module_itself_refuses_aliases(verifier: Verifier, handle: int, known: Known) -> None:
    """The binding refuses them first; here the module is asked without it."""
    signals = b"".join(value.to_bytes(32, "big") for value in [known.publics[0] + R, *known.publics[1:]])
    assert verifier._run("verify", [known.proof.wire(), signals], 4, before=(handle,)) == -3
    wire = known.proof.wire()
    alias = (known.proof.a[0] + Q).to_bytes(32, "big") + wire[32:]
    signals = b"".join(value.to_bytes(32, "big") for value in known.publics)
    assert verifier._run("verify", [wire, signals], 4, before=(handle,)) == 1
    assert verifier._run("verify", [alias, signals], 4, before=(handle,)) == -3


def test_a_rerandomised_proof_is_valid_with_other_bytes(verifier: Verifier, handle: int, known: Known) -> None:
    """So a proof's bytes are no identity: that is (key, publics)."""
    other = rerandomised(known.proof)
    assert other.wire() != known.proof.wire()
    assert verifier.verify(handle, other, known.publics)


def test_another_key(verifier: Verifier, known: Known) -> None:
    swapped = replace(known.key, gamma=known.key.delta, delta=known.key.gamma)
    assert not verifier.verify(verifier.add_key(swapped), known.proof, known.publics)
    for wrong in (
        replace(known.key, alpha=off_curve(known.key.alpha)),
        replace(known.key, delta=outside_group()),
        replace(known.key, ic=(*known.key.ic[:4], (0, 0))),
    ):
        with pytest.raises(ValueError, match="out of range"):
            verifier.add_key(wrong)


def test_handles(known: Known) -> None:
    own = Verifier()
    first = own.add_key(known.key)
    own.drop_key(first)
    with pytest.raises(ValueError, match="handle"):
        own.verify(first, known.proof, known.publics)
    with pytest.raises(ValueError, match="no such key"):
        own.drop_key(first)
    assert own.add_key(known.key) == first


@pytest.mark.parametrize("bad", [[], [0], [31], [5, 6], [0, 15, 16, 31], list(range(32)), list(range(1, 32))])
def test_batches_find_what_is_wrong(verifier: Verifier, handle: int, known: Known, bad: list[int]) -> None:
    wrong = list(changed(known).values())
    claims = [(known.proof, known.publics)] * 32
    for at in bad:
        claims[at] = (wrong[at % len(wrong)], known.publics) if at % 2 else (known.proof, [1, 2, 3, at])
    assert verifier.verify_batch(handle, claims) == [at not in bad for at in range(32)]


def test_small_batches(verifier: Verifier, handle: int, known: Known) -> None:
    right = (known.proof, known.publics)
    assert verifier.verify_batch(handle, []) == []
    assert verifier.verify_batch(handle, [right]) == [True]
    assert verifier.verify_batch(handle, [(known.proof, [1, 2, 3, 4])]) == [False]
    assert verifier.verify_batch(handle, [right, (rerandomised(known.proof), known.publics), right]) == [True] * 3
    with pytest.raises(ValueError, match="batch"):
        verifier.verify_batch(handle, [right] * 1025)


def test_errors_that_cancel_in_a_sum_are_found(verifier: Verifier, handle: int, known: Known) -> None:
    """C + D in one proof and C − D in another: equal weights would accept both."""
    c = (bn.FQ(known.proof.c[0]), bn.FQ(known.proof.c[1]), bn.FQ(1))
    plus, minus = (replace(known.proof, c=affine(bn.add(c, other))) for other in (bn.G1, bn.neg(bn.G1)))
    claims = [(plus, known.publics), (known.proof, known.publics), (minus, known.publics)]
    assert verifier.verify_batch(handle, claims) == [False, True, False]


def test_poseidon(verifier: Verifier) -> None:
    """Values of circomlibjs's own tests."""
    two = 7853200120776062878684798364095072458815029376092732009249414926327459813530
    assert verifier.poseidon([1, 2]) == two
    for wrong in ([], [0] * 13, [R], [-1]):
        with pytest.raises(ValueError, match="Poseidon"):
            verifier.poseidon(wrong)


def test_the_second_verifier_leaves_the_process_as_it_was() -> None:
    """A raised limit of recursion would let nested input of strangers crash it."""
    said = subprocess.run(
        [sys.executable, "-c", "import sys; a = sys.getrecursionlimit()\nfrom shardy_common.proofs import pure\n"
         "pure._curve(); print(a == sys.getrecursionlimit())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == "True\n"


def test_sources_manifest_and_modules_fit_together() -> None:
    said = subprocess.run(
        [sys.executable, ROOT / "proofs-rs/build.py", "--check"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout
