"""The auditor with the real engine and real blobs: right results pass, each tampered one is named with its row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from shardy_common import kinds
from shardy_common.blobs import DirectoryStore
from shardy_common.engine import reference
from shardy_common.wire.job import JobSpec, Operand, Pre, Tile
from shardy_quorum.audit import Auditor
from shardy_quorum.task import Examination

P = 2**31 - 1


class Bench:
    """A store with operands in it, and the bytes that are right for any tile, from NumPy alone."""

    def __init__(self, root: Path) -> None:
        self.store = DirectoryStore(root)
        self.auditor = Auditor(self.store)
        self.arrays: dict[str, np.ndarray] = {}
        self.rng = np.random.default_rng(1)

    def put(self, data: bytes) -> str:
        digest = blake3(data).hexdigest()
        self.store.put_small([(digest, data)])
        return digest

    def operand(self, rows: int, cols: int, dtype: str) -> Operand:
        array = self.rng.integers(-128, 128, (rows, cols)).astype("i1")
        if dtype == "float32":
            array = (self.rng.standard_normal((rows, cols)) * 2).astype("<f4")
        digest = self.put(array.tobytes())
        self.arrays[digest] = array
        return Operand(digest, dtype, rows, cols)

    def matmul(self, m: int, n: int, k: int, pre: Pre | None = None) -> JobSpec:
        dtype = "float32" if pre else "int8"
        return kinds.checked(
            JobSpec("matmul", {"a": self.operand(m, k, dtype), "b": self.operand(n, k, dtype)}, pre=pre)
        )

    def stream(self, rows: int, cols: int, pre: Pre) -> JobSpec:
        return kinds.checked(JobSpec("stream", {"x": self.operand(rows, cols, "float32")}, pre=pre))

    def prepared(self, spec: JobSpec, name: str, row0: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        x = self.arrays[spec.operands[name].digest]
        if spec.pre is None:
            return x[row0 : row0 + rows], np.empty(0, "<f4")
        first = row0 - min(row0, spec.pre.warm_rows)
        return reference.preexec(x[first : row0 + rows], row0=row0, rows=rows, **kinds.pre_params(spec.pre))

    def right(self, spec: JobSpec, tile: Tile) -> bytes:
        if spec.kind == "stream":
            q, scale = self.prepared(spec, "x", tile.row0, tile.rows)
            return scale.tobytes() + q.tobytes()
        a, a_scale = self.prepared(spec, "a", tile.row0, tile.rows)
        b, b_scale = self.prepared(spec, "b", tile.col0, tile.cols)
        product = (a.astype(np.int64) @ b.astype(np.int64).T).astype("<i4")
        return a_scale.tobytes() + b_scale.tobytes() + product.tobytes()

    def ask(self, spec: JobSpec, tile: Tile, *digests: str, purpose: str = "audit", task: str = "t") -> Examination:
        return Examination(task, "j", spec, tile, digests, purpose)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("blobs"))
    yield bench
    bench.store.close()


PRES = {
    "int8": None,
    "float": Pre(-1.5, 1.5),
    "float tensor": Pre(-1.5, 2.0, scale="tensor"),
    "float along rows": Pre(-1.0, 1.0, 1, 0.25),
    "float down rows": Pre(-1.0, 1.0, 0, 0.9, 4),
}


@pytest.mark.parametrize("name", PRES)
def test_right_results_pass(bench: Bench, name: str) -> None:
    spec = bench.matmul(24, 16, 9, PRES[name])
    requests = []
    for tile in (Tile(0, 24, 0, 16), Tile(8, 8, 4, 12), Tile(20, 4, 4, 12), Tile(0, 4, 0, 4)):
        requests.append(bench.ask(spec, tile, bench.put(bench.right(spec, tile))))
    for request, findings in zip(requests, bench.auditor.examine(requests), strict=True):
        assert findings.right == list(request.digests) and not findings.wrong and not findings.missing


def change_element(data: bytearray, head: int, at: int, by: int) -> None:
    view = np.frombuffer(data, "<i4", offset=head)
    view[at] = np.int64(int(view[at]) + by).astype("<i4")


BYTES: dict[str, Callable[[bytearray, int, int], None]] = {
    "one more": lambda d, head, at: change_element(d, head, at, 1),
    "one less": lambda d, head, at: change_element(d, head, at, -1),
    "lowest bit": lambda d, head, at: d.__setitem__(head + 4 * at, d[head + 4 * at] ^ 1),
    "highest bit": lambda d, head, at: d.__setitem__(head + 4 * at + 3, d[head + 4 * at + 3] ^ 0x80),
    "plus p": lambda d, head, at: change_element(d, head, at, P),
    "minus p": lambda d, head, at: change_element(d, head, at, -P),
    "plus 2 p": lambda d, head, at: change_element(d, head, at, 2 * P),
}


@pytest.mark.parametrize("name", ["int8", "float down rows"])
@pytest.mark.parametrize("change", BYTES)
def test_each_changed_element_is_found_in_its_row(bench: Bench, name: str, change: str) -> None:
    spec = bench.matmul(8, 8, 5, PRES[name])
    tile = Tile(4, 4, 4, 4)
    right = bench.right(spec, tile)
    head = len(right) - 4 * tile.cells
    digests = {}
    for at in range(tile.cells):
        data = bytearray(right)
        BYTES[change](data, head, at)
        digests[bench.put(bytes(data))] = at // tile.cols
    requests = [bench.ask(spec, tile, digest, task=digest) for digest in digests]
    for findings in bench.auditor.examine(requests):
        assert findings.wrong == {findings.task: digests[findings.task]} and findings.right == []


@pytest.mark.parametrize("bit", [0, 7, 22, 31])
def test_each_changed_scale_is_found(bench: Bench, bit: int) -> None:
    spec = bench.matmul(8, 8, 5, PRES["float along rows"])
    tile = Tile(0, 8, 0, 8)
    right = bench.right(spec, tile)
    for at in range(16):
        data = bytearray(right)
        data[4 * at + bit // 8] ^= 1 << bit % 8
        digest = bench.put(bytes(data))
        (findings,) = bench.auditor.examine([bench.ask(spec, tile, digest)])
        assert findings.wrong == {digest: at if at < 8 else 0}, "a wrong scale of a column is wrong in every row"


@pytest.mark.parametrize("name", ["int8", "float"])
@pytest.mark.parametrize("cut", [0, 1, 4, -4])
def test_a_wrong_length_is_wrong(bench: Bench, name: str, cut: int) -> None:
    spec = bench.matmul(6, 5, 4, PRES[name])
    tile = Tile(0, 6, 0, 5)
    right = bench.right(spec, tile)
    digest = bench.put(right[: len(right) - cut] if cut > 0 else b"" if cut == 0 else right + bytes(4))
    (findings,) = bench.auditor.examine([bench.ask(spec, tile, digest)])
    assert findings.wrong == {digest: 0}


def test_bytes_that_are_gone_are_missing_and_not_wrong(bench: Bench) -> None:
    spec = bench.matmul(6, 5, 4)
    tile = Tile(0, 6, 0, 5)
    good, gone = bench.put(bench.right(spec, tile)), "ab" * 32
    (findings,) = bench.auditor.examine([bench.ask(spec, tile, good, gone)])
    assert (findings.right, findings.missing, findings.wrong) == ([good], [gone], {})
    lost = JobSpec("matmul", {**spec.operands, "b": Operand("cd" * 32, "int8", 5, 4)})
    (findings,) = bench.auditor.examine([bench.ask(lost, tile, good)])
    assert (findings.right, findings.missing, findings.wrong) == ([], [good], {})
    lost = JobSpec("matmul", {**spec.operands, "a": Operand("cd" * 32, "int8", 6, 4)})
    (findings,) = bench.auditor.examine([bench.ask(lost, tile, good)])
    assert (findings.right, findings.missing, findings.wrong) == ([], [good], {})


@pytest.mark.parametrize("name", ["int8", "float tensor"])
def test_a_stack_of_results_names_just_the_liars(bench: Bench, name: str) -> None:
    spec = bench.matmul(60, 20, 7, PRES[name])
    other = bench.matmul(10, 6, 3, PRES[name])
    requests: list[Examination] = []
    lies: dict[str, dict[str, int]] = {}
    for i in range(20):
        tile = Tile(3 * i, 3, 0, 10) if i % 2 else Tile(3 * i, 3, 10, 10)
        right = bench.right(spec, tile)
        digests = [bench.put(right)]
        if i % 3 == 0:
            data = bytearray(right)
            change_element(data, len(right) - 4 * tile.cells, (i % 3) * 10 + i % 10, 7 + i)
            digests.append(bench.put(bytes(data)))
        requests.append(bench.ask(spec, tile, *digests, task=f"t{i}"))
        lies[f"t{i}"] = {digests[1]: i % 3} if len(digests) > 1 else {}
    tile = Tile(0, 10, 0, 6)
    requests.insert(5, Examination("other", "j2", other, tile, (bench.put(bench.right(other, tile)),), "audit"))
    for request, findings in zip(requests, bench.auditor.examine(requests), strict=True):
        assert findings.task == request.task and findings.right == [request.digests[0]]
        assert findings.wrong == lies.get(request.task, {})


def test_seeds_are_secret_and_fresh(bench: Bench) -> None:
    drawn: list[bytes] = []

    def entropy(n: int) -> bytes:
        drawn.append(bytes([len(drawn)] * n))
        return drawn[-1]

    auditor = Auditor(bench.store, entropy)
    spec = bench.matmul(6, 5, 4)
    tile = Tile(0, 6, 0, 5)
    request = bench.ask(spec, tile, bench.put(bench.right(spec, tile)))
    for _ in range(3):
        auditor.examine([request])
    assert len(set(drawn)) == len(drawn) == 3 and all(len(seed) == 32 for seed in drawn)


STREAMS = [Pre(-1.0, 1.0), Pre(-1.0, 1.0, 0, 0.9, 4), Pre(-1.0, 1.0, 1, 0.5, scale="tensor")]


@pytest.mark.parametrize("pre", STREAMS, ids=["plain", "down rows", "along rows"])
@pytest.mark.parametrize("where", ["q", "scale"])
def test_comparing_streams_finds_the_liar_by_recomputing(bench: Bench, pre: Pre, where: str) -> None:
    spec = bench.stream(32, 5, pre)
    tile = Tile(8, 16, 0, 5)
    right = bench.right(spec, tile)
    good = bench.put(right)
    for row in range(tile.rows):
        data = bytearray(right)
        data[4 * row if where == "scale" else 4 * tile.rows + 5 * row + row % 5] ^= 1
        bad = bench.put(bytes(data))
        for order in ((good, bad), (bad, good)):
            (findings,) = bench.auditor.examine([bench.ask(spec, tile, *order, purpose="compare")])
            assert findings.wrong == {bad: row} and findings.right == [good]


def test_comparing_three_streams(bench: Bench) -> None:
    spec = bench.stream(32, 5, STREAMS[1])
    tile = Tile(0, 32, 0, 5)
    right = bench.right(spec, tile)
    good, lies = bench.put(right), []
    for row in (3, 20):
        data = bytearray(right)
        data[4 * tile.rows + 5 * row] ^= 1
        lies.append(bench.put(bytes(data)))
    (findings,) = bench.auditor.examine([bench.ask(spec, tile, good, *lies, purpose="compare")])
    assert findings.wrong == {lies[0]: 3, lies[1]: 20} and findings.right == [good]
    short = bench.put(right[:-1])
    (findings,) = bench.auditor.examine([bench.ask(spec, tile, short, good, "ab" * 32, purpose="compare")])
    assert findings.wrong == {short: 0} and findings.right == [good] and findings.missing == ["ab" * 32]


def test_a_lie_beside_two_rows_that_differ_is_not_called_right(bench: Bench) -> None:
    """Two liars and nobody else: the first difference condemns one; the other is left standing, not proven."""
    spec = bench.stream(32, 5, STREAMS[0])
    tile = Tile(0, 32, 0, 5)
    right = bench.right(spec, tile)
    lies = []
    for row in (3, 20):
        data = bytearray(right)
        data[4 * tile.rows + 5 * row] ^= 1
        lies.append(bench.put(bytes(data)))
    (findings,) = bench.auditor.examine([bench.ask(spec, tile, *lies, purpose="compare")])
    assert findings.wrong == {lies[0]: 3}


def test_large_stacks_are_split(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardy_quorum.audit._STACK_BYTES_MAX", 1_000)
    monkeypatch.setattr("shardy_quorum.audit._PREPARED_BYTES_MAX", 100)
    spec = bench.matmul(40, 20, 7, PRES["float"])
    requests = [
        bench.ask(spec, tile, bench.put(bench.right(spec, tile)), task=str(tile.row0))
        for tile in (Tile(4 * i, 4, 0, 20) for i in range(10))
    ]
    calls: list[Any] = []
    real = bench.auditor._engine.freivalds
    monkeypatch.setattr(bench.auditor._engine, "freivalds", lambda *a: calls.append(1) or real(*a))
    assert all(f.right and not f.wrong for f in bench.auditor.examine(requests))
    assert len(calls) >= math.ceil(10 * 4 * 80 / 1_000)
