"""The WebAssembly engine as a worker's device: one instance a thread, operands prepared once and kept."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import asdict

import numpy as np
from blake3 import blake3

from shardy_client.worker.backends import Float32, Int8, Int32, Interrupted, Kept
from shardy_client.worker.kinds import Operand, Pre
from shardy_common.engine import Engine, PackedB, module_bytes

PACKED_BYTES_MAX = 128 << 20
"""Most that one packed part of B takes; the engine packs to two bytes an element."""
SCRATCH_BYTES = 4 << 20
"""Rows of A and of C up to this size go through blocks that stay allocated: a call into the module costs more than
the arithmetic of a tiny product."""
SLICE_OPS = 4e9
"""Operations between two looks at whether to stop: about a tenth of a second on one core."""


class WasmBackend:
    """See Backend. keep_bytes: how much prepared B a thread may keep in its engine's memory."""

    name = "wasm"
    gpu: str | None = None
    kernels = ""

    def __init__(self, keep_bytes: int = 256 << 20) -> None:
        self.engine = blake3(module_bytes()).hexdigest()
        self._keep_bytes = keep_bytes
        self._local = threading.local()
        self._stopped = threading.Event()
        self._quantised = Kept(keep_bytes)
        self._lock = threading.Lock()

    def stop(self) -> None:
        """See Backend."""
        self._stopped.set()

    def matmul(self, a: Int8, b: Int8, key: Hashable = None, out: Int32 | None = None) -> Int32:
        """See Backend. MemoryError when the engine's memory is exhausted even with nothing kept."""
        c = np.empty((len(a), len(b)), np.int32) if out is None else out
        engine, packed = self._thread()
        try:
            self._product(engine, packed, a, b, key, c)
        except MemoryError:
            packed.clear()
            self._product(engine, packed, a, b, None, c)
        return c

    def _product(self, engine: Engine, kept: Kept, a: Int8, b: Int8, key: Hashable, c: Int32) -> None:
        k = a.shape[1]
        step = max(8, PACKED_BYTES_MAX // (2 * (k + 1)) // 8 * 8)
        for col in range(0, len(b), step):
            part = b[col : col + step]
            name = None if key is None else (key, col)
            packed: PackedB | None = None if name is None else kept.get(name)
            mine = packed is None
            if packed is None:
                packed = engine.pack_b(part)
                if name is not None and kept.put(name, packed, packed.buffer.nbytes):
                    mine = False
            try:
                rows = max(1, int(SLICE_OPS / (2 * len(part) * k)))
                for row in range(0, len(a), rows):
                    if self._stopped.is_set():
                        raise Interrupted
                    self._multiply(engine, packed, a[row : row + rows], c[row : row + rows, col : col + step])
            finally:
                if mine:
                    packed.free()

    def _multiply(self, engine: Engine, packed: PackedB, a: Int8, c: Int32) -> None:
        if max(a.nbytes, c.nbytes) > SCRATCH_BYTES:
            engine.matmul_packed(a, packed, c)
            return
        left, right = self._local.scratch
        left.view[: a.nbytes] = a.reshape(-1).view(np.uint8)
        engine.instance.checked("matmul_i8_packed", left.ptr, packed.buffer.ptr, right.ptr, len(a), packed.n, packed.k)
        c[:] = right.view[: c.nbytes].view(np.int32).reshape(c.shape)

    def preexec(self, x: Float32, operand: Operand, row0: int, pre: Pre, *, keep: bool) -> tuple[Int8, Float32]:
        """See Backend. keep: this operand is likely to come again (B of a product)."""
        name = (operand.key, row0, pre)
        if keep:
            with self._lock:
                known: tuple[Int8, Float32] | None = self._quantised.get(name)
            if known is not None:
                return known
        engine, _ = self._thread()
        q, scale = engine.preexec(x, row0=row0, rows=operand.rows, **asdict(pre))
        if keep:
            with self._lock:
                self._quantised.put(name, (q, scale), q.nbytes + scale.nbytes)
        return q, scale

    def _thread(self) -> tuple[Engine, Kept]:
        try:
            return self._local.engine, self._local.packed
        except AttributeError:
            self._local.engine = Engine()
            self._local.packed = Kept(self._keep_bytes, PackedB.free)
            self._local.scratch = self._local.engine.alloc(SCRATCH_BYTES), self._local.engine.alloc(SCRATCH_BYTES)
            return self._local.engine, self._local.packed
