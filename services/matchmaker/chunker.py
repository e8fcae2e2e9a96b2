"""How large the next task is. Pure: the job, where it stands, and the devices that would compute it.

Tasks are carved lazily, one at a time, when somebody is free to compute them; so each fits the speed and memory of the
devices that get it, and a device that joins late gets tasks of its own size.
"""

from __future__ import annotations

from dataclasses import dataclass

from shardy_common.kinds import KINDS
from shardy_common.wire.job import JobSpec, Tile

SHORTEST_TASK_MS = 50  # below this the fixed cost of a task outweighs what sharing it out gains


@dataclass(frozen=True, slots=True)
class Device:
    """What the chunker needs to know of the slowest and smallest of the devices that will get the task."""

    gops: float
    memory_bytes: int
    task_ms: int
    result_bytes_max: int


def next_tile(spec: JobSpec, row0: int, col0: int, band_cols: int, device: Device, sharers: int) -> Tile:
    """The tile at (row0, col0).

    band_cols: width of the column band in progress, 0 at the start of one; sharers: groups of devices (one per
    replica set) that could work on the job at once. The tile takes about device.task_ms on the device, fits its
    memory, starts at the kind's row quantum, and leaves every sharer something to do.
    """
    kind = KINDS[spec.kind]
    rows_all = kind.shape(spec)[0]
    quantum = kind.row_quantum(spec)
    cols = band_cols or _band(spec, col0, device)
    if spec.task_rows is not None:
        return Tile(row0, min(spec.task_rows, rows_all - row0), col0, cols)
    per_row = max(kind.ops(spec, quantum, cols) / quantum, 1)
    by_time = int(device.gops * 1e6 * device.task_ms / per_row)
    shortest = int(device.gops * 1e6 * SHORTEST_TASK_MS / per_row)
    left = rows_all - row0
    fair = -(-left // max(sharers, 1))
    rows = min(by_time, max(fair, shortest))
    rows = max(quantum, rows // quantum * quantum)
    while rows > quantum and not _fits(spec, rows, cols, device):
        rows = max(quantum, rows // 2 // quantum * quantum)
    rows = min(rows, left)
    if 0 < left - rows < max(rows // 4, 1):  # no crumbs at the end
        rows = left if _fits(spec, left, cols, device) else rows
    return Tile(row0, rows, col0, cols)


def _band(spec: JobSpec, col0: int, device: Device) -> int:
    """Width of a new column band: all columns if one row quantum of them fits the device, else the widest that does."""
    kind = KINDS[spec.kind]
    left = kind.shape(spec)[1] - col0
    quantum = kind.col_quantum(spec)
    if quantum == 0:
        return left
    cols = left
    rows = kind.row_quantum(spec)
    per_ms = device.gops * 1e6
    while cols > quantum and not (
        _fits(spec, rows, cols, device) and kind.ops(spec, rows, cols) <= 2 * per_ms * device.task_ms
    ):
        cols = max(quantum, -(-cols // 2) // quantum * quantum)
    return min(cols, left)


def _fits(spec: JobSpec, rows: int, cols: int, device: Device) -> bool:
    kind = KINDS[spec.kind]
    result = kind.result_bytes(spec, rows, cols)
    return result <= device.result_bytes_max and result + kind.input_bytes(spec, rows, cols) <= device.memory_bytes
