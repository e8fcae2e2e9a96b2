"""A receipt against the arrays themselves: operands by their digests, results tile by tile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from shardy_common.proofs.signals import Circuit, Context, public_signals
from shardy_common.proofs.statement import grid_of
from shardy_common.receipts.statements import JobStatement, TaskStatement

_DTYPES = {"int8": "i1", "float32": "<f4", "int32": "<i4"}
DIFFERING_MAX = 100


@dataclass
class ArrayReport:
    """ok: every array given is what the receipt is about. differing: tasks (id and tile) whose bytes are others, the
    first hundred; tiles: how many were compared; operands: names of those that were compared. proofs: whose public
    signals were computed again from these arrays."""

    problems: list[str] = field(default_factory=list)
    differing: list[tuple[str, list[int]]] = field(default_factory=list)
    tiles: int = 0
    operands: list[str] = field(default_factory=list)
    proofs: int = 0

    @property
    def ok(self) -> bool:
        return not self.problems


def check_arrays(receipt: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> ArrayReport:
    """Whether these arrays are those of a receipt that `check` has passed. Say nothing of who vouches for it.

    Operands under their names, as they are stored: for a matmul `a` is m×k and `b` is n×k (the transpose of a k×n
    matrix); for a stream `x`. The result's parts, whole: `c` of an int8 product; `c`, `a_scale` and `b_scale` of a
    float32 one; `q` and `scale` of a stream. Either side may be left out; parts of a result come together.
    """
    report = ArrayReport()
    statement = receipt["statement"]
    if statement["type"] == "job":
        job = msgspec.convert(statement, JobStatement)
        tasks = [msgspec.convert(task, TaskStatement) for task in receipt["tasks"]]
        operands, kind, scaled = job.operands, job.kind, job.pre is not None
    else:
        tasks = [msgspec.convert(statement, TaskStatement)]
        operands, kind, scaled = tasks[0].operands, tasks[0].kind, tasks[0].pre is not None
    wanted = {name: (o.dtype, (o.rows, o.cols)) for name, o in operands.items()}
    parts = _parts(kind, scaled, {name: (o.rows, o.cols) for name, o in operands.items()})
    if strange := sorted(set(arrays) - set(wanted) - set(parts)):
        report.problems.append(f"no such array here: {', '.join(strange)}; there are {', '.join([*wanted, *parts])}")
    given = {name: arrays[name] for name in parts if name in arrays}
    for name, array in arrays.items():
        dtype, shape = {**wanted, **parts}.get(name, ("", ()))
        if dtype and (array.dtype != np.dtype(_DTYPES[dtype]) or array.shape != shape):
            report.problems.append(f"{name} is {array.dtype} {array.shape}: the receipt is about {dtype} {shape}")
            given.pop(name, None)
        elif name in operands:
            report.operands.append(name)
            if blake3(np.ascontiguousarray(array).tobytes()).hexdigest() != operands[name].digest:
                report.problems.append(f"operand {name} is not the one that the receipt is about")
    if given and len(given) == len(parts):
        _tiles(report, tasks, given)
        if not report.problems and {"a", "b"} <= set(arrays):
            _proofs(report, tasks, arrays["a"], arrays["b"], arrays["c"])
    elif given and not report.problems:
        report.problems.append(f"the result's digests are over {', '.join(parts)} together: give all of them")
    return report


def _tiles(report: ArrayReport, tasks: list[TaskStatement], parts: dict[str, NDArray[Any]]) -> None:
    wrong = 0
    for task in tasks:
        report.tiles += 1
        if blake3(_bytes(task, parts)).hexdigest() != task.result.digest:
            wrong += 1
            if wrong <= DIFFERING_MAX:
                report.differing.append((task.task, task.tile))
    if wrong:
        first, (row0, rows, col0, cols) = report.differing[0]
        report.problems.append(
            f"{wrong} of {report.tiles} tiles differ from what was verified, the first at rows {row0} to "
            f"{row0 + rows - 1}, columns {col0} to {col0 + cols - 1} (task {first})"
        )


def _proofs(report: ArrayReport, tasks: list[TaskStatement], a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> None:
    """Whether what the proofs state is so of these bytes: then the receipt's signals are not taken from anybody."""
    for task in tasks:
        if task.proof is None:
            continue
        row0, rows, col0, cols = task.tile
        circuit = Circuit.named(task.proof.circuit)
        grid = grid_of(circuit, rows, cols)
        whole = np.ascontiguousarray(c[row0 : row0 + rows, col0 : col0 + cols]).tobytes()
        for tile in task.proof.proofs:
            place = grid.tile(tile.index)
            left = np.ascontiguousarray(a[row0 + place.row0 :][: place.rows]).tobytes()
            right = np.ascontiguousarray(b[col0 + place.col0 :][: place.cols]).tobytes()
            data = grid.tile_bytes(tile.index, whole)
            digests = tuple(blake3(x).digest() for x in (left, right, data))
            context = Context(
                "t", bytes(32), b"n", circuit.name, "v", bytes(32), tile.rows, tile.k, tile.cols, b"", *digests
            )
            try:
                found = public_signals(circuit, context, left, right, data)
            except ValueError as error:  # what no product of int8 gives, or no circuit of this shape takes
                report.problems.append(f"task {task.task}: tile {tile.index} cannot be proved: {error}")
                continue
            stated = (tile.a, tile.b, tile.c, tile.input_commit, tile.result_digest)
            if stated != (*(d.hex() for d in digests), str(found.input_commit), str(found.result_digest)):
                report.problems.append(f"task {task.task}: what is proved of tile {tile.index} is not these arrays")
            else:
                report.proofs += 1


def _parts(kind: str, scaled: bool, shapes: dict[str, tuple[int, int]]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """dtype and shape of the result's parts, in the order of their bytes (docs/protocol.md §4)."""
    if kind == "stream":
        rows, cols = shapes["x"]
        return {"scale": ("float32", (rows,)), "q": ("int8", (rows, cols))}
    m, n = shapes["a"][0], shapes["b"][0]
    scales: dict[str, tuple[str, tuple[int, ...]]] = {"a_scale": ("float32", (m,)), "b_scale": ("float32", (n,))}
    return {**(scales if scaled else {}), "c": ("int32", (m, n))}


def _bytes(task: TaskStatement, parts: dict[str, NDArray[Any]]) -> bytes:
    """The result bytes of a tile, cut out of the whole arrays."""
    row0, rows, col0, cols = task.tile
    down, across = slice(row0, row0 + rows), slice(col0, col0 + cols)
    cuts = {"scale": (down,), "a_scale": (down,), "b_scale": (across,), "q": (down, across), "c": (down, across)}
    order = [name for name in ("scale", "q", "a_scale", "b_scale", "c") if name in parts]
    return b"".join(np.ascontiguousarray(parts[name][cuts[name]]).tobytes() for name in order)
