"""Putting a job's verified tiles together again: a part's bytes, streamed in blocks, never wholly in memory."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from numpy.lib import format as npy

from shardy_common.blobs import DirectoryStore
from shardy_common.kinds import Part
from shardy_gateway.shapes import JobView, TaskView

BLOCK_BYTES = 2 * 1024 * 1024


class Assembler:
    """tasks: all verified tasks of the job."""

    def __init__(self, job: JobView, tasks: list[TaskView], blobs: DirectoryStore) -> None:
        self._scaled = job.spec.pre is not None
        self._blobs = blobs
        self._bands: dict[int, list[TaskView]] = {}
        for task in tasks:
            self._bands.setdefault(task.tile.col0, []).append(task)
        for band in self._bands.values():
            band.sort(key=lambda t: t.tile.row0)

    def npy(self, part: Part) -> tuple[int, Iterator[bytes]]:
        """(length in bytes, blocks) of the part as an .npy file."""
        head = io.BytesIO()
        dtype = np.dtype(part.dtype).newbyteorder("<")
        npy.write_array_header_1_0(
            head, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": part.shape}
        )
        header = head.getvalue()
        size = int(np.prod(part.shape)) * dtype.itemsize

        def blocks() -> Iterator[bytes]:
            yield header
            yield from self._blocks(part)

        return len(header) + size, blocks()

    def _blocks(self, part: Part) -> Iterator[bytes]:
        if part.source == "product":
            yield from self._product(part.shape)
        elif part.source == "dequantised":
            yield from self._dequantised(part.shape)
        elif part.source == "stream_q":
            for task in self._column(0):
                yield from self._read(task, 4 * task.tile.rows, task.tile.cells)
        elif part.source == "row_scale":
            for task in self._column(0):
                yield from self._read(task, 0, 4 * task.tile.rows)
        else:
            for col0 in sorted(self._bands):
                first = self._bands[col0][0]
                yield from self._read(first, 4 * first.tile.rows, 4 * first.tile.cols)

    def _product(self, shape: tuple[int, ...]) -> Iterator[bytes]:
        if len(self._bands) == 1:  # tiles are whole rows: their bytes follow one another
            for task in self._column(0):
                yield from self._read(task, self._head(task), 4 * task.tile.cells)
            return
        for row0, rows in _row_blocks(shape):
            yield self._rows(row0, rows, shape[1]).tobytes()

    def _dequantised(self, shape: tuple[int, ...]) -> Iterator[bytes]:
        from shardy_common.engine import Engine  # only here: a restarted gateway answers a tenth of a second sooner

        a_scale = np.frombuffer(b"".join(self._blocks(Part("", "float32", (), "row_scale"))), "<f4")
        b_scale = np.frombuffer(b"".join(self._blocks(Part("", "float32", (), "col_scale"))), "<f4")
        engine = Engine()
        for row0, rows in _row_blocks(shape):
            block = self._rows(row0, rows, shape[1])
            yield engine.dequantise(block, np.ascontiguousarray(a_scale[row0 : row0 + rows]), b_scale).tobytes()

    def _rows(self, row0: int, rows: int, cols: int) -> np.ndarray:
        """int32[rows, cols] of the product, from all bands."""
        out = np.empty((rows, cols), "<i4")
        for col0, band in self._bands.items():
            for task in band:
                tile = task.tile
                start, end = max(row0, tile.row0), min(row0 + rows, tile.row0 + tile.rows)
                if start >= end:
                    continue
                at = self._head(task) + (start - tile.row0) * tile.cols * 4
                data = self._blobs.read(task.digest, at, (end - start) * tile.cols * 4)
                out[start - row0 : end - row0, col0 : col0 + tile.cols] = np.frombuffer(data, "<i4").reshape(
                    end - start, tile.cols
                )
        return out

    def _head(self, task: TaskView) -> int:
        return 4 * (task.tile.rows + task.tile.cols) if self._scaled else 0

    def _column(self, col0: int) -> list[TaskView]:
        return self._bands[col0]

    def _read(self, task: TaskView, at: int, length: int) -> Iterator[bytes]:
        for offset in range(0, length, BLOCK_BYTES):
            yield self._blobs.read(task.digest, at + offset, min(BLOCK_BYTES, length - offset))


def _row_blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_BYTES // (4 * shape[1]))
    for row0 in range(0, shape[0], step):
        yield row0, min(step, shape[0] - row0)
