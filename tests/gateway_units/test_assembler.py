"""Tiles put together again give the whole result's bytes, whatever their bands and blocks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from mesh_events import JOB, PRE, matmul, matmul_f32, stream

from shardy_common import kinds
from shardy_common.blobs import DirectoryStore
from shardy_common.engine import reference
from shardy_common.wire.job import JobSpec, Tile
from shardy_gateway import assemble
from shardy_gateway.assemble import Assembler
from shardy_gateway.shapes import JobView, TaskView

M, N = 23, 17
BANDS = {
    "one tile": [(0, M, 0, N)],
    "rows": [(0, 10, 0, N), (10, 1, 0, N), (11, 12, 0, N)],
    "bands": [(0, 9, 0, 4), (9, 14, 0, 4), (0, 23, 4, 12), (0, 1, 16, 1), (1, 22, 16, 1)],
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    store = DirectoryStore(tmp_path)
    yield store
    store.close()


def assembled(store: DirectoryStore, spec: JobSpec, tiles: dict[Tile, bytes]) -> dict[str, np.ndarray]:
    tasks = []
    for i, (tile, data) in enumerate(reversed(tiles.items())):
        digest = blake3(data).hexdigest()
        store.put_small([(digest, data)])
        tasks.append(TaskView(f"{JOB}-{i}", JOB, tile, {}, digest, len(data)))
    job = JobView(JOB, 1, spec, "r", 0, 0)
    assembler = Assembler(job, tasks, store)
    arrays = {}
    for part in kinds.KINDS[spec.kind].parts(spec):
        length, blocks = assembler.npy(part)
        data = b"".join(blocks)
        assert len(data) == length, "the length is told before the bytes are made"
        array = arrays[part.name] = np.load(io.BytesIO(data), allow_pickle=False)
        assert array.dtype == np.dtype(part.dtype) and array.shape == part.shape
    return arrays


@pytest.mark.parametrize("bands", BANDS)
@pytest.mark.parametrize("block", [64, 2 << 20])
@pytest.mark.parametrize("floats", [False, True])
def test_products(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, bands: str, block: int, floats: bool) -> None:
    monkeypatch.setattr(assemble, "BLOCK_BYTES", block)
    rng = np.random.default_rng(3)
    whole = rng.integers(-(2**31), 2**31, (M, N)).astype("<i4")
    rows, cols = (rng.random(n).astype("<f4") for n in (M, N))
    tiles = {}
    for row0, r, col0, c in BANDS[bands]:
        head = rows[row0 : row0 + r].tobytes() + cols[col0 : col0 + c].tobytes() if floats else b""
        tiles[Tile(row0, r, col0, c)] = head + whole[row0 : row0 + r, col0 : col0 + c].tobytes()
    parts = assembled(store, matmul_f32(M, N) if floats else matmul(M, N), tiles)
    assert np.array_equal(parts["c"], whole)
    if floats:
        assert np.array_equal(parts["a_scale"], rows) and np.array_equal(parts["b_scale"], cols)
        assert parts["d"].tobytes() == reference.dequantise(whole, rows, cols).tobytes()


@pytest.mark.parametrize("block", [16, 2 << 20])
def test_streams(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(assemble, "BLOCK_BYTES", block)
    rng = np.random.default_rng(4)
    q, scale = rng.integers(-127, 128, (M, N)).astype("i1"), rng.random(M).astype("<f4")
    cuts = [(0, 7), (7, 1), (8, 15)]
    tiles = {Tile(at, n, 0, N): scale[at : at + n].tobytes() + q[at : at + n].tobytes() for at, n in cuts}
    parts = assembled(store, stream(M, N, pre=PRE), tiles)
    assert np.array_equal(parts["q"], q) and np.array_equal(parts["scale"], scale)
