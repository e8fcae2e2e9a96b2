"""Reads circom's .r1cs, .wtns and .sym, and says which constraints a witness breaks: the judge of forged witnesses.

Nothing of a witness calculator is trusted, since a cheater writes its witness with what program it likes. The formats:
a magic word, a version and the number of sections as u32; then each section's type (u32), length (u64) and bytes.
Numbers are little-endian; field elements have 32 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

P = 21888242871839275222246405745257275088548364400416034343698204186575808495617

Terms = list[tuple[int, int]]  # (wire, coefficient)


def sections(data: bytes, magic: bytes) -> dict[int, bytes]:
    assert data[:4] == magic, data[:4]
    count, at, found = struct.unpack_from("<I", data, 8)[0], 12, {}
    for _ in range(count):
        kind, size = struct.unpack_from("<IQ", data, at)
        found[kind] = data[at + 12 : at + 12 + size]
        at += 12 + size
    assert at == len(data), "bytes after the last section"
    return found


class ConstraintSystem:
    """Constraints (A·w)·(B·w) = C·w over wires w, of which the first is 1 and the public ones follow it."""

    def __init__(self, path: Path) -> None:
        parts = sections(path.read_bytes(), b"r1cs")
        size, prime = struct.unpack_from("<I", parts[1])[0], int.from_bytes(parts[1][4:36], "little")
        assert (size, prime) == (32, P)
        self.wires, outputs, inputs, self.private, _labels, count = struct.unpack_from("<IIIIQI", parts[1], 36)
        self.publics = outputs + inputs
        body, at = parts[2], 0
        self.constraints: list[tuple[Terms, Terms, Terms]] = []
        for _ in range(count):
            three = []
            for _ in range(3):
                terms = struct.unpack_from("<I", body, at)[0]
                at += 4
                three.append(
                    [
                        (
                            int.from_bytes(body[place : place + 4], "little"),
                            int.from_bytes(body[place + 4 : place + 36], "little"),
                        )
                        for place in range(at, at + 36 * terms, 36)
                    ]
                )
                at += 36 * terms
            self.constraints.append((three[0], three[1], three[2]))
        assert at == len(body)

    def broken(self, witness: Sequence[int]) -> list[int]:
        """Numbers of the constraints that do not hold. A witness of another length or range, or not led by 1, breaks
        all of them."""
        if len(witness) != self.wires or witness[0] != 1 or not all(0 <= value < P for value in witness):
            return list(range(len(self.constraints)))
        found = []
        for number, (a, b, c) in enumerate(self.constraints):
            left, right, out = (sum(factor * witness[wire] for wire, factor in terms) for terms in (a, b, c))
            if (left * right - out) % P:
                found.append(number)
        return found

    def wires_used(self) -> set[int]:
        """Wires that any constraint names."""
        return {wire for constraint in self.constraints for terms in constraint for wire, _factor in terms}


def read_witness(path: Path) -> list[int]:
    parts = sections(path.read_bytes(), b"wtns")
    assert struct.unpack_from("<I", parts[1])[0] == 32 and int.from_bytes(parts[1][4:36], "little") == P
    values = parts[2]
    assert len(values) == 32 * struct.unpack_from("<I", parts[1], 36)[0]
    return [int.from_bytes(values[at : at + 32], "little") for at in range(0, len(values), 32)]


def read_names(path: Path) -> dict[str, int]:
    """Wire by signal name, of those that have one after simplification."""
    found = {}
    for line in path.read_text().splitlines():
        _label, wire, _component, name = line.split(",")
        if int(wire) >= 0:
            found[name] = int(wire)
    return found
