"""Witnesses that a cheater would write: the constraints themselves refuse them, not the calculator's assertions.

The forger's witness keeps every formula of the circuit and gives up its assertions only, so what breaks is just what
the lie breaks. Shown on 8×8×8, where a constraint that fails is found in a moment.
"""

from __future__ import annotations

import dataclasses
import random
import struct
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Compiled, Forger  # isort: skip
from shardy_common.proofs.poseidon import P
from shardy_common.proofs.signals import Circuit, Context, Witness, signals_of, witness

EIGHT = Circuit(8, 8, 8)
A, B = blake3(b"A").digest(64), blake3(b"B").digest(64)


def product(a: bytes, b: bytes) -> bytes:
    left, right = struct.unpack("64b", a), struct.unpack("64b", b)
    return struct.pack(
        "<64i",
        *(sum(left[8 * i + q] * right[8 * j + q] for q in range(8)) for i in range(8) for j in range(8)),
    )


def context(c: bytes) -> Context:
    return Context(
        task="task",
        worker=blake3(b"worker").digest(),
        nonce=b"nonce",
        circuit=EIGHT.name,
        vk_version="1",
        vk_hash=blake3(b"vk").digest(),
        rows=8,
        k=8,
        cols=8,
        seed=b"",
        a=blake3(A).digest(),
        b=blake3(B).digest(),
        c=blake3(c).digest(),
    )


C = product(A, B)
HONEST = witness(EIGHT, context(C), A, B, C)


def with_c(values: list[int]) -> Witness:
    c = struct.pack("<64i", *values)
    return witness(EIGHT, context(c), A, B, c)


@pytest.fixture(scope="module")
def honest(forger: Forger, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    [found] = forger.witnesses([HONEST], tmp_path_factory.mktemp("honest"))
    return found


def test_an_honest_witness_holds_and_is_the_calculators(
    forger: Forger, honest: list[int], compiled: object, tmp_path: Path
) -> None:
    [calculated] = forger.true.witnesses([HONEST], tmp_path)
    assert calculated == honest and forger.true.system.broken(honest) == []
    assert tuple(honest[1:5]) == tuple(signals_of(HONEST))


def test_c_off_by_one_anywhere(forger: Forger, tmp_path: Path) -> None:
    right = list(struct.unpack("<64i", C))
    forged = []
    for place in range(64):
        for delta in (1, -1):
            values = right.copy()
            values[place] += delta
            forged.append(with_c(values))
    for found in forger.witnesses(forged, tmp_path):
        # all of it is consistent but the one equation of the eight rows
        assert len(forger.true.system.broken(found)) == 1


def test_the_calculator_refuses_it_too(forger: Forger, tmp_path: Path) -> None:
    values = list(struct.unpack("<64i", C))
    values[17] += 1
    [why] = forger.true.run([with_c(values).as_json()], tmp_path)
    assert why is not None and "Assert" in why


def test_many_wrong_products(forger: Forger, tmp_path: Path) -> None:
    """Errors that sum to nothing by rows, columns and overall, exchanged rows and columns, all zeros, C of A alone."""
    right = list(struct.unpack("<64i", C))
    rows = [right[at : at + 8] for at in range(0, 64, 8)]
    chance = random.Random(5)
    forged = [
        [value for row in [rows[1], rows[0], *rows[2:]] for value in row],
        [value for row in rows for value in [row[1], row[0], *row[2:]]],
        [rows[j][i] for i in range(8) for j in range(8)],
        [0] * 64,
        [-value for value in right],
        [value + (1 if at == 0 else -1 if at == 1 else 0) for at, value in enumerate(right)],
        [value + (1 if at == 0 else -1 if at == 8 else 0) for at, value in enumerate(right)],
        [
            value + {0: 1, 1: -1, 8: -1, 9: 1}.get(at, 0)  # rows and columns keep their sums
            for at, value in enumerate(right)
        ],
        [value + 2**16 for value in right],
        *[[value + chance.randint(-9, 9) * chance.choice((0, 1)) for value in right] for _ in range(40)],
    ]
    for found in forger.witnesses([with_c(values) for values in forged], tmp_path):
        assert forger.true.system.broken(found)


@pytest.fixture(scope="module")
def somewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("property")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(0, 63), st.integers(-(2**20), 2**20).filter(bool), min_size=1, max_size=64))
def test_any_error_is_refused(forger: Forger, somewhere: Path, errors: dict[int, int]) -> None:
    values = [value + errors.get(at, 0) for at, value in enumerate(struct.unpack("<64i", C))]
    [found] = forger.witnesses([with_c(values)], somewhere)
    assert forger.true.system.broken(found)


def test_a_digit_carried_into_the_next_row_is_the_same_number(forger: Forger, tmp_path: Path) -> None:
    """2³¹ more in one row and one less in the next gives the same packed element: the circuit cannot tell, and need
    not, for only digits below 2³⁰ are ever unpacked, and `packed_rows` refuses the others."""
    values = list(struct.unpack("<64i", C))
    values[0] += 2**31
    values[8] -= 1
    assert sum(values[8 * r] << 31 * r for r in range(8)) % P == HONEST.c[0][0]


def test_packed_c_beyond_its_digits(forger: Forger, tmp_path: Path) -> None:
    """Numbers that are no eight digits: anything but the true product is refused, so C needs no range check."""
    forged = []
    for change in (1 << 248, P - 1, P // 2, 1 << 253):
        number = (HONEST.c[0][3] + change) % P
        forged.append(HONEST._replace(c=[[*HONEST.c[0][:3], number, *HONEST.c[0][4:]]]))
    for found in forger.witnesses(forged, tmp_path):
        assert len(forger.true.system.broken(found)) == 1


def test_words_of_more_than_31_bytes(forger: Forger, tmp_path: Path) -> None:
    """A word whose bits do not make it up again. The last word has two bytes only, so 2¹⁶ is already too large."""
    assert len(HONEST.b) == 3
    forged = []
    for place, change in ((0, 1 << 248), (1, 1 << 250), (2, 1 << 16), (0, P - 1 - HONEST.b[0])):
        words = HONEST.b.copy()
        words[place] = (words[place] + change) % P
        forged.append(HONEST._replace(b=words))
    for found in forger.witnesses(forged, tmp_path):
        assert forger.true.system.broken(found)


def test_bits_that_are_none(forger: Forger, honest: list[int]) -> None:
    """Every bit of B is held to 0 or 1, and to its word."""
    bits = [wire for name, wire in forger.wires.items() if ".bits[" in name and ".out[" in name]
    assert len(bits) > 400  # the compiler wrote the others as sums of what is left
    for wire in random.Random(7).sample(bits, 40):
        for value in (2, P - 1, 1 - honest[wire]):
            forged = honest.copy()
            forged[wire] = value
            assert forger.true.system.broken(forged)


def test_swapped_operands(forger: Forger, tmp_path: Path) -> None:
    """B·Aᵀ proves well, as what it is: its commitment is another than that of A and B, and cannot be changed to it."""
    other = witness(EIGHT, context(product(B, A)), B, A, product(B, A))
    mixed = witness(EIGHT, context(product(B, A)), A, B, product(B, A))
    swapped, wrong = forger.witnesses([other, mixed], tmp_path)
    assert forger.true.system.broken(swapped) == []
    expected = signals_of(HONEST)
    assert swapped[3] != expected.input_commit
    assert forger.true.system.broken([*swapped[:3], expected.input_commit, *swapped[4:]])
    assert forger.true.system.broken(wrong)


@pytest.mark.parametrize("place", [1, 2, 3, 4], ids=["taskCtx", "outLen", "inputCommit", "resultDigest"])
@pytest.mark.parametrize("change", [1, P - 1, 12345])
def test_a_public_signal_alone_cannot_be_changed(forger: Forger, honest: list[int], place: int, change: int) -> None:
    forged = honest.copy()
    forged[place] = (forged[place] + change) % P
    assert forger.true.system.broken(forged)


def test_another_length_is_another_public_signal(forger: Forger, tmp_path: Path) -> None:
    """The circuit takes any length and makes it public: the verifier compares it with the task's."""
    [found] = forger.witnesses([HONEST._replace(length=252)], tmp_path)
    assert forger.true.system.broken(found) == []
    expected = signals_of(HONEST)
    assert found[2] == 252 != expected.out_len and found[4] != expected.result_digest
    assert forger.true.system.broken([*found[:2], 256, *found[3:]])


def test_another_result_under_the_same_digest(forger: Forger, honest: list[int], tmp_path: Path) -> None:
    values = list(struct.unpack("<64i", C))
    values[5] += 1
    lie = with_c(values)._replace(context=HONEST.context)
    [found] = forger.witnesses([lie], tmp_path)
    found[4] = honest[4]
    assert forger.true.system.broken(found)


def test_operands_that_are_not_those_committed_to(forger: Forger, honest: list[int], tmp_path: Path) -> None:
    """A cheater that multiplies easier matrices: right by itself, but not under the task's commitment."""
    zeros = witness(EIGHT, context(bytes(256)), bytes(64), B, bytes(256))
    [found] = forger.witnesses([zeros], tmp_path)
    assert forger.true.system.broken(found) == [] and found[3] != honest[3]
    found[3] = honest[3]
    assert forger.true.system.broken(found)


def test_every_wire_is_held_by_constraints(forger: Forger, honest: list[int]) -> None:
    """Any wire changed by itself breaks something: none is free."""
    assert forger.true.system.wires_used() == set(range(forger.true.system.wires))
    for wire in random.Random(11).sample(range(1, len(honest)), 60):
        forged = honest.copy()
        forged[wire] = (forged[wire] + 1) % P
        assert forger.true.system.broken(forged)


def test_the_judge_refuses_what_is_no_witness(forger: Forger, honest: list[int]) -> None:
    broken = forger.true.system.broken
    assert broken([0, *honest[1:]]) and broken(honest[:-1]) and broken([*honest, 0])
    assert broken([*honest[:9], honest[9] + P, *honest[10:]])


def test_padded_rows_cannot_hide_anything(forger: Forger, tmp_path: Path) -> None:
    """Five rows in a circuit of eight: what stands in C below them is refused as anywhere else."""
    a, c = A[:40], C[:160]
    task = dataclasses.replace(context(c), rows=5, a=blake3(a).digest())
    inputs = witness(EIGHT, task, a, B, c)
    forged = inputs._replace(c=[[(inputs.c[0][0] + (1 << 31 * 6)) % P, *inputs.c[0][1:]]])
    good, bad = forger.witnesses([inputs, forged], tmp_path)
    assert forger.true.system.broken(good) == [] and len(forger.true.system.broken(bad)) == 1


def test_the_true_circuit_is_the_recorded_one(forger: Forger, compiled: object) -> None:
    assert callable(compiled) and isinstance(forger.true, Compiled)
    [there] = [compiled("v2-8x8x8")]
    assert (there.folder / "v2-8x8x8.r1cs").read_bytes() == (forger.true.folder / "main.r1cs").read_bytes()
