"""The form of a verification key (Groth16 on BN254, as snarkjs writes it), and its name in the log.

Canonical text: the JSON object with sorted names, no white space, ASCII only; its BLAKE3 is the key's hash. Only the
form is looked at here. Whether points lie on the curve is for whoever prepares the key for checking.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from blake3 import blake3

VK_BYTES_MAX = 8 * 1024
PUBLIC_MAX = 32
DEPTH_MAX = 6
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,77})\Z")
_P = 21888242871839275222246405745257275088696311157297823662689037894645226208583  # of the field of coordinates
_G1, _G2 = ("vk_alpha_1",), ("vk_beta_2", "vk_gamma_2", "vk_delta_2")
_MORE = ("vk_alphabeta_12", "shardy")  # what follows from the rest, and what Shardy's own generator says of a key
_NAMES = {"protocol", "curve", "nPublic", "IC", *_G1, *_G2}


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
    missing, strange = _NAMES - vk.keys(), vk.keys() - _NAMES - set(_MORE)
    if missing or strange:
        wrong = sorted(missing) or sorted(map(str, strange))
        raise ValueError(f"a verification key {'lacks' if missing else 'has no'} {', '.join(wrong)[:200]}")
    if vk["protocol"] != "groth16" or vk["curve"] != "bn128":
        raise ValueError("the protocol of a verification key is groth16, and its curve bn128")
    public, points = vk["nPublic"], vk["IC"]
    if type(public) is not int or not 1 <= public <= PUBLIC_MAX:
        raise ValueError(f"nPublic is a whole number, 1 to {PUBLIC_MAX}")
    if not isinstance(points, list) or len(points) != public + 1:
        raise ValueError("IC has nPublic + 1 points")
    for name in _G1:
        _g1(vk[name], name)
    for place, point in enumerate(points):
        _g1(point, f"IC[{place}]")
    for name in _G2:
        _g2(vk[name], name)
    told = vk.get("shardy", {})
    if not isinstance(told, dict) or type(told.get("dev", False)) is not bool:
        raise ValueError('"shardy" is an object, whose "dev" is true or false')
    if not all(_plain(vk.get(name)) for name in _MORE):
        raise ValueError(f"a verification key holds text, whole numbers, lists and objects, {DEPTH_MAX} deep at most")
    text = json.dumps(vk, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    if len(text) > VK_BYTES_MAX:
        raise ValueError(f"a verification key has at most {VK_BYTES_MAX} bytes as canonical text, and not {len(text)}")
    return Key(text, vk_hash_of(text), bool(told.get("dev", False)))


def _g1(point: Any, name: str) -> None:
    if not isinstance(point, list) or len(point) != 3 or point[2] != "1" or not all(map(_coordinate, point)):
        raise ValueError(f'{name} is [x, y, "1"] with decimals below the field\'s order')


def _g2(point: Any, name: str) -> None:
    pairs = point if isinstance(point, list) and len(point) == 3 else ()
    whole = pairs and all(isinstance(pair, list) and len(pair) == 2 and all(map(_coordinate, pair)) for pair in pairs)
    if not whole or point[2] != ["1", "0"]:
        raise ValueError(f'{name} is [[x0, x1], [y0, y1], ["1", "0"]] with decimals below the field\'s order')


def _plain(value: Any, depth: int = 1) -> bool:
    """No fractions: two programs may write them differently."""
    if depth > DEPTH_MAX:
        return False
    if isinstance(value, dict):
        return all(_plain(inner, depth + 1) for inner in value.values())
    if isinstance(value, list):
        return all(_plain(inner, depth + 1) for inner in value)
    return value is None or isinstance(value, (str, int))


def _coordinate(value: Any) -> bool:
    return isinstance(value, str) and bool(_DECIMAL.match(value)) and int(value) < _P
