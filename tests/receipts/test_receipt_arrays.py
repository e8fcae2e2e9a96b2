"""Arrays against a receipt: the right ones pass, and a changed number is found in its tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_receipts import Made, made

from shardy_common.receipts import check_arrays

KINDS: dict[str, dict[str, Any]] = {"int8": {}, "float32": {"floats": True}, "stream": {"kind": "stream"}}
PARTS = {"int8": ["c"], "float32": ["a_scale", "b_scale", "c"], "stream": ["q", "scale"]}


def parts_of(job: Made, kind: str) -> dict[str, np.ndarray]:
    return {name: job.arrays[name].copy() for name in PARTS[kind]}


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_arrays_pass(kind: str) -> None:
    job = made(**KINDS[kind])
    report = check_arrays(job.receipt, job.arrays)
    assert report.ok and report.tiles == len(job.tasks) and set(report.operands) == set(job.arrays) - set(PARTS[kind])
    assert check_arrays(job.receipt, parts_of(job, kind)).ok
    for task in job.tasks:
        alone = check_arrays(task, job.arrays)
        assert alone.ok and alone.tiles == 1
    turned = {name: np.asfortranarray(array) for name, array in job.arrays.items()}
    assert check_arrays(job.receipt, turned).ok, "the layout in memory does not matter"


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_number_is_found_in_its_tile(kind: str) -> None:
    job = made(**KINDS[kind])
    for name in PARTS[kind]:
        for place in np.ndindex(job.arrays[name].shape):
            arrays = parts_of(job, kind)
            arrays[name].view(f"i{arrays[name].itemsize}")[place] ^= 1
            report = check_arrays(job.receipt, arrays)
            assert not report.ok and "differ from what was verified" in report.problems[0]
            rows = {"b_scale": None}.get(name, place[0])
            column = place[-1] if name in ("c", "b_scale") else None
            found = {tuple(tile) for _task, tile in report.differing}
            tiles = [tuple(task["statement"]["tile"]) for task in job.tasks]
            assert found == {
                (row0, n, col0, m)
                for row0, n, col0, m in tiles
                if (rows is None or row0 <= rows < row0 + n) and (column is None or col0 <= column < col0 + m)
            }


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_operand_is_found(kind: str) -> None:
    job = made(**KINDS[kind])
    for name in job.receipt["statement"]["operands"]:
        arrays = {name: job.arrays[name].copy()}
        arrays[name].view(f"i{arrays[name].itemsize}")[-1, -1] ^= 1
        report = check_arrays(job.receipt, arrays)
        assert report.problems == [f"operand {name} is not the one that the receipt is about"]


def test_arrays_of_another_form_are_refused() -> None:
    job = made(floats=True)

    def problem(**arrays: np.ndarray) -> str:
        return "; ".join(check_arrays(job.receipt, arrays).problems)

    c = job.arrays["c"]
    assert "together" in problem(c=c)
    assert "c is int32 (5, 7)" in problem(c=c.T)
    assert "c is int64" in problem(c=c.astype(np.int64))
    assert "no such array here: d" in problem(d=c)
    assert "a is float32 (4, 7)" in problem(a=job.arrays["a"].T)
