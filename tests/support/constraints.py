"""Does a witness satisfy a circuit? Read from the binary files of the compiler and the calculator, and nothing else.

A prover who cheats writes its own witness, so what a witness calculator asserts is no evidence: only the constraints
are. Formats: iden3's r1csfile and wtns, version 1 and 2; numbers are little-endian, of 32 bytes. Both must be over the
scalar field of BN254.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

R = 21888242871839275222246405745257275088548364400416034343698204186575808495617
NUMBER_BYTES = 32

Linear = list[tuple[int, int]]
"""(wire, coefficient) each; wire 0 is the number one."""


def sections(data: bytes, magic: bytes) -> dict[int, memoryview]:
    """Sections of a file by their type. ValueError where the file is cut short, or says one twice."""
    if data[:4] != magic:
        raise ValueError(f"not a {magic.decode()} file")
    found: dict[int, memoryview] = {}
    at = 12
    for _ in range(struct.unpack_from("<I", data, 8)[0]):
        kind, size = struct.unpack_from("<IQ", data, at)
        if at + 12 + size > len(data) or kind in found:
            raise ValueError("a section is cut short or repeated")
        found[kind] = memoryview(data)[at + 12 : at + 12 + size]
        at += 12 + size
    return found


@dataclass(frozen=True)
class Circuit:
    """constraints: (a, b, c) of each, meaning a·b = c. Wires 1 … publics are public."""

    wires: int
    publics: int
    constraints: list[tuple[Linear, Linear, Linear]]

    @classmethod
    def read(cls, data: bytes) -> Circuit:
        parts = sections(data, b"r1cs")
        size, prime = struct.unpack_from("<I32s", parts[1])
        if size != NUMBER_BYTES or int.from_bytes(prime, "little") != R:
            raise ValueError("a circuit over another field")
        wires, outputs, inputs, _private, _labels, count = struct.unpack_from("<IIIIQI", parts[1], 36)
        body, at = bytes(parts[2]), 0
        known: dict[bytes, int] = {}  # few different coefficients stand in many places

        def linear() -> Linear:
            nonlocal at
            terms = struct.unpack_from("<I", body, at)[0]
            end = at + 4 + 36 * terms
            line = []
            for place in range(at + 4, end, 36):
                raw = body[place + 4 : place + 36]
                value = known.get(raw)
                if value is None:
                    value = known[raw] = int.from_bytes(raw, "little")
                line.append((int.from_bytes(body[place : place + 4], "little"), value))
            at = end
            return line

        constraints = [(linear(), linear(), linear()) for _ in range(count)]
        if at != len(body):
            raise ValueError("bytes after the last constraint")
        return cls(wires, outputs + inputs, constraints)

    def broken(self, witness: Sequence[int]) -> Iterator[int]:
        """Numbers of the constraints that the witness does not satisfy. ValueError where it has not their wires."""
        if len(witness) != self.wires or witness[0] != 1:
            raise ValueError("not a witness of this circuit")
        for number, (a, b, c) in enumerate(self.constraints):
            left = sum(factor * witness[wire] for wire, factor in a)
            right = sum(factor * witness[wire] for wire, factor in b)
            if (left * right - sum(factor * witness[wire] for wire, factor in c)) % R:
                yield number

    def holds(self, witness: Sequence[int]) -> bool:
        return next(self.broken(witness), None) is None


def read_witness(data: bytes) -> list[int]:
    """Values of all wires out of a .wtns file, each below R."""
    parts = sections(data, b"wtns")
    size, prime, count = struct.unpack("<I32sI", parts[1])
    if size != NUMBER_BYTES or int.from_bytes(prime, "little") != R or len(parts[2]) != size * count:
        raise ValueError("a witness over another field, or cut short")
    values = [int.from_bytes(parts[2][at : at + size], "little") for at in range(0, size * count, size)]
    if any(value >= R for value in values):
        raise ValueError("a wire holds no element of the field")
    return values


def wires_by_name(sym: str) -> dict[str, int]:
    """Names without `main.` to wires, out of a .sym file; what the compiler folded away is left out."""
    lines = (line.split(",", 3) for line in sym.splitlines())
    return {name.removeprefix("main."): int(wire) for _label, wire, _component, name in lines if int(wire) >= 0}
