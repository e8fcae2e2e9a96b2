"""Mutate a right proof.json and ask the parser and the verifier: `python tests/proofs/fuzz.py [INPUTS] [SEED]`.

Each input must be refused with ValueError, or read as a proof that is either the right one, spelled with other white
space or order of keys, or refused by the verifier. Anything else raises here.
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import suppress
from pathlib import Path

from shardy_common.proofs.parse import parse_proof, parse_publics, parse_vkey
from shardy_common.proofs.verifier import Verifier

VECTORS = Path(__file__).parent / "vectors"
SCRAPS = [
    b'"1"',
    b'"0"', b"1", b"-1", b"1e3", b"0x1", b"01", b"null", b"true", b"NaN", b"Infinity", b"[", b"]", b"{", b"}", b",",
    b":", b'"', b"\\", b"\\u0031", b"\x00", b"\xff", b"\xc3", b"\xef\xbb\xbf", b" ", b"\n", b"[[[[[[[[",
    rb'"\"\\", ', b"[" * 1500, b"pi_a", b"pi_b",
    b"groth16", b"bn128", b"\xd9\xa1",
    b"21888242871839275222246405745257275088696311157297823662689037894645226208583",
    b"21888242871839275222246405745257275088548364400416034343698204186575808495617",
]  # fmt: skip
SLOW_S = 0.25


def mutated(source: random.Random, data: bytes) -> bytes:
    """One to four changes: a byte, a cut, a scrap put in or over, a part doubled, moved or dropped."""
    found = bytearray(data)
    for _ in range(source.randint(1, 4)):
        at, kind = source.randrange(len(found) + 1), source.randrange(7)
        length = source.choice((1, 2, 5, 40))
        if kind == 0 and at < len(found):
            found[at] = source.randrange(256)
        elif kind == 1:
            del found[at:]
        elif kind == 2:
            found[at:at] = source.choice(SCRAPS)
        elif kind == 3:
            found[at : at + length] = source.choice(SCRAPS)
        elif kind == 4:
            found[at:at] = found[at : at + length] * source.choice((1, 2, 30))
        elif kind == 5:
            to = source.randrange(len(found) + 1)
            found[to:to] = found[at : at + length]
        else:
            del found[at : at + length]
    return bytes(found)


def run(inputs: int, seed: int) -> dict[str, int]:
    """Counts by outcome. Raises AssertionError for a wrong acceptance or a slow input, and whatever crashes."""
    source = random.Random(seed)
    data, publics = (
        (VECTORS / "chain_small.proof.json").read_bytes(),
        (VECTORS / "chain_small.public.json").read_bytes(),
    )
    vkey = parse_vkey((VECTORS / "chain_small.vkey.json").read_bytes())
    right, signals, verifier = parse_proof(data), parse_publics(publics), Verifier()
    handle = verifier.add_key(vkey)
    counts = {"refused by the parser": 0, "the same proof": 0, "refused by the verifier": 0}
    for number in range(inputs):
        text = mutated(source, data)
        start = time.perf_counter()
        try:
            proof = parse_proof(text)
        except ValueError:
            counts["refused by the parser"] += 1
            slow = time.perf_counter() - start > SLOW_S
            # A busy machine may stop us once; an input that is slow is so again.
            assert not slow or _seconds(text) < SLOW_S, f"input {number} of seed {seed} is slow"
            continue
        if proof == right:
            counts["the same proof"] += 1
            continue
        assert not verifier.verify(handle, proof, signals), f"input {number} of seed {seed} is accepted: {text!r}"
        counts["refused by the verifier"] += 1
    return counts


def _seconds(text: bytes) -> float:
    start = time.perf_counter()
    with suppress(ValueError):
        parse_proof(text)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(run(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, int(sys.argv[2]) if len(sys.argv) > 2 else 1))
