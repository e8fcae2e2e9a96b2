"""Proofs that hold, in receipts that say more than they prove: bound to result and operands as far as a receipt can."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made_proofs import made_proved
from made_receipts import MESH, Device, made, signed_again

from shardy_common.receipts import check, check_arrays
from shardy_common.wire import merkle


def of_another_result(statement: dict[str, Any]) -> None:
    """The worker did hand in these bytes, and the proof is of others."""
    statement["result"]["digest"] = "ab" * 32
    worker = statement["workers"][0]
    leaf = merkle.leaf(worker["lease"], bytes.fromhex("ab" * 32), statement["result"]["bytes"])
    worker["sig"] = Device(1).sign([leaf])


LIES: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("the tile is not the result", of_another_result),
    ("the root is not that of the tiles", lambda s: s["proof"].update(root="cd" * 32)),
    ("tile 0 is of another operand a", lambda s: s["operands"]["a"].update(digest="ab" * 32)),
    ("tile 0 is of another operand b", lambda s: s["operands"]["b"].update(digest="ab" * 32)),
    ("has no room for an inner length of 9", lambda s: [operand.update(cols=9) for operand in s["operands"].values()]),
    ("makes no rounds, and 2 are stated", lambda s: s.update(rounds=2)),
]


@pytest.mark.parametrize(("said", "lie"), LIES, ids=[said for said, _ in LIES])
def test_a_proof_is_of_this_task(said: str, lie: Callable[[dict[str, Any]], Any]) -> None:
    receipt = copy.deepcopy(made_proved(small=True).tasks[0])
    assert check(receipt, mesh_keys=[MESH.key]).proofs == 1
    lie(receipt["statement"])
    (problem,) = check(signed_again(receipt), mesh_keys=[MESH.key]).problems
    assert said in problem


@pytest.mark.parametrize("kind", [{"kind": "stream"}, {"floats": True}])
def test_only_products_of_int8_are_proved(kind: dict[str, Any]) -> None:
    receipt = copy.deepcopy(made(**kind).tasks[0])
    proof = made_proved(small=True).tasks[0]["statement"]["proof"]
    receipt["statement"].update(policy="proof", method="proof", proof=proof)
    assert any("only products of int8" in problem for problem in check(signed_again(receipt)).problems)


def test_numbers_that_no_product_gives_are_a_problem_and_no_failure() -> None:
    job = made_proved(small=True)
    receipt, arrays = copy.deepcopy(job.tasks[0]), {**job.arrays, "c": job.arrays["c"].copy()}
    arrays["c"][0, 0] = np.int32(1 << 30)
    assert "differ" in check_arrays(receipt, arrays).problems[0]
    made_up = check_arrays(receipt, job.arrays)
    assert made_up.ok and made_up.proofs == 1


@pytest.mark.parametrize("point", ["01" + "00" * 31, "00" * 32, "ec" + "ff" * 30 + "7f"])
def test_nobody_signs_with_a_key_of_small_order(point: str) -> None:
    """R = 1 and S = 0 fit any message under the key that is the neutral element, and one in a few under the others."""
    receipt = {**made().receipt, "signature": {"key": point, "sig": "01" + "00" * 63}}
    assert "the signature does not fit the statement" in check(receipt, mesh_keys=[point]).problems
