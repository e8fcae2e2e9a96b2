"""Poseidon over the scalar field of BN254, with the parameters of circomlib, in plain integers.

Source: Grassi, Khovratovich, Rechberger, Roy, Schofnegger, "Poseidon: A New Hash Function for Zero-Knowledge Proof
Systems", USENIX Security 2021: the permutation of §2.3, round constants and matrix by the Grain LFSR of appendix E.
The constants are made here, on first use of a width, and not taken from anybody's table.

A hash of n ≤ 12 inputs takes about 0.1 ms for two inputs and 1 ms for twelve: meant for a few thousand values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

P = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""Order r of BN254's groups: the field that circuits compute in."""

ARITY_MAX = 12

_FIELD_BITS = 254
_FULL_ROUNDS = 8
# Partial rounds for 2, 3, … state elements and 128 bits of security: the paper's table 2, rounded up as circomlib does.
_PARTIAL_ROUNDS = (56, 57, 56, 60, 60, 63, 64, 63, 60, 66, 60, 65)

_STATE_BITS = 80
_TAPS = (0, 13, 23, 38, 51, 62)
_STEP_BITS = 16  # a new bit depends on the bit 62 places on: up to 18 bits can be made at once

Hasher = Callable[[Sequence[int]], int]
Parameters = tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]


def _kept(byte: int) -> tuple[int, int]:
    """Of the byte's bits, first in the lowest place: (bits kept, their number); of each pair with a leading 1 the other
    bit is kept, of all other pairs nothing."""
    bits = count = 0
    for pair in range(4):
        if byte >> 2 * pair & 1:
            bits = bits << 1 | byte >> 2 * pair + 1 & 1
            count += 1
    return bits, count


_KEPT = [_kept(byte) for byte in range(256)]


def _field_integers(width: int) -> Iterator[int]:
    """Integers of 254 bits, the first bit the highest, from the LFSR in its self-shrinking mode."""
    head = f"{1:02b}{0:04b}{_FIELD_BITS:012b}{width:012b}{_FULL_ROUNDS:010b}{_PARTIAL_ROUNDS[width - 2]:010b}"
    state = int((head + "1" * 30)[::-1], 2)  # bit i of the register is bit i of the number

    def step(state: int) -> tuple[int, int]:
        new = 0
        for tap in _TAPS:
            new ^= state >> tap
        new &= (1 << _STEP_BITS) - 1
        return state >> _STEP_BITS | new << (_STATE_BITS - _STEP_BITS), new

    for _ in range(160 // _STEP_BITS):  # the first 160 bits are thrown away
        state, _unused = step(state)
    held = held_bits = 0
    while True:
        state, new = step(state)
        for byte in (new & 255, new >> 8):
            bits, count = _KEPT[byte]
            held, held_bits = held << count | bits, held_bits + count
        if held_bits >= _FIELD_BITS:
            held_bits -= _FIELD_BITS
            yield held >> held_bits
            held &= (1 << held_bits) - 1


@cache
def parameters(width: int) -> Parameters:
    """(round constants [rounds][width], matrix [width][width]) for a state of 2 to 13 elements."""
    if not 2 <= width <= ARITY_MAX + 1:
        raise ValueError(f"a state has 2 to {ARITY_MAX + 1} elements, not {width}")
    integers = _field_integers(width)
    constants = []
    for _ in range(_FULL_ROUNDS + _PARTIAL_ROUNDS[width - 2]):
        row: list[int] = []
        while len(row) < width:
            value = next(integers)
            if value < P:
                row.append(value)
        constants.append(tuple(row))
    while True:
        # For the matrix the paper's script reduces what is too large, and does not draw anew.
        points = [next(integers) % P for _ in range(2 * width)]
        xs, ys = points[:width], points[width:]
        if len(set(points)) == 2 * width and all((x + y) % P for x in xs for y in ys):
            break
    return tuple(constants), tuple(tuple(pow(x + y, -1, P) for y in ys) for x in xs)


def permuted(state: Sequence[int]) -> list[int]:
    """The permutation of 2 to 13 field elements: add constants, raise to the fifth power, mix."""
    constants, matrix = parameters(len(state))
    partial_from, partial_to = _FULL_ROUNDS // 2, len(constants) - _FULL_ROUNDS // 2
    values = list(state)
    for number, row in enumerate(constants):
        values = [value + constant for value, constant in zip(values, row, strict=True)]
        if partial_from <= number < partial_to:
            values[0] = pow(values[0], 5, P)
        else:
            values = [pow(value, 5, P) for value in values]
        values = [sum(m * value for m, value in zip(line, values, strict=True)) % P for line in matrix]
    return values


def poseidon(inputs: Sequence[int]) -> int:
    """Hash of 1 to 12 integers in 0 … P − 1, as circomlib's `Poseidon(n)`. ValueError for anything else."""
    if not 1 <= len(inputs) <= ARITY_MAX:
        raise ValueError(f"Poseidon takes 1 to {ARITY_MAX} inputs, not {len(inputs)}")
    if not all(0 <= value < P for value in inputs):
        raise ValueError("an input of Poseidon is not below the field's order")
    return permuted([0, *inputs])[0]


def tree(values: Sequence[int], hasher: Hasher = poseidon) -> int:
    """Hash of any number of field elements: runs of 12 (the last one shorter) become one, until one is left."""
    level = list(values)
    if not level:
        raise ValueError("a tree has at least one value")
    while True:
        level = [hasher(level[at : at + ARITY_MAX]) for at in range(0, len(level), ARITY_MAX)]
        if len(level) == 1:
            return level[0]
