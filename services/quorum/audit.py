"""Looking at the bytes: Freivalds' audit in the engine, and recomputation where no audit exists.

R. Freivalds, "Probabilistic machines can use less running time" (1977): C = A·Bᵀ is checked by C·r = A·(Bᵀ·r) with a
secret random r. Here r is drawn after the results' digests stand in the log, fresh for every call. Results of one job
and one column band are checked together, rows stacked: each wrong row is found by itself, so one call tells who lied
in all of them. The bytes checked are read by the digest that was voted for.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np

from shardy_common import kinds
from shardy_common.blobs import DirectoryStore, MissingBlob
from shardy_common.engine import Engine
from shardy_common.wire.job import Operand, Tile
from shardy_quorum.state import Examination, Findings

log = logging.getLogger("shardy.quorum")
_STACK_BYTES_MAX = 64 * 1024 * 1024
_PREPARED_BYTES_MAX = 256 * 1024 * 1024


class Auditor:
    """Not thread-safe: one thread, one engine. entropy gives the secret seeds (32 bytes each)."""

    def __init__(
        self, blobs: DirectoryStore, entropy: Callable[[int], bytes] = os.urandom, engine: Engine | None = None
    ) -> None:
        self._blobs = blobs
        self._engine = engine or Engine()
        self._entropy = entropy
        self._prepared: OrderedDict[tuple[str, int, int], tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def examine(self, requests: list[Examination]) -> list[Findings]:
        """Findings in the order of requests. Bytes that are not in the store make a digest `missing`, never wrong."""
        findings = [Findings(request.task) for request in requests]
        stacks: dict[tuple[str, int, int], list[tuple[int, str]]] = {}
        for i, request in enumerate(requests):
            if request.purpose != "audit":
                recompute = self._compare if request.purpose == "compare" else self._recompute
                with self._guarded([(i, digest) for digest in request.digests], findings):
                    recompute(request, findings[i])
            else:
                for digest in request.digests:
                    stacks.setdefault((request.job, request.tile.col0, request.tile.cols), []).append((i, digest))
        for members in stacks.values():
            for group in _groups(requests, members):
                with self._guarded(group, findings):
                    self._audit(requests, group, findings)
        return findings

    @contextlib.contextmanager
    def _guarded(self, group: list[tuple[int, str]], findings: list[Findings]) -> Iterator[None]:
        """What cannot be examined is `missing`: nobody is blamed, others are asked, and after a bounded number of
        replicas the task is a dead letter. One odd task must not stop the audits of all others."""
        try:
            yield
        except Exception:
            log.exception("results of %d tasks could not be examined", len(group))
            for i, digest in group:
                found = findings[i]
                if digest not in found.right and digest not in found.wrong and digest not in found.missing:
                    found.missing.append(digest)

    # -- Freivalds ------------------------------------------------------------------------------------------------

    def _audit(self, requests: list[Examination], group: list[tuple[int, str]], findings: list[Findings]) -> None:
        """One Freivalds call over the stacked rows of all results of the group."""
        lefts, products, owners = [], [], []
        spec = requests[group[0][0]].spec
        first = requests[group[0][0]].tile
        try:
            b, b_scale = self._operand(spec.pre is not None, requests[group[0][0]], "b", first.col0, first.cols)
        except MissingBlob:
            for i, digest in group:
                findings[i].missing.append(digest)
            return
        for i, digest in group:
            tile = requests[i].tile
            try:
                a, a_scale = self._operand(spec.pre is not None, requests[i], "a", tile.row0, tile.rows)
                product, wrong_row = self._product(digest, tile, spec.pre is not None, a_scale, b_scale)
            except MissingBlob:
                findings[i].missing.append(digest)
                continue
            if product is None:
                findings[i].wrong[digest] = wrong_row
                continue
            lefts.append(a)
            products.append(product)
            owners.append((i, digest, tile.rows))
        if not lefts:
            return
        left = lefts[0] if len(lefts) == 1 else np.concatenate(lefts)
        product = products[0] if len(products) == 1 else np.concatenate(products)
        bad = self._engine.freivalds(left, b, product, self._entropy(32), spec.audit_rounds)
        at = 0
        for i, digest, rows in owners:
            row = next((r for r in bad if at <= r < at + rows), None)
            if row is None:
                findings[i].right.append(digest)
            else:
                findings[i].wrong[digest] = row - at
            at += rows

    def _product(
        self, digest: str, tile: Tile, scaled: bool, a_scale: np.ndarray, b_scale: np.ndarray
    ) -> tuple[np.ndarray | None, int]:
        """The int32 product in a result's bytes; None and a row when its scales or its length are already wrong."""
        size = self._blobs.size(digest)
        if size is None:
            raise MissingBlob(digest)
        head = 4 * (tile.rows + tile.cols) if scaled else 0
        if size != head + 4 * tile.cells:
            return None, 0
        if scaled:
            scales = self._blobs.array(digest, "<u4", (tile.rows + tile.cols,))
            wrong = np.flatnonzero(scales[: tile.rows] != a_scale.view("<u4"))
            if wrong.size:
                return None, int(wrong[0])
            if not np.array_equal(scales[tile.rows :], b_scale.view("<u4")):
                return None, 0
        return self._blobs.array(digest, "<i4", (tile.rows, tile.cols), head), -1

    def _operand(
        self, scaled: bool, request: Examination, name: str, row0: int, rows: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """int8 rows of an operand and their scales (empty for int8 jobs), quantised here for float32 jobs."""
        operand = request.spec.operands[name]
        if not scaled:
            return self._slice(operand, row0, rows, 0), np.empty(0, np.float32)
        key = (operand.digest + repr(request.spec.pre), row0, rows)
        cached = self._prepared.get(key)
        if cached is None:
            cached = self._quantised(request, operand, row0, rows)
            self._prepared[key] = cached
            while len(self._prepared) > 1 and sum(q.nbytes for q, _ in self._prepared.values()) > _PREPARED_BYTES_MAX:
                self._prepared.popitem(last=False)
        else:
            self._prepared.move_to_end(key)
        return cached

    def _quantised(self, request: Examination, operand: Operand, row0: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        pre = request.spec.pre
        assert pre is not None
        x = self._slice(operand, row0, rows, pre.warm_rows)
        return self._engine.preexec(
            np.ascontiguousarray(x),
            row0=row0,
            rows=rows,
            warm_rows=pre.warm_rows,
            segment_rows=pre.segment_rows,
            lo=pre.lo,
            hi=pre.hi,
            ema_axis=pre.ema_axis,
            alpha=pre.alpha,
            scale=pre.scale,
        )

    def _slice(self, operand: Operand, row0: int, rows: int, warm_rows: int) -> np.ndarray:
        warm = min(warm_rows, row0)
        dtype = "<f4" if operand.dtype == "float32" else "i1"
        offset = (row0 - warm) * operand.cols * kinds.ITEM_BYTES[operand.dtype]
        return self._blobs.array(operand.digest, dtype, (rows + warm, operand.cols), offset)

    # -- recomputation --------------------------------------------------------------------------------------------

    def _compare(self, request: Examination, findings: Findings) -> None:
        """Recompute one segment: the first in which two results differ. What differs from it there is proven wrong."""
        results = self._stream_results(request, findings)
        standing = list(results)
        for digest in standing[1:]:
            if digest in findings.wrong or standing[0] in findings.wrong:
                continue
            (scale0, q0), (scale1, q1) = results[standing[0]], results[digest]
            differ = np.flatnonzero((scale0 != scale1) | (q0 != q1).any(axis=1))
            if not differ.size:
                continue
            row = int(differ[0])
            right_scale, right_q, start = self._segment(request, row)
            at = row - start
            for candidate in (standing[0], digest):
                scale, q = results[candidate]
                if scale[row] != right_scale.view("<u4")[at] or not np.array_equal(q[row], right_q[at]):
                    findings.wrong[candidate] = row
        left = [digest for digest in standing if digest not in findings.wrong]
        if len(left) == 1:
            findings.right.append(left[0])

    def _recompute(self, request: Examination, findings: Findings) -> None:
        """Recompute the whole tile: for canaries, which are small."""
        tile, spec = request.tile, request.spec
        results = self._stream_results(request, findings)
        if not results:
            return
        right_q, right_scale = self._quantised(request, spec.operands["x"], tile.row0, tile.rows)
        for digest, (scale, q) in results.items():
            differ = np.flatnonzero((scale != right_scale.view("<u4")) | (q != right_q).any(axis=1))
            if differ.size:
                findings.wrong[digest] = int(differ[0])
            else:
                findings.right.append(digest)

    def _stream_results(self, request: Examination, findings: Findings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """(scale bits, q) by digest, of those that can be read and have the right length."""
        tile, spec = request.tile, request.spec
        results: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for digest in request.digests:
            try:
                size = self._blobs.size(digest)
                if size is None:
                    raise MissingBlob(digest)
                if size != kinds.KINDS[spec.kind].result_bytes(spec, tile.rows, tile.cols):
                    findings.wrong[digest] = 0
                    continue
                scale = self._blobs.array(digest, "<u4", (tile.rows,))
                results[digest] = scale, self._blobs.array(digest, "i1", (tile.rows, tile.cols), 4 * tile.rows)
            except MissingBlob:
                findings.missing.append(digest)
        return results

    def _segment(self, request: Examination, row: int) -> tuple[np.ndarray, np.ndarray, int]:
        """(scales, q, first row within the tile) of the segment that holds a row of the tile."""
        spec, tile = request.spec, request.tile
        pre = spec.pre
        assert pre is not None
        segment = pre.segment_rows if pre.ema_axis == 0 else 1
        start = row // segment * segment
        rows = min(segment, tile.rows - start)
        q, scale = self._quantised(request, spec.operands["x"], tile.row0 + start, rows)
        return scale, q, start


def _groups(requests: list[Examination], members: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Split a stack so that no call holds more than _STACK_BYTES_MAX of products."""
    group: list[tuple[int, str]] = []
    held = 0
    for i, digest in members:
        size = 4 * requests[i].tile.cells
        if group and held + size > _STACK_BYTES_MAX:
            yield group
            group, held = [], 0
        group.append((i, digest))
        held += size
    if group:
        yield group
