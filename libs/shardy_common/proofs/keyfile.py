"""A proving key's file (.zkey, Groth16 on BN254) as its sections; what is in them the proof module checks."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .parse import Q, VerificationKey

HEAD, IC, COEFFICIENTS, A, B1, B2, C, H = range(2, 10)
"""Numbers of sections; A to H are lists of points, B2 in G2."""
_UNMONT = pow(1 << 256, -1, Q)


def point_bytes(section: int) -> int:
    """Bytes of one point of a list."""
    return 128 if section == B2 else 64


@dataclass(frozen=True)
class KeyFile:
    """sections: by number, views of the file. wires, public: of its circuit. domain: rows of the quotient."""

    sections: dict[int, memoryview]
    wires: int
    public: int
    domain: int

    @classmethod
    def read(cls, data: memoryview) -> KeyFile:
        """ValueError where sections are missing or lists have another length than the header says."""
        found = _sections(data)
        if len(found[HEAD]) != 660:
            raise ValueError("the .zkey's header has another length than one on BN254")
        wires, public, domain = struct.unpack_from("<III", found[HEAD], 72)
        lists = {IC: public + 1, A: wires, B1: wires, B2: wires, C: wires - public - 1, H: domain}
        if any(len(found[section]) != point_bytes(section) * count for section, count in lists.items()):
            raise ValueError("the .zkey's lists have other lengths than its header says")
        return cls(found, wires, public, domain)

    def verification_key(self) -> VerificationKey:
        """The key under which its proofs are valid; numbers in the file are Montgomery's."""

        def numbers(data: memoryview) -> list[int]:
            return [int.from_bytes(data[at : at + 32], "little") * _UNMONT % Q for at in range(0, len(data), 32)]

        head, ic = numbers(self.sections[HEAD][84:]), numbers(self.sections[IC])
        beta, gamma, delta = (((head[at], head[at + 1]), (head[at + 2], head[at + 3])) for at in (4, 8, 14))
        points = tuple((ic[at], ic[at + 1]) for at in range(0, len(ic), 2))
        return VerificationKey((head[0], head[1]), beta, gamma, delta, points, dev=False)


def _sections(zkey: memoryview) -> dict[int, memoryview]:
    """Sections of a .zkey by their number."""
    if len(zkey) < 12 or bytes(zkey[:4]) != b"zkey" or struct.unpack_from("<I", zkey, 4)[0] != 1:
        raise ValueError("not a .zkey of version 1")
    found: dict[int, memoryview] = {}
    at = 12
    for _ in range(struct.unpack_from("<I", zkey, 8)[0]):
        if at + 12 > len(zkey):
            raise ValueError("the .zkey is cut short")
        number, size = struct.unpack_from("<IQ", zkey, at)
        at += 12
        if at + size > len(zkey) or number in found:
            raise ValueError("the .zkey is cut short, or has a section twice")
        found[number] = zkey[at : at + size]
        at += size
    if not set(range(HEAD, H + 1)) <= set(found) or bytes(found.get(1, b"")) != b"\1\0\0\0":
        raise ValueError("the .zkey has not all sections of a Groth16 key")
    return found
