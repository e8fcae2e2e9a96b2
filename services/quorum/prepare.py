"""Making a canary: rows of a real job picked afresh, stored as new blobs, and the right result computed here.

The copies are ordinary operands under digests that nobody has seen; of the result nothing is stored but its digest,
which goes into the log, and workers do not read that.
"""

from __future__ import annotations

import logging
import random

import blake3
import numpy as np

from shardy_common import ids, kinds
from shardy_common.blobs import DirectoryStore, MissingBlob
from shardy_common.engine import Engine
from shardy_common.tracing import new_traceparent
from shardy_common.wire.job import JobSpec, Operand
from shardy_quorum.canary import BYTES_MAX, OPS_MAX, Draft

log = logging.getLogger("shardy.quorum")
ROWS_MAX = 512


def sizes(spec: JobSpec, shape: tuple[int, int], rng: random.Random) -> tuple[int, int] | None:
    """Rows and columns of a canary's result: as large as the job, OPS_MAX and BYTES_MAX allow, and then anything down
    to a quarter of that, so that no size gives it away. None where even one cell costs too much."""
    kind = kinds.KINDS[spec.kind]
    splits_columns = kind.col_quantum(spec) > 0
    rows, cols = min(shape[0], ROWS_MAX), min(shape[1], ROWS_MAX) if splits_columns else shape[1]
    while kind.ops(spec, rows, cols) > OPS_MAX or (
        kind.input_bytes(spec, rows, cols) + kind.result_bytes(spec, rows, cols) > BYTES_MAX
    ):
        if max(rows, cols if splits_columns else 1) == 1:
            return None
        if splits_columns and cols > rows:
            cols = -(-cols // 2)
        else:
            rows = -(-rows // 2)
    return rng.randint(-(-rows // 4), rows), rng.randint(-(-cols // 4), cols) if splits_columns else cols


class Preparer:
    """Not thread-safe: it lives in the auditor's thread. rng picks rows; it is no secret once the job is lent."""

    def __init__(self, blobs: DirectoryStore, engine: Engine, rng: random.Random | None = None) -> None:
        self._blobs, self._engine = blobs, engine
        self._rng = rng or random.SystemRandom()

    def prepare(self, source: JobSpec) -> Draft | None:
        """A canary after a completed job; None when its operands are gone or its rows are too long."""
        found = sizes(source, kinds.KINDS[source.kind].shape(source), self._rng)
        if found is None:
            return None
        try:
            arrays = {
                name: self._rows(operand, count)
                for (name, operand), count in zip(sorted(source.operands.items()), found, strict=False)
            }
        except MissingBlob:
            return None
        operands = {name: self._store(array, source.operands[name].dtype) for name, array in arrays.items()}
        spec = JobSpec(source.kind, operands, kinds.CANARY, audit_rounds=source.audit_rounds, pre=source.pre)
        digest = blake3.blake3(self._result(spec, arrays)).hexdigest()
        return Draft(ids.new_job_id(), spec, digest, new_traceparent())

    def _rows(self, operand: Operand, count: int) -> np.ndarray:
        """Some rows, in order: a run of them or single ones, by chance."""
        dtype = "<f4" if operand.dtype == "float32" else "i1"
        if self._rng.random() < 0.5:
            first = self._rng.randint(0, operand.rows - count)
            offset = first * operand.cols * kinds.ITEM_BYTES[operand.dtype]
            return np.array(self._blobs.array(operand.digest, dtype, (count, operand.cols), offset))
        whole = self._blobs.array(operand.digest, dtype, (operand.rows, operand.cols))
        return np.ascontiguousarray(whole[sorted(self._rng.sample(range(operand.rows), count))])

    def _store(self, array: np.ndarray, dtype: str) -> Operand:
        data = array.tobytes()
        digest = blake3.blake3(data).hexdigest()
        self._blobs.put([(digest, data)])
        return Operand(digest, dtype, *array.shape)

    def _result(self, spec: JobSpec, arrays: dict[str, np.ndarray]) -> bytes:
        """The bytes of the one tile that is the whole job, as docs/protocol.md §4 has them."""
        if spec.pre is None:
            return self._engine.matmul_i8(arrays["a"], arrays["b"]).tobytes()
        prepared = {
            name: self._engine.preexec(array, row0=0, rows=len(array), **kinds.pre_params(spec.pre))
            for name, array in arrays.items()
        }
        if spec.kind == "stream":
            q, scale = prepared["x"]
            return scale.tobytes() + q.tobytes()
        (a, a_scale), (b, b_scale) = prepared["a"], prepared["b"]
        return a_scale.tobytes() + b_scale.tobytes() + self._engine.matmul_i8(a, b).tobytes()
