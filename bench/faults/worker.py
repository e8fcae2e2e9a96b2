"""A native worker that writes down which of its results were acknowledged:
`python -m bench.faults.worker URL NAME KEY_FILE KEPT_FILE DELAY_MS [lies]`.

It announces a rate instead of measuring one, so that a mesh is up soon and the same on every machine. One line of
KEPT_FILE: lease, space, hex digest; written before the worker forgets the result, so killing it makes no false claim.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shardy_client.errors import WorkerStopped
from shardy_client.worker import kinds
from shardy_client.worker.backends import Measurement
from shardy_client.worker.compute import Computer
from shardy_client.worker.native import NativeWorker
from shardy_client.worker.prepare import Device
from shardy_client.worker.state import Work
from shardy_client.worker.wasm import WasmBackend

GOPS = 0.01  # so slow that few leases wait in it: much is open when a fault comes, little is computed in vain


class Slow(Computer):
    """delay_ms: added to each lease, so that jobs last long enough to be hurt. lies: with one bit changed."""

    def __init__(self, delay_ms: float, lies: bool) -> None:
        super().__init__(WasmBackend())
        self._delay_ms, self._lies = delay_ms, lies

    def compute(self, works: Sequence[Work]) -> list[kinds.Bytes]:
        """See Computer."""
        time.sleep(self._delay_ms * len(works) / 1000)
        results = super().compute(works)
        if self._lies:
            results = [bytearray(data) for data in results]
            for data in results:
                data[-4] ^= 1
        return results


def main() -> int:
    url, name, key, kept, delay_ms, *lies = sys.argv[1:]
    device = Device(Slow(float(delay_ms), bool(lies)), Measurement(1.0, GOPS, 64))
    worker = NativeWorker(url, Path(key), name=name, memory_mib=64, device=device)
    state, out = worker.state, open(kept, "a", buffering=1)  # noqa: SIM115 - until the process ends
    on_ack = state._on_ack

    def noting(header: dict[str, Any], segments: list[memoryview], now: float) -> Any:
        for lease, outcome in header["acks"]:
            if outcome == "accepted" and lease in state._held:
                out.write(f"{lease} {state._held[lease].header['digest'].hex()}\n")
        return on_ack(header, segments, now)

    state._on_ack = noting  # type: ignore[method-assign]
    print(worker.worker_id, flush=True)
    try:
        asyncio.run(worker.run(handle_signals=True))
    except WorkerStopped as stopped:
        print(stopped, file=sys.stderr)
        return stopped.code % 256 if stopped.code else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
