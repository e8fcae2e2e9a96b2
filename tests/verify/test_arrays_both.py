"""Arrays compared with receipts: Python and TypeScript find the same differences in the same places."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from both_checkers import KEYS, Checker
from made_proofs import made_proved
from made_receipts import Made, made

from shardy_common.receipts import check_arrays

KINDS: dict[str, Any] = {
    "int8": made,
    "float32": lambda: made(floats=True),
    "stream": lambda: made(kind="stream"),
    "proof": made_proved,
    "small proof": lambda: made_proved(small=True),
}


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def one_more(array: np.ndarray, at: tuple[int, ...]) -> np.ndarray:
    changed = array.copy()
    changed.view(f"i{array.itemsize}")[at] ^= 1
    return changed


def sets_of(job: Made) -> list[dict[str, np.ndarray]]:
    """Arrays as they are, each left out, each of another shape, each with a number changed."""
    arrays = job.arrays
    found = [arrays, {name: np.asfortranarray(array) for name, array in arrays.items()}]
    for name, array in arrays.items():
        found += [{name: array}, {other: arrays[other] for other in arrays if other != name}]
        found.append({**arrays, name: array[1:]})
        found.append({**arrays, name: array.astype(np.float32 if array.dtype == np.int8 else np.int8)})
        rng = np.random.default_rng(len(found))
        for _ in range(6):
            at = tuple(int(rng.integers(side)) for side in array.shape)
            found += [{**arrays, name: one_more(array, at)}, {name: one_more(array, at)}]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_of_arrays(typescript: Checker, kind: str) -> None:
    job = KINDS[kind]()
    cases = [(receipt, arrays) for receipt in (job.receipt, *job.tasks) for arrays in sets_of(job)]
    answers = typescript(
        {
            "receipt": json.dumps(receipt).encode(),
            "mesh_keys": KEYS,
            "arrays": {name: saved(array) for name, array in arrays.items()},
        }
        for receipt, arrays in cases
    )
    right = 0
    for (receipt, arrays), answer in zip(cases, answers, strict=True):
        want, found = check_arrays(receipt, arrays), answer["arrays"]
        assert len(found["problems"]) == len(want.problems), (found, want)
        assert [(task, tile) for task, tile in found["differing"]] == want.differing
        numbers = (want.tiles, sorted(want.operands), want.proofs)
        assert (found["tiles"], sorted(found["operands"]), found["proofs"]) == numbers
        differing = [text for text in want.problems if "differ from" in text or "not the one" in text]
        assert [text for text in found["problems"] if "differ from" in text or "not the one" in text] == differing
        right += want.ok
    assert 2 <= right < len(cases)
