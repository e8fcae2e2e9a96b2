"""The work of a simulated mesh: operands, jobs, canaries, what is right, and what an audit finds. NumPy, apart from
the engine."""

from __future__ import annotations

import random
from functools import lru_cache

import numpy as np
from blake3 import blake3
from msgspec.structs import replace

from shardy_common import kinds
from shardy_common.wire.job import JobSpec, Operand, Pre, ProofPlan, Tile
from shardy_quorum.canary import Draft
from shardy_quorum.state import Examination, Findings

BYTES = np.frombuffer(random.Random(7).randbytes(1 << 16), np.int8)  # operands are windows of it: nothing to make


class Work:
    """specs: of all jobs in the log, canaries too; drafts: canaries that were made; blobs: the mesh's store."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.blobs: dict[str, bytes] = {}
        self.operands: dict[str, np.ndarray] = {}
        self.specs: dict[str, JobSpec] = {}
        self.drafts: dict[str, JobSpec] = {}
        self._rights: dict[tuple[str, Tile], tuple[bytes, str]] = {}

    def job(self, rows_max: int, cols_max: int, policy: str, redundancy: int) -> JobSpec:
        rng = self.rng
        if policy not in ("audit", kinds.PROOF) and rng.random() < 0.3:
            x = self._operand(rng.randrange(1, rows_max), rng.randrange(1, 6), "float32")
            pre = Pre(-2.0, 2.0, segment_rows=1)
            spec = JobSpec("stream", {"x": x}, policy, redundancy, pre=pre, task_rows=rng.randrange(1, 6))
        else:
            k = rng.randrange(1, 5)
            a = self._operand(rng.randrange(1, rows_max), k, "int8")
            b = self._operand(rng.randrange(1, cols_max), k, "int8")
            spec = JobSpec("matmul", {"a": a, "b": b}, policy, redundancy, task_rows=rng.randrange(1, 6))
            if policy == kinds.PROOF:
                spec = replace(spec, proof=ProofPlan("", rng.choice((1, 1, 2, 4))))
        return kinds.checked(spec)

    def canary(self, source: JobSpec) -> Draft:
        """As the quorum's preparer makes it, of rows of the simulated operands."""
        job_id = f"j{len(self.drafts):08d}{self.rng.getrandbits(32):08x}"
        operands = {}
        for name, operand in source.operands.items():
            rows = self.operands[operand.digest]
            picked = rows[sorted(self.rng.sample(range(len(rows)), self.rng.randint(1, len(rows))))]
            operands[name] = self._kept(picked, operand.dtype)
        spec = self.drafts[job_id] = JobSpec(source.kind, operands, kinds.CANARY, pre=source.pre)
        return Draft(job_id, spec, self.right(job_id, whole(spec))[1])

    def _operand(self, rows: int, cols: int, dtype: str) -> Operand:
        start = self.rng.randrange(len(BYTES) - rows * cols)
        array = BYTES[start : start + rows * cols].reshape(rows, cols)
        if dtype == "float32":
            array = array.astype(dtype) / np.float32(60)
        return self._kept(array, dtype)

    def _kept(self, array: np.ndarray, dtype: str) -> Operand:
        digest = blake3(array.tobytes() + len(self.operands).to_bytes(4, "big")).hexdigest()
        self.operands[digest] = array
        return Operand(digest, dtype, *array.shape)

    # -- results --------------------------------------------------------------------------------------------------

    def right(self, job_id: str, tile: Tile) -> tuple[bytes, str]:
        """The right result bytes of a tile, and their digest."""
        known = self._rights.get((job_id, tile))
        if known is None:
            spec = self.specs.get(job_id) or self.drafts[job_id]
            rows, cols = slice(tile.row0, tile.row0 + tile.rows), slice(tile.col0, tile.col0 + tile.cols)
            if spec.kind == "matmul":
                a, b = (self.operands[spec.operands[name].digest] for name in "ab")
                data = (a[rows].astype(np.int32) @ b[cols].astype(np.int32).T).astype("<i4").tobytes()
            else:  # any fixed function of the rows will do: the simulated audit compares bytes
                x = np.clip(self.operands[spec.operands["x"].digest][rows], -2, 2)
                data = np.abs(x).max(1).astype("<f4").tobytes() + np.rint(x * 60).astype("i1").tobytes()
            known = self._rights[job_id, tile] = data, digest_of(data)
        return known

    def wrong_bytes(self, job_id: str, tile: Tile, secret: str) -> bytes:
        data = bytearray(self.right(job_id, tile)[0])
        at = random.Random(f"{secret}{job_id}{tile}").randrange(len(data))
        data[at] ^= 1 + sum(secret.encode()) % 200  # each liar its own change
        return bytes(data)

    def ops(self, spec: JobSpec, tile: Tile) -> int:
        """Integer operations of a tile, as docs/credit.md counts them."""
        if spec.kind == "matmul":
            return 2 * tile.rows * tile.cols * spec.operands["a"].cols
        return 40 * tile.rows * tile.cols

    # -- what the quorum's examiner finds -------------------------------------------------------------------------

    def examine(self, request: Examination, missing: bool) -> Findings:
        """missing: the bytes cannot be read just now."""
        found = Findings(request.task)
        if missing:
            found.missing.extend(request.digests)
            return found
        right = self.right(request.job, request.tile)[0]
        data = {digest: self.blobs[digest] for digest in request.digests}
        row = _rows_of(request.spec.kind, request.tile)
        rows = range(request.tile.rows)
        if request.purpose != "compare":
            for digest, claimed in data.items():
                if claimed == right:
                    found.right.append(digest)
                else:
                    found.wrong[digest] = next(i for i in rows if row(claimed, i) != row(right, i))
            return found
        first = request.digests[0]
        for other in request.digests[1:]:
            if first in found.wrong:
                break
            at = next(i for i in rows if row(data[first], i) != row(data[other], i))
            for digest in (first, other):
                if row(data[digest], at) != row(right, at):
                    found.wrong[digest] = at
        left = [digest for digest in request.digests if digest not in found.wrong]
        if len(left) == 1:
            found.right.append(left[0])
        return found


def _rows_of(kind: str, tile: Tile):  # type: ignore[no-untyped-def]
    def row(data: bytes, i: int) -> bytes:
        if kind == "matmul":
            return data[4 * tile.cols * i : 4 * tile.cols * (i + 1)]
        at = 4 * tile.rows + i * tile.cols
        return data[4 * i : 4 * i + 4] + data[at : at + tile.cols]

    return row


@lru_cache(4096)
def digest_of(data: bytes) -> str:
    return blake3(data).hexdigest()


def shape_of(spec: JobSpec) -> tuple[int, int]:
    return kinds.KINDS[spec.kind].shape(spec)


def whole(spec: JobSpec) -> Tile:
    rows, cols = shape_of(spec)
    return Tile(0, rows, 0, cols)


def random_tile(spec: JobSpec, row0: int, col0: int, band_cols: int, _device: object, _sharers: int) -> Tile:
    """In place of the chunker: any tile that the carving rule takes, so that there are bands of columns even here."""
    rows, cols = shape_of(spec)
    quantum = kinds.KINDS[spec.kind].col_quantum(spec)
    wide = band_cols or (cols - col0 if quantum == 0 else min(cols - col0, 1 + (7 * row0 + 5 * col0 + rows) % 4))
    return Tile(row0, min(rows - row0, 1 + (3 * row0 + col0 + rows) % 5), col0, wide)
