"""Witnesses from constraints alone, beside those of circom's calculators, byte by byte."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from circuitkit import Compiled, Product, compiled, product, random_product
from proofkit import Files

from shardy_common.proofs.instance import Instance
from shardy_common.proofs.prover import packed_inputs, solving_plan
from shardy_common.proofs.signals import P

SMALL = [(8, 8, 8), (16, 16, 16)]
LARGE = [(32, 32, 32), (8, 384, 8), (64, 64, 64)]


class Solver:
    """A circuit in an instance of its own; results as the module gives them."""

    def __init__(self, file: bytes) -> None:
        self.instance = Instance()
        with self.instance.blocks(file) as (at,):
            self.handle = self.instance.checked("solver_open", at, len(file))
        self.wires = self.instance.checked("solver_wires", self.handle)

    def solve(self, inputs: bytes) -> bytes | int:
        size = 76 + 32 * self.wires
        with self.instance.blocks(inputs, size) as (at, out):
            result = self.instance.call("solve", self.handle, at, len(inputs) // 32, out, size)
            return self.instance.read(out, size) if result == self.wires else result


def cases(circuit: Compiled) -> list[Product]:
    """Random ones, the extremes of every sign, zeros, padding on every side."""
    shape = circuit.shape
    found = [random_product(shape, seed) for seed in (1, 2)]
    ones_a, ones_b = np.ones((shape.m, shape.k), np.int8), np.ones((shape.n, shape.k), np.int8)
    for left, right in ((-128, -128), (127, -128), (-128, 127), (0, 0), (-1, 1)):
        found.append(product(shape, ones_a * np.int8(left), ones_b * np.int8(right)))
    found.append(random_product(shape, 3, 1, 1, 1))
    found.append(random_product(shape, 4, shape.m - 3, shape.k - 1, shape.n - 5))
    return found


def check_against_calculator(circuit: Compiled) -> None:
    solver = Solver(solving_plan(circuit.r1cs))
    products = cases(circuit)
    for each, wanted in zip(products, circuit.calculated([each.inputs for each in products]), strict=True):
        assert solver.solve(packed_inputs(each.inputs)) == wanted


@pytest.mark.parametrize("shape", SMALL)
def test_the_calculators_bytes(shape: tuple[int, int, int]) -> None:
    check_against_calculator(compiled(*shape))


@pytest.mark.slow
@pytest.mark.parametrize("shape", LARGE)
def test_the_calculators_bytes_of_large_circuits(shape: tuple[int, int, int]) -> None:
    check_against_calculator(compiled(*shape))


@pytest.fixture(scope="module")
def small() -> Compiled:
    return compiled(8, 8, 8)


def test_another_circuit_with_public_inputs_and_bits(files: Files) -> None:
    """chain_small: public inputs beside outputs, and a bit that the compiler replaced by what it follows from."""
    given = json.loads((files.r1cs.parent / "input.json").read_text())
    values = [given["tag"], given["count"], given["first"], *given["bits"]]
    inputs = b"".join(int(value).to_bytes(32, "little") for value in values)
    assert Solver(files.r1cs.read_bytes()).solve(inputs) == files.witness.read_bytes()
    solver, two = Solver(files.r1cs.read_bytes()), (2).to_bytes(32, "little")
    for at in range(3, len(values) - 1):
        assert solver.solve(inputs[: 32 * at] + two + inputs[32 * at + 32 :]) == -8
    # the last bit is no wire: what stands in its place is not looked at
    assert solver.solve(inputs[:-32] + two) == files.witness.read_bytes()


def test_the_plan_solves_as_the_constraints_do(small: Compiled) -> None:
    inputs = packed_inputs(random_product(small.shape, 7).inputs)
    plan = solving_plan(small.r1cs)
    assert plan == solving_plan(small.r1cs) and len(plan) < len(small.r1cs) / 2
    assert Solver(plan).solve(inputs) == Solver(small.r1cs).solve(inputs)


def test_a_wrong_result_is_unsatisfied(small: Compiled) -> None:
    """Every cell of C, by one; and by the modulus, which would be the same number to arithmetic."""
    solver = Solver(small.r1cs)
    right = random_product(small.shape, 5)
    c = np.frombuffer(right.c, "<i4")
    for at in range(c.size):
        wrong = c.copy()
        wrong[at] += 1
        each = product(small.shape, *(np.frombuffer(x, np.int8).reshape(8, 8) for x in (right.a, right.b)), wrong)
        assert solver.solve(packed_inputs(each.inputs)) == -8
    inputs = packed_inputs(right.inputs)
    assert not isinstance(solver.solve(inputs), int)
    alias = int.from_bytes(inputs[-32:], "little") + P
    assert solver.solve(inputs[:-32] + alias.to_bytes(32, "little")) == -3


def test_bytes_of_b_out_of_their_range_are_unsatisfied(small: Compiled) -> None:
    """A word of 31 bytes cannot be 2²⁴⁸: its bits would not be its bytes."""
    solver = Solver(small.r1cs)
    inputs = bytearray(packed_inputs(random_product(small.shape, 5).inputs))
    first_of_b = 32 * (2 + 8)
    inputs[first_of_b + 31] = 1
    assert solver.solve(bytes(inputs)) == -8


def test_a_number_of_inputs_that_is_not_the_circuits(small: Compiled) -> None:
    solver = Solver(small.r1cs)
    inputs = packed_inputs(random_product(small.shape, 5).inputs)
    for wrong in (b"", inputs[:-32], inputs + bytes(32)):
        assert solver.solve(wrong) == -5


def test_handles(small: Compiled) -> None:
    solver = Solver(solving_plan(small.r1cs))
    call = solver.instance.call
    for name in ("solver_wires", "solver_inputs", "solver_drop"):
        assert call(name, solver.handle + 1) == -6
    assert call("solver_save", solver.handle, 0, 1) == -1
    assert call("solver_drop", solver.handle) == 0
    assert call("solver_drop", solver.handle) == call("solver_wires", solver.handle) == -6
    assert call("solver_save", solver.handle, 0, 0) == -6


@pytest.mark.parametrize("kind", ["r1cs", "plan"])
def test_files_that_are_not_what_they_should_be(small: Compiled, kind: str) -> None:
    """Cut short, or with a bit changed: refused, solved rightly, or unsatisfied; never a crash."""
    file = small.r1cs if kind == "r1cs" else solving_plan(small.r1cs)
    inputs = packed_inputs(random_product(small.shape, 6).inputs)
    right = Solver(file).solve(inputs)
    instance = Instance(memory_max=256 << 20)
    size = 76 + 32 * Solver(file).wires
    source = random.Random(1)

    def outcome(data: bytes) -> bytes | int:
        with instance.blocks(data, inputs, size) as (at, at_inputs, out):
            handle = instance.call("solver_open", at, len(data))
            if handle < 0:
                return handle
            result = instance.call("solve", handle, at_inputs, len(inputs) // 32, out, size)
            assert instance.call("solver_drop", handle) == 0
            return instance.read(out, size) if result >= 0 else result

    assert outcome(file) == right
    for _ in range(40):
        assert outcome(file[: source.randrange(len(file))]) in (-1, -2)
    for _ in range(60):
        changed = bytearray(file)
        # Most bytes are coefficients; the head of the file is where lengths are.
        changed[source.choice((source.randrange(90), source.randrange(len(file))))] ^= 1 << source.randrange(8)
        found = outcome(bytes(changed))
        # A changed coefficient may make another circuit, which has another witness.
        assert found in (-1, -2, -3, -4, -5, -7, -8) or isinstance(found, bytes)
