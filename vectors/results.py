"""Writes vectors/results.json: what a worker signs for the results of one frame (docs/protocol.md §5.1).

    python vectors/results.py

Written plainly from the protocol's text with nothing but `blake3` and `cryptography`, so that it is an oracle for every
implementation. `frames` are lists of results with their leaves, the root over them, the message that is signed and the
signature, which Ed25519 makes the same each time. `refused` are signatures that must not be taken for their results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__).resolve().parent

SEED = bytes(range(32))
OTHER_SEED = bytes(range(1, 33))
COUNTS = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 512)
# Leaves of the longest list would be most of the file; its root says as much.
LEAVES_SHOWN_MAX = 17

Result = tuple[str, bytes, int]


def leaf(result: Result) -> bytes:
    lease, digest, size = result
    return blake3(
        b"\x00" + b"shardy-result-v2" + b"\x00" + lease.encode() + b"\x00" + digest + size.to_bytes(8, "little")
    ).digest()


def root(leaves: list[bytes]) -> bytes:
    """RFC 9162 §2.1: split at the largest power of two smaller than the number of leaves."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return blake3(b"\x01" + root(leaves[:split]) + root(leaves[split:])).digest()


def message(results: list[Result]) -> bytes:
    return b"shardy-results-v2" + b"\x00" + root([leaf(result) for result in results])


def result(i: int) -> Result:
    """The i-th result of a frame: ids as the mesh makes them, sizes from nothing to what is uploaded."""
    size = (0, 4, 1024, 262_144, 262_145, 4_294_967_296)[i % 6]
    return f"t{i // 3}-{i}", blake3(f"result {i}".encode()).digest(), size


def odd() -> list[tuple[str, list[Result]]]:
    digest = bytes(range(32))
    return [
        ("an id beyond ASCII", [("l-Küche-数", digest, 7)]),
        ("an empty id", [("", digest, 7)]),
        ("the largest length that every language holds exactly", [("l-1", digest, 2**53 - 1)]),
        ("the same result twice", [result(1), result(1)]),
        ("digests of zeros and ones", [("l-1", bytes(32), 1), ("l-2", b"\xff" * 32, 1)]),
    ]


def shown(results: list[Result]) -> list[dict[str, Any]]:
    return [{"lease": lease, "digest": digest.hex(), "len": size} for lease, digest, size in results]


def frame(name: str, results: list[Result], key: Ed25519PrivateKey) -> dict[str, Any]:
    leaves = [leaf(result) for result in results]
    signed = message(results)
    return {
        "name": name,
        "results": shown(results),
        "leaves": [x.hex() for x in leaves] if len(leaves) <= LEAVES_SHOWN_MAX else None,
        "root": root(leaves).hex(),
        "message": signed.hex(),
        "sig": key.sign(signed).hex(),
    }


def refused(key: Ed25519PrivateKey) -> list[dict[str, Any]]:
    """Results beside a signature that does not answer for them."""
    results = [result(i) for i in range(5)]
    good = key.sign(message(results))
    lease, digest, size = results[2]

    def with_third(other: Result) -> list[Result]:
        return [*results[:2], other, *results[3:]]

    flipped = bytes([digest[0] ^ 1]) + digest[1:]
    sibling = root([leaf(r) for r in results[:2]])
    cases: list[tuple[str, list[Result], bytes]] = [
        ("signature with one bit changed", results, bytes([good[0] ^ 1]) + good[1:]),
        ("signature with its last bit changed", results, good[:-1] + bytes([good[-1] ^ 0x80])),
        ("digest with one bit changed", with_third((lease, flipped, size)), good),
        ("length one more", with_third((lease, digest, size + 1)), good),
        ("another lease", with_third((lease + "x", digest, size)), good),
        ("two results exchanged", [results[1], results[0], *results[2:]], good),
        ("one result less", results[:4], good),
        ("the last result twice", [*results, results[4]], good),
        ("signed by another key", results, Ed25519PrivateKey.from_private_bytes(OTHER_SEED).sign(message(results))),
        ("the root signed without its tag", results, key.sign(message(results)[18:])),
        ("signed under the tag of a join", results, key.sign(b"shardy-join-v1\x00" + message(results)[18:])),
        ("an inner node signed as if it were the root", results, key.sign(b"shardy-results-v2\x00" + sibling)),
    ]
    public = key.public_key()
    for name, given, signature in cases:
        try:
            public.verify(signature, message(given))
        except InvalidSignature:
            continue
        raise AssertionError(f"{name}: the signature holds")
    return [{"name": name, "results": shown(given), "sig": signature.hex()} for name, given, signature in cases]


def main() -> None:
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    frames = [frame(f"{n} results" if n > 1 else "one result", [result(i) for i in range(n)], key) for n in COUNTS]
    frames += [frame(name, results, key) for name, results in odd()]
    bad = refused(key)
    document = {
        "seed": SEED.hex(),
        "key": key.public_key().public_bytes_raw().hex(),
        "frames": frames,
        "refused": bad,
    }
    (HERE / "results.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(frames)} frames of results, {len(bad)} refused")


if __name__ == "__main__":
    main()
