"""Products on an adapter through wgpu: the same WGSL text as the browser page runs (libs/shardy_common/kernels).

C[m,n] = A[m,k]·B[n,k]ᵀ, int8 to int32, exact. Rows are packed K-major, padded with zeros to 16 bytes. One submission
covers as much of the tile grid as takes about 100 ms, so that no driver's watchdog fires and others may draw.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Hashable
from importlib import resources
from typing import Any

import numpy as np
from blake3 import blake3

from shardy_client.worker.backends import Backend, DeviceLost, Float32, Int8, Int32, Interrupted, Kept
from shardy_client.worker.kinds import Operand, Pre
from shardy_common.engine import Engine

SLICE_S = 0.1
GRID_MAX = 65_535
B_BYTES_KEPT = 512 << 20
FIRST_SLICE_OPS = 2e9


class NoAdapter(RuntimeError):
    """There is no adapter, or none that can run the kernels; the message says why."""


class _Kernel:
    """One variant, compiled. seconds_per_tile: running estimate by inner length, to size submissions."""

    def __init__(self, device: Any, entry: dict[str, Any], code: str) -> None:
        module = device.create_shader_module(code=code)
        self.pipeline = device.create_compute_pipeline(
            layout="auto", compute={"module": module, "entry_point": entry["entry_point"]}
        )
        self.layout = self.pipeline.get_bind_group_layout(0)
        self.tile_m: int = entry["tile_m"]
        self.tile_n: int = entry["tile_n"]
        self.ops_per_slice = FIRST_SLICE_OPS


class GpuBackend:
    """An adapter. engine: does pre-execution, which is bound by memory and not worth the way to the adapter."""

    name = "wgpu"

    def __init__(self, engine: Backend) -> None:
        self.engine = engine.engine
        self._cpu = engine
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._lost: str | None = None
        self._kept = Kept(B_BYTES_KEPT)
        self._checker = Engine()
        try:
            import wgpu
        except Exception as error:
            raise NoAdapter(f"wgpu cannot be loaded: {error}") from None
        self._wgpu = wgpu
        try:
            self._open()
        except NoAdapter:
            raise
        except Exception as error:
            raise NoAdapter(f"{type(error).__name__}: {error}") from None

    def _open(self) -> None:
        adapter = self._wgpu.gpu.request_adapter_sync(power_preference="high-performance")
        if adapter is None:
            raise NoAdapter("no Vulkan, Metal or DirectX 12 adapter was found")
        limits = {
            name: adapter.limits[name]
            for name in ("max-buffer-size", "max-storage-buffer-binding-size")
            if name in adapter.limits
        }
        self._device = adapter.request_device_sync(required_limits=limits)
        self._binding_max = int(self._device.limits["max-storage-buffer-binding-size"])
        self.gpu: str | None = str(adapter.info.get("device") or adapter.info.get("description") or "adapter")
        manifest = json.loads(_kernel_text("manifest.json"))
        self._kernels: list[_Kernel] = []
        digests = blake3()
        for size in ("large", "medium", "small"):
            self._kernels.append(self._compile(manifest, size, digests))
        self.kernels = digests.hexdigest()

    def _compile(self, manifest: dict[str, Any], size: str, digests: Any) -> _Kernel:
        """The dp4a variant, or the one with shifts where the adapter's compiler does not know dot4I8Packed."""
        problem: Exception | None = None
        for style in ("dp4a", "shift"):
            entry = next(v for v in manifest["variants"] if v["name"] == f"matmul_i8_{size}_{style}")
            code = _kernel_text(entry["file"])
            if blake3(code.encode()).hexdigest() != entry["blake3"]:
                raise NoAdapter(f"kernel {entry['file']} is not the one its manifest names")
            try:
                kernel = _Kernel(self._device, entry, code)
            except Exception as error:
                problem = error
                continue
            digests.update(code.encode())
            return kernel
        raise NoAdapter(f"kernel {size} does not compile: {problem}")

    # --- Backend --------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """See Backend."""
        self._stopped.set()

    def preexec(self, x: Float32, operand: Operand, row0: int, pre: Pre, *, keep: bool) -> tuple[Int8, Float32]:
        """See Backend; computed by the engine."""
        return self._cpu.preexec(x, operand, row0, pre, keep=keep)

    def matmul(self, a: Int8, b: Int8, key: Hashable = None, out: Int32 | None = None) -> Int32:
        """See Backend. DeviceLost when the adapter fails, or a Freivalds round shows that it computed wrongly."""
        c = np.empty((len(a), len(b)), np.int32) if out is None else out
        with self._lock:
            if self._lost is not None:
                raise DeviceLost(self._lost)
            try:
                self._product(a, b, key, c)
            except Interrupted:
                raise
            except Exception as error:
                # wgpu reports a lost device, exhausted memory and validation alike; none is safe to go on after.
                self._lost = f"{type(error).__name__}: {error}"[:200]
                raise DeviceLost(self._lost) from None
            if self._checker.freivalds(np.ascontiguousarray(a), np.ascontiguousarray(b), c, os.urandom(32), 1):
                # A driver can go wrong after the self-test. Handing that in would be fraud; giving it back is not.
                self._lost = f"{self.gpu} computed a wrong product"
                raise DeviceLost(self._lost)
        return c

    def _product(self, a: Int8, b: Int8, key: Hashable, c: Int32) -> None:
        kv = -(-a.shape[1] // 16)
        if not len(a) or not len(b):
            return
        # Blocks keep each binding inside the adapter's limit.
        cols = max(64, min(len(b), self._binding_max // (kv * 16)) // 64 * 64) if len(b) > 64 else len(b)
        rows = max(1, min(len(a), self._binding_max // (kv * 16), self._binding_max // (4 * cols)))
        for col in range(0, len(b), cols):
            part_b = b[col : col + cols]
            buffer_b = self._resident(part_b, kv, None if key is None else (key, col, cols))
            for row in range(0, len(a), rows):
                part_a = a[row : row + rows]
                buffer_a = self._upload(_packed(part_a, kv))
                c[row : row + rows, col : col + cols] = self._block(buffer_a, buffer_b, len(part_a), len(part_b), kv)
                buffer_a.destroy()
            if key is None:
                buffer_b.destroy()

    def _resident(self, b: Int8, kv: int, key: Hashable) -> Any:
        buffer = None if key is None else self._kept.get(key)
        if buffer is None:
            buffer = self._upload(_packed(b, kv))
            if key is not None:
                self._kept.put(key, buffer, buffer.size)
        return buffer

    def _upload(self, data: np.ndarray) -> Any:
        usage = self._wgpu.BufferUsage.STORAGE | self._wgpu.BufferUsage.COPY_DST
        buffer = self._device.create_buffer(size=data.nbytes, usage=usage)
        self._device.queue.write_buffer(buffer, 0, data)
        return buffer

    def _block(self, a: Any, b: Any, m: int, n: int, kv: int) -> np.ndarray:
        usage = self._wgpu.BufferUsage
        kernel = self._choose(m, n)
        c = self._device.create_buffer(size=4 * m * n, usage=usage.STORAGE | usage.COPY_SRC)
        params = self._device.create_buffer(size=32, usage=usage.UNIFORM | usage.COPY_DST)
        entries = [
            {"binding": 0, "resource": {"buffer": params, "offset": 0, "size": 20}},
            *(
                {"binding": i, "resource": {"buffer": x, "offset": 0, "size": x.size}}
                for i, x in enumerate((a, b, c), 1)
            ),
        ]
        group = self._device.create_bind_group(layout=kernel.layout, entries=entries)
        tiles_m, tiles_n = -(-m // kernel.tile_m), -(-n // kernel.tile_n)
        tile_ops = 2 * kernel.tile_m * kernel.tile_n * kv * 16
        try:
            row = 0
            while row < tiles_m:
                col = 0
                height = 1
                while col < tiles_n:
                    if self._stopped.is_set():
                        raise Interrupted
                    budget = max(1, int(kernel.ops_per_slice / tile_ops))
                    width = min(tiles_n - col, budget, GRID_MAX)
                    if col == 0 and width == tiles_n:
                        height = min(tiles_m - row, max(1, budget // tiles_n), GRID_MAX)
                    started = time.perf_counter()
                    head = np.array([m, n, kv, row, col, 0, 0, 0], np.uint32)
                    self._device.queue.write_buffer(params, 0, head)
                    encoder = self._device.create_command_encoder()
                    compute = encoder.begin_compute_pass()
                    compute.set_pipeline(kernel.pipeline)
                    compute.set_bind_group(0, group)
                    compute.dispatch_workgroups(width, height, 1)
                    compute.end()
                    self._device.queue.submit([encoder.finish()])
                    whole = row == 0 and height == tiles_m and width == tiles_n
                    if not whole:
                        # Reading four bytes waits for the slice: its time sizes the next one.
                        self._device.queue.read_buffer(c, 0, 4)
                        took = max(1e-4, time.perf_counter() - started)
                        ratio = min(2.0, max(0.25, SLICE_S / took))
                        kernel.ops_per_slice = max(tile_ops, width * height * tile_ops * ratio)
                    col += width
                row += height
            data = self._device.queue.read_buffer(c)
            return np.frombuffer(data, np.int32).reshape(m, n)
        finally:
            c.destroy()
            params.destroy()

    def _choose(self, m: int, n: int) -> _Kernel:
        """The largest tile that the product fills at least half, so that few threads idle."""
        large, medium, small = self._kernels
        if m > large.tile_m // 2 and n > large.tile_n // 2:
            return large
        return medium if min(m, n) > 8 else small


def _packed(x: Int8, kv: int) -> np.ndarray:
    rows, k = x.shape
    if k == kv * 16:
        return np.ascontiguousarray(x)
    padded = np.zeros((rows, kv * 16), np.int8)
    padded[:, :k] = x
    return padded


def _kernel_text(name: str) -> str:
    return (resources.files("shardy_common.kernels") / name).read_text(encoding="utf-8")
