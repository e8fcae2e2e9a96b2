"""Choosing the device: engine and adapter, both checked, the faster by measurement (protocol §2.1)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from shardy_client.errors import InvalidInput, ShardyError
from shardy_client.worker import measure
from shardy_client.worker.backends import Backend, DeviceLost, Interrupted, Measurement
from shardy_client.worker.compute import Computer
from shardy_client.worker.messages import RunProbe

log = logging.getLogger("shardy.worker")

BACKENDS = ("auto", "wasm", "gpu")
MakeComputer = Callable[[Backend, Callable[[], Backend] | None], Computer]


@dataclass(slots=True)
class Device:
    """What a worker computes with, and how fast it was."""

    computer: Computer
    measurement: Measurement

    def probe(self, probe: RunProbe) -> bytes:
        """32 bytes: the end of the chain of products that protocol §2.1 defines."""
        return chain(self.computer.backend, probe)

    def stop(self) -> None:
        """End running products at their next slice."""
        self.computer.backend.stop()


def chain(backend: Backend, probe: RunProbe) -> bytes:
    """Run the probe on `backend`."""
    state = probe.seed
    for _ in range(probe.rounds):
        a = np.frombuffer(blake3(state + b"A").digest(length=probe.m * probe.k), np.int8).reshape(probe.m, probe.k)
        b = np.frombuffer(blake3(state + b"B").digest(length=probe.n * probe.k), np.int8).reshape(probe.n, probe.k)
        state = blake3(backend.matmul(a, b).data.cast("B")).digest()
    return state


def prepare(choice: str, make: MakeComputer, stopped: Callable[[], bool], keep_bytes: int = 256 << 20) -> Device:
    """Open, check and measure the devices that `choice` allows. Blocking: run it in a thread.

    keep_bytes: how much of prepared operands a device may keep.

    Interrupted when `stopped` turns true; InvalidInput for an unknown choice; ShardyError when an adapter was
    asked for and there is none, or it failed its check.
    """
    if choice not in BACKENDS:
        raise InvalidInput(f"backend {choice!r} is unknown; choose one of {', '.join(BACKENDS)}")
    from shardy_client.worker.wasm import WasmBackend

    engine = WasmBackend(keep_bytes)
    measured = measure.rate(engine) if choice != "gpu" else None
    adapter = _adapter(engine, required=choice == "gpu") if choice != "wasm" else None
    if stopped():
        raise Interrupted
    if adapter is not None:
        adapter_rate = measure.rate(adapter, measured.gops if measured else 0)
        log.info("%s: %.1f GOPS", adapter.gpu, adapter_rate.gops)
        if measured is None or adapter_rate.gops > measured.gops:
            return Device(make(adapter, lambda: WasmBackend(keep_bytes)), adapter_rate)
    assert measured is not None
    log.info("engine on the CPU: %.1f GOPS", measured.gops)
    return Device(make(engine, None), measured)


def _adapter(engine: Backend, required: bool) -> Backend | None:
    from shardy_client.worker import gpu

    try:
        adapter = gpu.GpuBackend(engine)
        self_test(adapter, engine)
    except (gpu.NoAdapter, DeviceLost) as error:
        if required:
            raise ShardyError(f"no usable adapter: {error}; use --backend wasm") from None
        log.info("no usable adapter (%s)", error)
        return None
    return adapter


def self_test(adapter: Backend, engine: Backend) -> None:
    """Compare products of random and of extreme operands; DeviceLost when a byte differs.

    The shapes lie around the tiles' edges and around multiples of the packing, where drivers go wrong first.
    """
    rng = np.random.default_rng()
    for m, n, k in ((1, 1, 1), (3, 5, 17), (64, 64, 64), (130, 67, 333), (257, 129, 1024), (16, 300, 4097)):
        for low, high in ((-128, 128), (-128, -127), (127, 128)):
            a = rng.integers(low, high, (m, k), np.int8)
            b = rng.integers(-128, 128 if high == 128 and low == -128 else -127, (n, k), np.int8)
            if not np.array_equal(adapter.matmul(a, b), engine.matmul(a, b)):
                raise DeviceLost(f"{adapter.gpu} computes {m}×{k} by {n}×{k} wrongly")
