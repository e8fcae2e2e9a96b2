"""A native worker as a process of its own, honest or not: `python workerproc.py URL NAME [options]`.

It announces a rate instead of measuring one: a test starts many workers, and what tier each gets must not depend on
how busy the machine is.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from shardy_client.errors import WorkerStopped
from shardy_client.worker import kinds
from shardy_client.worker.backends import Measurement
from shardy_client.worker.compute import Computer
from shardy_client.worker.native import NativeWorker
from shardy_client.worker.prepare import Device
from shardy_client.worker.state import Work
from shardy_client.worker.wasm import WasmBackend


class Odd(Computer):
    """Honest, or with one fault. delay_ms: time added to each lease, so that a small job lasts."""

    def __init__(self, mode: str, delay_ms: float, row: int) -> None:
        super().__init__(WasmBackend())
        self.mode, self.delay_ms, self.row = mode, delay_ms, row

    def compute(self, works: Sequence[Work]) -> list[kinds.Bytes]:
        """See Computer."""
        if self.delay_ms:
            time.sleep(self.delay_ms * len(works) / 1000)
        while self.mode == "lazy":
            time.sleep(0.1)
        results = super().compute(works)
        if self.mode == "liar":
            return [falsified(work, data, self.row) for work, data in zip(works, results, strict=True)]
        return results


def falsified(work: Work, data: kinds.Bytes, row: int) -> bytearray:
    """One bit changed in the named row (the last, if the tile has fewer): a lie that all liars tell alike."""
    changed = bytearray(data)
    if work.kind == "stream":
        rows, cols = work.plan.x.rows, work.plan.x.cols  # type: ignore[attr-defined]
        changed[4 * rows + min(row, rows - 1) * cols] ^= 1
        return changed
    rows, cols = work.plan.a.rows, work.plan.b.rows  # type: ignore[attr-defined]
    changed[len(changed) - 4 * rows * cols + 4 * min(row, rows - 1) * cols] ^= 1
    return changed


def main() -> int:
    parse = argparse.ArgumentParser()
    parse.add_argument("url")
    parse.add_argument("name")
    parse.add_argument("--mode", default="honest", choices=["honest", "liar", "lazy"])
    parse.add_argument("--memory-mib", type=int, default=512)
    parse.add_argument("--gops", type=float, default=10.0)
    parse.add_argument("--delay-ms", type=float, default=0.0)
    parse.add_argument("--row", type=int, default=0)
    parse.add_argument("--key", type=Path)
    args = parse.parse_args()
    device = Device(Odd(args.mode, args.delay_ms, args.row), Measurement(1.0, args.gops, 64))
    worker = NativeWorker(
        args.url,
        args.key,
        ephemeral=args.key is None,
        name=args.name,
        memory_mib=max(args.memory_mib, 64),
        device=device,
    )
    worker._memory_mib = args.memory_mib  # phones announce less than the native worker allows itself
    try:
        asyncio.run(worker.run(handle_signals=True))
    except WorkerStopped as stopped:
        print(stopped, file=sys.stderr)
        return stopped.code % 256 if stopped.code else 1  # 4403 % 256 = 51, 4409 % 256 = 57
    return 0


if __name__ == "__main__":
    sys.exit(main())
