"""What the public signals bind: each byte of operands and result, each field of the context; and what is refused."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from shardy_common.proofs.signals import (
    K_MAX,
    Circuit,
    Context,
    P,
    input_commit,
    packed_bytes,
    packed_rows,
    public_signals,
    task_context,
    witness,
)

EIGHT = Circuit(8, 8, 8)
ROWS, K, COLS = 5, 6, 7
A, B = blake3(b"A").digest(ROWS * K), blake3(b"B").digest(COLS * K)
DIGIT = 2**30 - 1


def product(a: bytes, b: bytes) -> bytes:
    left, right = struct.unpack(f"{ROWS * K}b", a), struct.unpack(f"{COLS * K}b", b)
    return struct.pack(
        f"<{ROWS * COLS}i",
        *(sum(left[row * K + j] * right[col * K + j] for j in range(K)) for row in range(ROWS) for col in range(COLS)),
    )


C = product(A, B)
CONTEXT = Context(
    task="task",
    worker=bytes(32),
    nonce=b"nonce",
    circuit=EIGHT.name,
    vk_version="1",
    vk_hash=bytes(32),
    rows=ROWS,
    k=K,
    cols=COLS,
    seed=b"",
    a=blake3(A).digest(),
    b=blake3(B).digest(),
    c=blake3(C).digest(),
)


def unpacked(number: int) -> list[int]:
    """The eight signed digits of a packed number."""
    value = number if number <= P // 2 else number - P
    digits = []
    for _ in range(8):
        digit = (value + 2**30) % 2**31 - 2**30
        digits.append(digit)
        value = (value - digit) >> 31
    assert value == 0
    return digits


@given(st.lists(st.integers(-DIGIT, DIGIT), min_size=8, max_size=8))
def test_eight_rows_are_read_back_from_one_number(column: list[int]) -> None:
    [[number]] = packed_rows(column, 8, 1, 8, 1)
    assert 0 <= number < P and unpacked(number) == column


@given(st.binary(min_size=1, max_size=100))
def test_bytes_are_read_back_from_words(data: bytes) -> None:
    words = packed_bytes(data)
    assert all(word < 2**248 for word in words)
    assert b"".join(word.to_bytes(31, "little") for word in words)[: len(data)] == data


def test_the_largest_product_fits_a_digit() -> None:
    assert K_MAX * 128 * 128 <= DIGIT < (K_MAX + 1) * 128 * 128


def test_padding_is_zeros() -> None:
    inputs = witness(EIGHT, CONTEXT, A, B, C)
    assert [unpacked(value)[ROWS:] for value in inputs.a[0] + inputs.c[0]] == [[0] * (8 - ROWS)] * 16
    assert inputs.a[0][K:] == [0] * (8 - K) and inputs.c[0][COLS:] == [0] * (8 - COLS)
    stored = b"".join(word.to_bytes(31, "little") for word in inputs.b)[:64]
    assert [stored[8 * row : 8 * row + 8] for row in range(8)] == [
        B[K * row : K * row + K] + bytes(2) if row < COLS else bytes(8) for row in range(8)
    ]


@given(st.data())
@settings(max_examples=60)
def test_one_bit_of_an_operand_or_the_result_changes_its_signal_alone(data: st.DataObject) -> None:
    true = public_signals(EIGHT, CONTEXT, A, B, C)
    which = data.draw(st.sampled_from("abc"))
    changed = {"a": A, "b": B, "c": C}
    bits = 8 * len(changed[which])
    bit = data.draw(st.integers(0, bits - 1).filter(lambda bit: which != "c" or bit % 32 < 29))
    number = int.from_bytes(changed[which], "little") ^ 1 << bit
    changed[which] = number.to_bytes(bits // 8, "little")
    other = public_signals(EIGHT, CONTEXT, **changed)
    assert (other.task_ctx, other.out_len) == (true.task_ctx, true.out_len)
    assert (other.input_commit != true.input_commit) == (which != "c")
    assert (other.result_digest != true.result_digest) == (which == "c")


def test_operands_exchanged_are_another_input() -> None:
    square = dataclasses.replace(CONTEXT, rows=6, cols=6)
    a, b = blake3(b"A").digest(36), blake3(b"B").digest(36)
    assert input_commit(EIGHT, square, a, b) != input_commit(EIGHT, square, b, a)


CHANGED: list[dict[str, Any]] = [
    {"task": "task2"},
    {"worker": b"\x01" * 32},
    {"nonce": b"nonce2"},
    {"circuit": "v2-16x8x8"},
    {"vk_version": "2"},
    {"vk_hash": b"\x01" * 32},
    {"rows": ROWS + 1},
    {"k": K + 1},
    {"cols": COLS + 1},
    {"seed": b"\x00"},
    {"a": bytes(32)},
    {"b": bytes(32)},
    {"c": bytes(32)},
    {"tile": bytes(40)},
    # a byte that moves from the end of one field to the start of the next
    {"task": "tas", "nonce": b"knonce"},
    {"vk_version": "1\x00", "vk_hash": bytes(32)},
]


def test_every_field_of_the_context_counts() -> None:
    found = {task_context(dataclasses.replace(CONTEXT, **changed)) for changed in CHANGED}
    assert len(found | {task_context(CONTEXT)}) == len(CHANGED) + 1
    assert all(value < 2**248 for value in found)


@pytest.mark.parametrize(
    "changed",
    [{name: bytes(size)} for name in ("worker", "vk_hash", "a", "b", "c") for size in (0, 31, 33)]
    + [{name: value} for name in ("rows", "k", "cols") for value in (0, -1, 2**32)]
    + [{"task": ""}, {"nonce": b""}, {"circuit": ""}, {"vk_version": ""}, {"seed": bytes(2**16 + 1)}],
    ids=str,
)
def test_contexts_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        task_context(dataclasses.replace(CONTEXT, **changed))


@pytest.mark.parametrize(
    ("changed", "a", "b", "c"),
    [
        ({}, A[:-1], B, C),
        ({}, A, B + b"\0", C),
        ({}, A, B, C[:-4]),
        ({}, A, B, C + bytes(4)),
        ({"circuit": "v2-16x8x8"}, A, B, C),
        ({"rows": 9}, A + bytes(4 * K), B, C),
        ({"k": 9}, bytes(45), bytes(63), C),
        ({"cols": 9}, A, bytes(9 * K), C),
        ({}, A, B, C[:-4] + struct.pack("<i", 2**30)),
        ({}, A, B, C[:-4] + struct.pack("<i", -(2**30))),
    ],
)
def test_witnesses_refused(changed: dict[str, Any], a: bytes, b: bytes, c: bytes) -> None:
    with pytest.raises(ValueError):
        witness(EIGHT, dataclasses.replace(CONTEXT, **changed), a, b, c)


@pytest.mark.parametrize("shape", [(0, 8, 8), (4, 8, 8), (12, 8, 8), (8, 0, 8), (8, K_MAX + 1, 8), (8, 8, 0)])
def test_circuits_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError):
        Circuit(*shape)


def test_names_of_circuits() -> None:
    assert Circuit.named("v2-8x384x8") == Circuit(8, 384, 8) and Circuit(8, 384, 8).name == "v2-8x384x8"
    for name in ("v2-8x8", "v2-08x8x8", "v1-8x8x8", "v2-8x8x8 ", "v2-8x8x8\n", "v2-4x8x8", "v2-8x-8x8", "v2-٨x8x8", ""):
        with pytest.raises(ValueError):
            Circuit.named(name)
