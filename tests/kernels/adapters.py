"""Runs the committed kernels through wgpu-py on one Vulkan driver; executed in a process of its own.

    python adapters.py manifest.json-folder cases.npz out.npz

A Vulkan loader reads its driver list once, so each driver (chosen by VK_ICD_FILENAMES) needs its own process.
Prints one JSON line: adapter name and features. Exit status 3: no adapter.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import wgpu

NO_ADAPTER = 3


class Kernels:
    """Pipelines of every variant on one device; operands go in as NumPy arrays, results come out so."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text())
        adapter = wgpu.gpu.request_adapter_sync(power_preference="high-performance")
        self.info = adapter.info
        self.device = adapter.request_device_sync()
        self.pipelines = {}
        for entry in [*self.manifest["variants"], self.manifest["pack"]]:
            module = self.device.create_shader_module(code=(folder / entry["file"]).read_text())
            self.pipelines[entry["name"]] = self.device.create_compute_pipeline(
                layout="auto", compute={"module": module, "entry_point": entry["entry_point"]}
            )

    def buffer(self, data: np.ndarray | None, size: int = 0, uniform: bool = False) -> Any:
        usage = wgpu.BufferUsage.UNIFORM if uniform else wgpu.BufferUsage.STORAGE
        usage |= wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
        if data is None:
            return self.device.create_buffer(size=size, usage=usage)
        raw = data.tobytes()
        return self.device.create_buffer_with_data(data=raw + bytes(-len(raw) % 4), usage=usage)

    def dispatch(self, name: str, buffers: list[Any], x: int, y: int) -> None:
        pipeline = self.pipelines[name]
        entries = [
            {"binding": i, "resource": {"buffer": b, "offset": 0, "size": b.size}} for i, b in enumerate(buffers)
        ]
        group = self.device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=entries)
        encoder = self.device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(pipeline)
        compute.set_bind_group(0, group)
        compute.dispatch_workgroups(x, y, 1)
        compute.end()
        self.device.queue.submit([encoder.finish()])

    def pack(self, rows: np.ndarray) -> Any:
        """The packing kernel: int8[rows, k] to vec4<u32>[rows * kv]."""
        n, k = rows.shape
        kv = -(-k // 16)
        out = self.buffer(None, n * kv * 16)
        threads = self.manifest["pack"]["workgroup_size"][0]
        width = threads * max(1, math.isqrt(n * kv) // threads)
        params = self.buffer(np.array([n, k, kv, width], np.uint32), uniform=True)
        raw = self.buffer(np.frombuffer(rows.tobytes() + b"\xff" * (-rows.size % 4), np.uint8))
        self.dispatch("pack_rows", [params, raw, out], width // threads, -(-n * kv // width))
        return out

    def matmul(self, variant: dict[str, Any], a: Any, b: Any, m: int, n: int, k: int) -> np.ndarray:
        """One product in two column slices, so that the tile offsets are exercised."""
        c = self.buffer(np.full(m * n, -559038737, np.int32))
        tiles_m, tiles_n = -(-m // variant["tile_m"]), -(-n // variant["tile_n"])
        half = tiles_n // 2
        for row in range(tiles_m):
            for col, width in ((0, half), (half, tiles_n - half)):
                if width:
                    fields = [m, n, -(-k // 16), row, col]
                    params = self.buffer(np.array(fields, np.uint32), uniform=True)
                    self.dispatch(variant["name"], [params, a, b, c], width, 1)
        return np.frombuffer(self.device.queue.read_buffer(c), np.int32).reshape(m, n)

    def read(self, buffer: Any) -> np.ndarray:
        return np.frombuffer(self.device.queue.read_buffer(buffer), np.int8)


def main(folder: Path, cases: Path, out: Path) -> int:
    try:
        kernels = Kernels(folder)
    except RuntimeError as error:
        print(f"no adapter: {error}", file=sys.stderr)
        return NO_ADAPTER
    results: dict[str, np.ndarray] = {}
    with np.load(cases) as data:
        names = sorted({key.rsplit("/", 1)[0] for key in data.files})
        for case in names:
            a, b = data[f"{case}/a"], data[f"{case}/b"]
            packed = kernels.pack(a), kernels.pack(b)
            results[f"{case}/packed"] = kernels.read(packed[0]).reshape(len(a), -1)
            for variant in kernels.manifest["variants"]:
                c = kernels.matmul(variant, *packed, len(a), len(b), a.shape[1])
                results[f"{case}/{variant['name']}"] = c
    np.savez(out, **results)  # type: ignore[arg-type]
    print(json.dumps({"adapter": kernels.info["device"], "backend": kernels.info["backend_type"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:4])))
