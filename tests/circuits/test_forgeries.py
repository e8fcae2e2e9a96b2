"""What a cheater can write into a witness is refused by the constraints, or shows in the public signals.

Forged witnesses come from a calculator that asserts nothing: everything in them follows from the forged inputs as the
circuit says, so that just the equation that the forgery breaks is left to refuse it. Others are changed wire by wire.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from constraints import R, sections

from shardy_common.proofs.signals import Circuit

SHAPE = (8, 8, 8)
EIGHT = Circuit(*SHAPE)


@pytest.fixture(scope="module")
def honest(compiled: Any, random_case: Any) -> Any:
    """(circuit whose calculator asserts nothing, case, its witness)."""
    circuit, case = compiled(*SHAPE, unchecked=True), random_case(EIGHT, 11)
    wires = circuit.witness(case.inputs)
    assert circuit.constraints.holds(wires) and circuit.publics(wires) == case.signals
    return circuit, case, wires


def forged(honest: Any, make_case: Any, results: list[Any]) -> list[list[int]]:
    """Witnesses of the same operands with other results, with all commitments made for these."""
    circuit, case, _ = honest
    cases = [make_case(EIGHT, case.a, case.b, c) for c in results]
    return circuit.run([case.inputs.as_json() for case in cases])


def test_tests_and_keys_are_of_the_same_constraints(builder: Any, compiled: Any) -> None:
    checked, unchecked = compiled(*SHAPE), compiled(*SHAPE, unchecked=True)
    name = f"{EIGHT.name}.r1cs"
    assert (checked.folder / name).read_bytes() == (unchecked.folder / name).read_bytes()


def test_off_by_one_anywhere(honest: Any, make_case: Any) -> None:
    """Every element of C, up and down: 128 forgeries, each broken in one constraint, that of the product."""
    circuit, case, _ = honest
    results = []
    for row in range(8):
        for column in range(8):
            for delta in (1, -1):
                c = case.c.copy()
                c[row, column] += delta
                results.append(c)
    broken = [list(circuit.constraints.broken(wires)) for wires in forged(honest, make_case, results)]
    assert len(broken) == 128 and all(len(numbers) == 1 for numbers in broken)
    assert len({numbers[0] for numbers in broken}) == 1


def test_any_edits_of_the_result(honest: Any, make_case: Any) -> None:
    """Random edits, also such that cancel in a row, a column or a packed number: 60 results, none taken.

    All witnesses are computed in one call, for which the edits are drawn beforehand.
    """
    circuit, case, _ = honest
    generator = np.random.default_rng(13)
    results = []
    for count in np.tile([1, 2, 3, 8, 40, 64], 10):
        c = case.c.copy()
        places = generator.choice(64, count, replace=False)
        reach = 1 << generator.integers(1, 28)
        c.reshape(-1)[places] += generator.integers(1, reach, count, np.int32) * generator.choice([-1, 1], count)
        if count > 1:  # the sum over all stays as it was
            c.reshape(-1)[places[0]] -= np.int32(c.sum() - case.c.sum())
        if (c != case.c).any() and abs(c).max() < 2**30:
            results.append(c)
    assert len(results) > 40
    assert [wires for wires in forged(honest, make_case, results) if circuit.constraints.holds(wires)] == []


def test_edits_that_cancel(honest: Any, make_case: Any) -> None:
    circuit, case, _ = honest
    rows, columns, swapped = case.c.copy(), case.c.copy(), case.c[[1, 0, 2, 3, 4, 5, 6, 7]]
    rows[0, 0] += 5
    rows[0, 1] -= 5
    columns[0, 0] += 5
    columns[1, 0] -= 5
    for wires in forged(honest, make_case, [rows, columns, swapped, case.c.T, -case.c, np.zeros((8, 8))]):
        assert not circuit.constraints.holds(wires)


def test_swapped_operands(honest: Any, make_case: Any) -> None:
    """B·Aᵀ is another product; and claimed as such it is of another inputCommit."""
    circuit, case, _ = honest
    swapped = make_case(EIGHT, case.b, case.a, case.c)
    assert not circuit.constraints.holds(circuit.witness(swapped.inputs))
    transposed = make_case(EIGHT, case.b, case.a)
    wires = circuit.witness(transposed.inputs)
    assert circuit.constraints.holds(wires)
    assert circuit.publics(wires).input_commit != case.signals.input_commit


def test_in_another_group_of_rows(compiled: Any, random_case: Any, make_case: Any) -> None:
    """Each group has its equation; the two groups of a larger circuit cannot lend to each other."""
    shape = Circuit(16, 16, 16)
    circuit, case = compiled(16, 16, 16, unchecked=True), random_case(shape, 12)
    lent, both = case.c.copy(), case.c.copy()
    lent[9, 3] += 1
    both[[0, 8]] = both[[8, 0]]
    runs = circuit.run([make_case(shape, case.a, case.b, c).inputs.as_json() for c in (lent, both)])
    assert [len(list(circuit.constraints.broken(wires))) for wires in runs] == [1, 2]


def test_digits_that_borrow(honest: Any) -> None:
    """A digit of C that overflows into the next one is the same number, so the same commitment; no other is taken."""
    circuit, case, _ = honest
    inputs = case.inputs
    for change in (1, 1 << 31, R - 1, 1 << 247, R - (1 << 217)):
        c = [list(row) for row in inputs.c]
        c[0][2] = (c[0][2] + change) % R
        assert not circuit.constraints.holds(circuit.witness(inputs._replace(c=c)))


@pytest.mark.parametrize("word", [0, 1, 2])
@pytest.mark.parametrize("change", ["a byte more", "another word of the same bytes mod the field"])
def test_bytes_of_b_out_of_range(honest: Any, word: int, change: str) -> None:
    """A word of B above its bytes has no bits; the last word holds two bytes only."""
    circuit, case, _ = honest
    inputs = case.inputs
    size = (31, 31, 2)[word]
    b = list(inputs.b)
    b[word] = b[word] + (1 << 8 * size) if change == "a byte more" else R - 1 - b[word]
    assert not circuit.constraints.holds(circuit.witness(inputs._replace(b=b)))


def test_bits_that_are_no_bits(honest: Any) -> None:
    """2·bit₀ for bit₁ and the like give the same word; the boolean constraints refuse them."""
    circuit, _case, wires = honest
    named = circuit.wires
    for low in (4, 100, 240):
        changed = list(wires)
        for at, delta in ((low, 2), (low + 1, -1)):
            wire = named[f"values.bits[0].out[{at}]"]
            changed[wire] = (changed[wire] + delta) % R
        # the word is still right, so constraints over bits are what refuses
        assert len(list(circuit.constraints.broken(changed))) >= 1


def test_digits_of_a_are_the_verifiers_to_check(honest: Any) -> None:
    """The circuit takes an A of no int8; inputCommit, which a verifier computes from the bytes, is then another one.

    This is why a verifier never takes inputCommit from the worker.
    """
    circuit, case, _ = honest
    inputs = case.inputs
    a, c = [list(row) for row in inputs.a], [list(row) for row in inputs.c]
    a[0][0] = (a[0][0] + 1000) % R  # row 0, column 0: far outside int8
    for column in range(8):
        c[0][column] = (c[0][column] + 1000 * int(case.b[column, 0])) % R
    wires = circuit.witness(inputs._replace(a=a, c=c))
    assert circuit.constraints.holds(wires)
    assert circuit.publics(wires).input_commit != case.signals.input_commit


@pytest.mark.parametrize("signal", [1, 2, 3, 4], ids=["taskCtx", "outLen", "inputCommit", "resultDigest"])
def test_another_public_signal_on_the_same_witness(honest: Any, signal: int) -> None:
    circuit, _case, wires = honest
    for value in (0, wires[signal] + 1, wires[signal] ^ 1, R - 1):
        changed = list(wires)
        changed[signal] = value % R
        assert changed == wires or not circuit.constraints.holds(changed)


def test_another_length_or_context_is_public(honest: Any) -> None:
    """A witness for another length or context exists, and says so: who compares the signals refuses it."""
    circuit, case, _ = honest
    longer = circuit.witness(case.inputs._replace(length=case.inputs.length + 4))
    assert circuit.constraints.holds(longer)
    assert circuit.publics(longer).out_len != case.signals.out_len
    assert circuit.publics(longer).result_digest != case.signals.result_digest
    for changed in (
        {"worker": bytes(32)},
        {"nonce": b"another"},
        {"task": "t-2"},
        {"vk_version": "v2-2"},
        {"seed": b"1"},
    ):
        other = replace(case, context=replace(case.context, **changed))
        wires = circuit.witness(other.inputs)
        assert circuit.publics(wires) == other.signals
        assert other.signals.task_ctx != case.signals.task_ctx and other.signals[1:] == case.signals[1:]


def test_every_wire_is_bound(honest: Any) -> None:
    """No wire of a witness can be changed alone: there is nothing in it that is free."""
    circuit, _case, wires = honest
    using: list[list[int]] = [[] for _ in wires]
    constraints = circuit.constraints.constraints
    for number, lines in enumerate(constraints):
        for wire in {wire for line in lines for wire, _ in line}:
            using[wire].append(number)
    generator = random.Random(7)

    def value(line: list[tuple[int, int]]) -> int:
        return sum(factor * changed[wire] for wire, factor in line)

    changed = list(wires)
    free = []
    for wire in range(1, len(wires)):
        changed[wire] = (wires[wire] + generator.randrange(1, R)) % R
        if not any((value(a) * value(b) - value(c)) % R for a, b, c in (constraints[at] for at in using[wire])):
            free.append(wire)
        changed[wire] = wires[wire]
    assert free == []


def test_files_that_are_no_circuits(honest: Any) -> None:
    circuit, _case, wires = honest
    data = (circuit.folder / f"{EIGHT.name}.r1cs").read_bytes()
    with pytest.raises(ValueError):
        sections(data, b"wtns")
    with pytest.raises(ValueError):
        sections(data[:-1], b"r1cs")
    for wrong in (wires[:-1], [0, *wires[1:]], [*wires, 1]):
        with pytest.raises(ValueError):
            circuit.constraints.holds(wrong)
