"""The text of a verification key (Groth16 on BN254, as snarkjs writes it), and its name in the log.

Canonical text: the JSON object with sorted names, no white space, ASCII only; its BLAKE3 is the key's hash. Only the
form is looked at here. Whether points lie on their curves is for the verifier to say (shardy_common/proofs).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from blake3 import blake3

from shardy_common.proofs.parse import parse_vkey

VK_BYTES_MAX = 8 * 1024
PUBLIC_MAX = 32
DEPTH_MAX = 6


class Key(NamedTuple):
    """vk: canonical text. dev: the key itself says that somebody knows its randomness."""

    vk: str
    vk_hash: str
    dev: bool


def vk_hash_of(vk: str) -> str:
    """Hex BLAKE3 of the canonical text."""
    return blake3(vk.encode()).hexdigest()


def checked_key(vk: object) -> Key:
    """From the decoded JSON of a verification key. ValueError says what is wrong with its form."""
    if not isinstance(vk, dict):
        raise ValueError("a verification key is a JSON object")
    if not _plain(vk):
        raise ValueError(f"a verification key holds text, whole numbers, lists and objects, {DEPTH_MAX} deep at most")
    text = json.dumps(vk, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    if len(text) > VK_BYTES_MAX:
        raise ValueError(f"a verification key has at most {VK_BYTES_MAX} bytes as canonical text, and not {len(text)}")
    key = parse_vkey(text.encode())  # as whoever checks proofs with it will read it
    if not 1 <= key.public <= PUBLIC_MAX:
        raise ValueError(f"nPublic is a whole number, 1 to {PUBLIC_MAX}")
    return Key(text, vk_hash_of(text), key.dev)


def _plain(value: Any, depth: int = 1) -> bool:
    """No fractions: two programs may write them differently."""
    if depth > DEPTH_MAX:
        return False
    if isinstance(value, dict):
        return all(_plain(inner, depth + 1) for inner in value.values())
    if isinstance(value, list):
        return all(_plain(inner, depth + 1) for inner in value)
    return value is None or isinstance(value, (str, int))
