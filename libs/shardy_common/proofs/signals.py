"""The four public signals of a product's proof, and what a prover puts into the circuit, from bytes alone.

docs/proofs.md gives the layout byte by byte; vectors/proofs.json holds examples for other languages. Everything here is
plain integers: nothing compiled stands between a reader and the numbers.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shardy_common.proofs.poseidon import Hasher, P, poseidon, tree

CONTEXT_TAG = b"shardy-task-ctx-v2\x00"
CONTEXT_BYTES = 31  # the first bytes of a SHA-256: as a number always below P

ROWS_PACKED = 8
DIGIT_BITS = 31
WORD_BYTES = 31
K_MAX = 65535
"""Up to here |C| ≤ k·2¹⁴ < 2³⁰, so that eight rows of C fit into one field element with their signs."""

HASH_BYTES = 32
_FIELD_BYTES_MAX = 2**16
_NAME = re.compile(r"v2-([1-9]\d{0,5})x([1-9]\d{0,5})x([1-9]\d{0,5})\Z")


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit for C[m×n] = A[m×k] · B[n×k]ᵀ; m is a multiple of 8. Smaller matrices are padded with zeros."""

    m: int
    k: int
    n: int

    def __post_init__(self) -> None:
        if self.m < 1 or self.m % ROWS_PACKED or self.k < 1 or self.n < 1 or self.k > K_MAX:
            raise ValueError(f"{self.m}×{self.k}×{self.n}: m is a multiple of {ROWS_PACKED}, k at most {K_MAX}")

    @property
    def name(self) -> str:
        return f"v2-{self.m}x{self.k}x{self.n}"

    @classmethod
    def named(cls, name: str) -> Circuit:
        """The circuit of a name as `v2-8x384x8`. ValueError for any other text."""
        found = _NAME.match(name)
        if not found:
            raise ValueError(f"{name!r} is not the name of a circuit, as v2-8x384x8 is")
        m, k, n = map(int, found.groups())
        return cls(m, k, n)


@dataclass(frozen=True, slots=True)
class Context:
    """Who proves what, for which lease, under which key: what `taskCtx` stands for.

    rows, k, cols: the task's own shape, before padding. a, b, c: BLAKE3 of the bytes of A, of B as stored (cols×k) and
    of C. seed: of the task's data, empty where it has none. tile: `tiles.tile_field`, empty where the proof is of the
    whole task; rows, cols, a, b and c are then the tile's, a and b of the slices that it is computed from.
    """

    task: str
    worker: bytes
    nonce: bytes
    circuit: str
    vk_version: str
    vk_hash: bytes
    rows: int
    k: int
    cols: int
    seed: bytes
    a: bytes
    b: bytes
    c: bytes
    tile: bytes = b""


class Signals(NamedTuple):
    """The public signals in the order of the circuit: integers in 0 … P − 1."""

    task_ctx: int
    out_len: int
    input_commit: int
    result_digest: int


class Witness(NamedTuple):
    """A prover's private inputs, named and ordered as the circuit's: rows of numbers in 0 … P − 1."""

    context: int
    length: int
    a: list[list[int]]
    b: list[int]
    c: list[list[int]]

    def as_json(self) -> dict[str, object]:
        """What the circuit's witness calculator reads: decimals."""
        return {
            "context": str(self.context),
            "length": str(self.length),
            "a": [[str(value) for value in row] for row in self.a],
            "b": [str(value) for value in self.b],
            "c": [[str(value) for value in row] for row in self.c],
        }


def task_context(context: Context) -> int:
    """taskCtx: the first 31 bytes of SHA-256 over the tag and every field behind its length (u32), as a number.

    ValueError where a field has not the length that it must have. A number in a field is little-endian, and the 31
    bytes are read big-endian.
    """
    for name in ("worker", "vk_hash", "a", "b", "c"):
        if len(getattr(context, name)) != HASH_BYTES:
            raise ValueError(f"{name} has {len(getattr(context, name))} bytes, not {HASH_BYTES}")
    for name in ("rows", "k", "cols"):
        if not 1 <= getattr(context, name) < 2**32:
            raise ValueError(f"{name} is {getattr(context, name)}: 1 to 2³² − 1 are possible")
    fields = (
        context.task.encode(),
        context.worker,
        context.nonce,
        context.circuit.encode(),
        context.vk_version.encode(),
        context.vk_hash,
        struct.pack("<III", context.rows, context.k, context.cols),
        context.seed,
        context.a,
        context.b,
        context.c,
        context.tile,
    )
    if not (context.task and context.nonce and context.circuit and context.vk_version):
        raise ValueError("task, nonce, circuit and vk_version are not empty")
    hasher = hashlib.sha256(CONTEXT_TAG)
    for field in fields:
        if len(field) > _FIELD_BYTES_MAX:
            raise ValueError(f"a field has {len(field)} bytes: at most {_FIELD_BYTES_MAX}")
        hasher.update(struct.pack("<I", len(field)) + field)
    return int.from_bytes(hasher.digest()[:CONTEXT_BYTES], "big")


def out_len(rows: int, cols: int) -> int:
    """Bytes of the result: int32, unpadded."""
    return 4 * rows * cols


def packed_rows(values: Sequence[int], rows: int, cols: int, circuit_rows: int, circuit_cols: int) -> list[list[int]]:
    """[circuit_rows/8][circuit_cols] numbers: eight rows each as signed digits of 31 bits, mod P.

    values: rows×cols in row-major order, each with |v| < 2³⁰. What the circuit has more than the matrix is zero.
    """
    if not (1 <= rows <= circuit_rows and 1 <= cols <= circuit_cols and len(values) == rows * cols):
        raise ValueError(f"{len(values)} values as {rows}×{cols} do not fit into {circuit_rows}×{circuit_cols}")
    if max(map(abs, values)) >= 1 << (DIGIT_BITS - 1):
        raise ValueError("a value takes more than a digit of 31 bits")
    packed = []
    for first in range(0, circuit_rows, ROWS_PACKED):
        group = [0] * circuit_cols
        for row in range(first, min(first + ROWS_PACKED, rows)):
            shift = DIGIT_BITS * (row - first)
            for column, value in enumerate(values[row * cols : (row + 1) * cols]):
                group[column] += value << shift
        packed.append([number % P for number in group])
    return packed


def packed_bytes(data: bytes) -> list[int]:
    """31 bytes to a number, the first in the lowest place; the last number holds what is left."""
    return [int.from_bytes(data[at : at + WORD_BYTES], "little") for at in range(0, len(data), WORD_BYTES)]


def witness(circuit: Circuit, context: Context, a: bytes, b: bytes, c: bytes) -> Witness:
    """What a prover puts in: A (rows×k int8), B (cols×k int8) and C (rows×cols little-endian int32) in row-major order.

    ValueError where sizes, ranges or the names of circuit and context do not fit. It does not look whether C is right.
    """
    rows, k, cols = context.rows, context.k, context.cols
    _check_sizes(circuit, context, a, b)
    if len(c) != out_len(rows, cols):
        raise ValueError(f"C has {len(c)} bytes, not {out_len(rows, cols)}")
    return Witness(
        context=task_context(context),
        length=out_len(rows, cols),
        a=_packed_a(circuit, rows, k, a),
        b=_packed_b(circuit, cols, k, b),
        c=packed_rows(struct.unpack(f"<{rows * cols}i", c), rows, cols, circuit.m, circuit.n),
    )


def input_commit(circuit: Circuit, context: Context, a: bytes, b: bytes, hasher: Hasher = poseidon) -> int:
    """Poseidon(hA, hB): what a verifier that has the operands computes itself, without C. hasher: another Poseidon."""
    _check_sizes(circuit, context, a, b)
    packed_a = _packed_a(circuit, context.rows, context.k, a)
    return _input_commit(packed_a, _packed_b(circuit, context.cols, context.k, b), hasher)


def public_signals(
    circuit: Circuit, context: Context, a: bytes, b: bytes, c: bytes, hasher: Hasher = poseidon
) -> Signals:
    """All four, of A, B and C as `witness` takes them."""
    return signals_of(witness(circuit, context, a, b, c), hasher)


def signals_of(inputs: Witness, hasher: Hasher = poseidon) -> Signals:
    """What the circuit makes public when these are its inputs."""
    digest = hasher((tree([value for row in inputs.c for value in row], hasher), inputs.length))
    return Signals(inputs.context, inputs.length, _input_commit(inputs.a, inputs.b, hasher), digest)


def _check_sizes(circuit: Circuit, context: Context, a: bytes, b: bytes) -> None:
    rows, k, cols = context.rows, context.k, context.cols
    if context.circuit != circuit.name:
        raise ValueError(f"the context names {context.circuit}, not {circuit.name}")
    if not (1 <= rows <= circuit.m and 1 <= k <= circuit.k and 1 <= cols <= circuit.n):
        raise ValueError(f"{rows}×{k}×{cols} does not fit into {circuit.name}")
    if len(a) != rows * k or len(b) != cols * k:
        raise ValueError(f"A has {len(a)} bytes, not {rows * k}, or B {len(b)}, not {cols * k}")


def _packed_a(circuit: Circuit, rows: int, k: int, a: bytes) -> list[list[int]]:
    return packed_rows(struct.unpack(f"<{rows * k}b", a), rows, k, circuit.m, circuit.k)


def _packed_b(circuit: Circuit, cols: int, k: int, b: bytes) -> list[int]:
    """Rows of B are filled up to the circuit's k, and their number to its n, with zeros; then 31 bytes to a number."""
    filled = b"".join(b[row * k : (row + 1) * k].ljust(circuit.k, b"\0") for row in range(cols))
    return packed_bytes(filled.ljust(circuit.n * circuit.k, b"\0"))


def _input_commit(a: list[list[int]], b: list[int], hasher: Hasher) -> int:
    return hasher((tree([value for row in a for value in row], hasher), tree(b, hasher)))
