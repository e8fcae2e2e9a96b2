"""snarkjs's JSON read strictly: proof.json, public.json, verification_key.json.

What is accepted has one spelling only: canonical decimals in strings, coordinates below q and signals below r, affine
points (z = 1), no key twice, no key that is not known. Sizes and depth are bounded before anything is parsed. Whether
points are on their curves is for the verifier to say. Every refusal is a ValueError that says what to change.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

Q = 21888242871839275222246405745257275088696311157297823662689037894645226208583
"""Modulus of the coordinates."""
R = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""Order of the groups; modulus of the public signals."""

PROOF_BYTES_MAX = 4096
PUBLICS_MAX = 64
PUBLICS_BYTES_MAX = 128 * PUBLICS_MAX
VKEY_BYTES_MAX = 64 << 10
_DEPTH_MAX = 4
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,76}", re.ASCII)
_STRING = re.compile(rb'"[^"]*"')

G1 = tuple[int, int]
G2 = tuple[tuple[int, int], tuple[int, int]]
"""((x.c0, x.c1), (y.c0, y.c1))."""


PROOF_BYTES = 256


@dataclass(frozen=True)
class Proof:
    """A proof's three points, affine."""

    a: G1
    b: G2
    c: G1

    def wire(self) -> bytes:
        """256 bytes: A, B, C; each coordinate 32 bytes, big-endian, in the order of the JSON."""
        return g1_wire(self.a) + g2_wire(self.b) + g1_wire(self.c)


def proof_of_wire(data: bytes) -> Proof:
    """`Proof.wire` undone. ValueError for another length; whether the points lie on their curves is not looked at."""
    if len(data) != PROOF_BYTES:
        raise ValueError(f"a proof has {PROOF_BYTES} bytes, not {len(data)}")
    ax, ay, bx0, bx1, by0, by1, cx, cy = (int.from_bytes(data[at : at + 32], "big") for at in range(0, PROOF_BYTES, 32))
    return Proof((ax, ay), ((bx0, bx1), (by0, by1)), (cx, cy))


@dataclass(frozen=True)
class VerificationKey:
    """A verification key. dev: made from known toxic waste, so that anybody can forge under it."""

    alpha: G1
    beta: G2
    gamma: G2
    delta: G2
    ic: tuple[G1, ...]
    dev: bool
    note: tuple[tuple[str, str], ...] = ()
    """What a development key says of itself: circuit, r1cs_blake3, seed_tag."""

    @property
    def public(self) -> int:
        """Number of public signals."""
        return len(self.ic) - 1

    def wire(self) -> bytes:
        """448 bytes of α, β, γ, δ, then 64 for each point of IC."""
        heads = g1_wire(self.alpha) + g2_wire(self.beta) + g2_wire(self.gamma) + g2_wire(self.delta)
        return heads + b"".join(map(g1_wire, self.ic))


def g1_wire(point: G1) -> bytes:
    """64 bytes: x, y."""
    return b"".join(value.to_bytes(32, "big") for value in point)


def g2_wire(point: G2) -> bytes:
    """128 bytes: x.c0, x.c1, y.c0, y.c1."""
    return b"".join(value.to_bytes(32, "big") for pair in point for value in pair)


def publics_wire(publics: list[int]) -> bytes:
    """32 bytes each, big-endian. Raises ValueError for a value that is not in [0, r)."""
    for at, value in enumerate(publics):
        if not 0 <= value < R:
            raise ValueError(f"public signal {at} must be in [0, r): reduce it modulo r where it is made")
    return b"".join(value.to_bytes(32, "big") for value in publics)


def parse_proof(data: bytes) -> Proof:
    """A proof.json of at most 4 KiB."""
    found = _object(_json(data, PROOF_BYTES_MAX, "a proof"), "the proof", {"pi_a", "pi_b", "pi_c", "protocol", "curve"})
    _kind(found)
    return Proof(_g1(found["pi_a"], "pi_a"), _g2(found["pi_b"], "pi_b"), _g1(found["pi_c"], "pi_c"))


def parse_publics(data: bytes) -> list[int]:
    """A public.json of at most 64 signals, each in [0, r)."""
    found = _json(data, PUBLICS_BYTES_MAX, "a list of public signals")
    if not isinstance(found, list) or len(found) > PUBLICS_MAX:
        raise ValueError(f"public signals must be a list of at most {PUBLICS_MAX} strings")
    return [_decimal(value, f"public signal {at}", R) for at, value in enumerate(found)]


def parse_vkey(data: bytes) -> VerificationKey:
    """A verification_key.json of at most 64 KiB. `vk_alphabeta_12` is not read: the verifier works it out."""
    points = {"vk_alpha_1", "vk_beta_2", "vk_gamma_2", "vk_delta_2", "IC"}
    wanted = points | {"protocol", "curve", "nPublic"}
    found = _object(
        _json(data, VKEY_BYTES_MAX, "a verification key"), "a verification key", wanted, {"vk_alphabeta_12", "shardy"}
    )
    _kind(found)
    count, ic = found["nPublic"], found["IC"]
    if type(count) is not int or not 0 <= count <= PUBLICS_MAX:
        raise ValueError(f"nPublic must be a number from 0 to {PUBLICS_MAX}")
    if not isinstance(ic, list) or len(ic) != count + 1:
        raise ValueError(f"IC must be a list of nPublic + 1 = {count + 1} points")
    note = _note(found["shardy"]) if "shardy" in found else None
    return VerificationKey(
        _g1(found["vk_alpha_1"], "vk_alpha_1"), _g2(found["vk_beta_2"], "vk_beta_2"),
        _g2(found["vk_gamma_2"], "vk_gamma_2"), _g2(found["vk_delta_2"], "vk_delta_2"),
        tuple(_g1(point, f"IC[{at}]") for at, point in enumerate(ic)), note is not None, note or (),
    )  # fmt: skip


def _note(value: object) -> tuple[tuple[str, str], ...]:
    found = _object(value, "shardy", {"dev", "circuit", "r1cs_blake3", "seed_tag"})
    if found["dev"] is not True:
        raise ValueError("shardy.dev must be true: keys of a ceremony carry no such mark")
    names = ("circuit", "r1cs_blake3", "seed_tag")
    for name in names:
        if not isinstance(found[name], str):
            raise ValueError(f"shardy.{name} must be a string")
    return tuple((name, found[name]) for name in names)


def _kind(found: dict[str, Any]) -> None:
    if found["protocol"] != "groth16":
        raise ValueError('protocol must be "groth16"')
    if found["curve"] != "bn128":
        raise ValueError('curve must be "bn128" (BN254 by the name that snarkjs gives it)')


def _object(value: object, name: str, wanted: set[str], allowed: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object")
    if missing := wanted - value.keys():
        raise ValueError(f"{name} lacks {', '.join(sorted(missing))}")
    if value.keys() - wanted - allowed:
        raise ValueError(f"{name} may hold nothing but {', '.join(sorted(wanted | allowed))}")
    return value


def _decimal(value: object, name: str, modulus: int) -> int:
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise ValueError(f"{name} must be a decimal in a string: digits only, no sign, no leading zero")
    number = int(value)
    if number >= modulus:
        raise ValueError(f"{name} must be below {'r' if modulus == R else 'q'}")
    return number


def _list(value: object, name: str, length: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise ValueError(f"{name} must be a list of {length}")
    return value


def _g1(value: object, name: str) -> G1:
    x, y, z = _list(value, name, 3)
    if z != "1":
        raise ValueError(f'{name} must be affine: its third coordinate "1"')
    return _decimal(x, name, Q), _decimal(y, name, Q)


def _g2(value: object, name: str) -> G2:
    x, y, z = _list(value, name, 3)
    if z != ["1", "0"]:
        raise ValueError(f'{name} must be affine: its third coordinate ["1", "0"]')
    (x0, x1), (y0, y1) = _list(x, name, 2), _list(y, name, 2)
    return (_decimal(x0, name, Q), _decimal(x1, name, Q)), (_decimal(y0, name, Q), _decimal(y1, name, Q))


def _json(data: bytes, bytes_max: int, name: str) -> Any:
    if len(data) > bytes_max:
        raise ValueError(f"{name} takes at most {bytes_max:,} bytes")
    # Depth is counted outside strings before the parser, which recurses, sees anything. With an escaped quote one could
    # not tell where a string ends without parsing; nothing that is taken needs an escape.
    if b"\\" in data:
        raise ValueError(f"{name} is written without backslashes")
    depth = 0
    for byte in _STRING.sub(b"", data):
        if byte in b"[{":
            depth += 1
            if depth > _DEPTH_MAX:
                raise ValueError(f"{name} is nested at most {_DEPTH_MAX} deep")
        elif byte in b"]}":
            depth -= 1
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ValueError(f"{name} must be UTF-8") from problem
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_int=_small, parse_float=_no_number, parse_constant=_no_number
        )
    except json.JSONDecodeError as problem:
        raise ValueError(f"{name} must be JSON: {problem.msg} at {problem.pos}") from problem


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object may not hold a key twice")
    return found


def _small(text: str) -> int:
    """A count; large numbers are written in strings. JSON's own grammar allows -0, which is another spelling."""
    if len(text) > 3 or text.startswith("-"):
        raise ValueError("numbers are written as decimals in strings")
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError("numbers are written as decimals in strings")
