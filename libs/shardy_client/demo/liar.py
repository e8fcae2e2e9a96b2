"""A worker that cheats, to be caught: it changes one element in one row of every result it hands in.

The digest it sends fits the bytes it sends, so nothing but a check of the arithmetic can tell.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from shardy_client.errors import WorkerStopped
from shardy_client.worker import kinds
from shardy_client.worker.compute import Computer
from shardy_client.worker.kinds import MatmulPlan
from shardy_client.worker.messages import Work
from shardy_client.worker.native import NativeWorker, run_worker

BANNED = 4403


class LyingComputer(Computer):
    """Computes rightly, then adds 1 to an element in the middle of each product."""

    def compute(self, works: Sequence[Work]) -> list[kinds.Bytes]:
        """See Computer."""
        return [falsified(work, data) for work, data in zip(works, super().compute(works), strict=True)]


def falsified(work: Work, data: kinds.Bytes) -> bytearray:
    """The same result with one element of the middle row changed."""
    changed = bytearray(data)
    at = len(changed) - 1
    if isinstance(work.plan, MatmulPlan):
        rows, cols = work.plan.a.rows, work.plan.b.rows
        at = len(changed) - 4 * rows * cols + 4 * (rows // 2 * cols + cols // 3)
    changed[at] ^= 1
    return changed


def main(
    url: Annotated[str, typer.Option(help="Where the mesh is.")],
    name: Annotated[str, typer.Option(help="Name shown in lists.")] = "liar",
) -> None:
    """Join a mesh and hand in wrong results until banned, or until Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        run_worker(
            lambda: NativeWorker(url, ephemeral=True, backend="wasm", name=name, memory_mib=512, computer=LyingComputer)
        )
    except WorkerStopped as stopped:
        print(stopped, file=sys.stderr)
        raise typer.Exit(0 if stopped.code == BANNED else 1) from None


if __name__ == "__main__":
    typer.run(main)
