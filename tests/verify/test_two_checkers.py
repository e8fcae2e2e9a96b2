"""Python and TypeScript say the same of every receipt: of those that are right, and of hundreds that are changed."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
from both_checkers import Both
from made_proofs import made_proved
from made_receipts import made, signed_again
from receipt_changes import CASES, changes, lies, places, with_tasks


def receipts(case: str) -> list[dict[str, Any]]:
    """A job's receipt and a task's."""
    job = made(**CASES[case])
    return [job.receipt, job.tasks[1]]


def believed(receipt: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same as it is, and where it can be signed, as a mesh that lies signs it: with a root that fits, too."""
    yield receipt
    if not isinstance(receipt.get("statement"), dict):
        return
    try:
        yield signed_again(receipt)
        tasks = receipt.get("tasks")
        if isinstance(tasks, list) and tasks:
            yield with_tasks(receipt, tasks)
    except (TypeError, ValueError):  # fractions have no canonical form here
        return


@pytest.mark.parametrize("case", CASES)
def test_of_receipts_with_one_place_changed(both: Both, case: str) -> None:
    whole = receipts(case)
    assert both([(case, receipt) for receipt in whole]) == [True, True]
    short = made(**CASES[case], rows=7)
    changed = [
        (what, document)
        for receipt in (short.receipt, short.tasks[0])
        for what, one in changes(receipt)
        for document in believed(one)
    ]
    found = both(changed)
    assert len(found) > 1_500 and found.count(True) < 0.1 * len(found)


def test_of_receipts_with_proofs_and_one_place_changed(both: Both) -> None:
    job, small = made_proved(), made_proved(2, small=True)
    assert both([("", job.receipt), ("", small.receipt), *(("", task) for task in job.tasks)]) == [True] * 4
    changed = [
        (what, document)
        for receipt in (small.receipt, small.tasks[0], job.tasks[0])
        for what, one in changes(receipt)
        for document in believed(one)
    ]
    found = both(changed)
    assert len(found) > 1_000 and found.count(True) < 0.1 * len(found)


def test_of_what_a_mesh_that_lies_signs(both: Both) -> None:
    def told(what: str, receipt: dict[str, Any], change: Any) -> tuple[str, dict[str, Any]]:
        receipt = copy.deepcopy(receipt)
        change(receipt["statement"])
        return what, signed_again(receipt)

    cases = [told(what, made().tasks[1], change) for what, _, change in lies()]
    tasks = made().receipt["tasks"]
    for at in range(len(tasks)):
        moved = [*tasks[:at], *tasks[at + 1 :]]
        cases.append((f"without {at}", with_tasks(made().receipt, moved)))
        cases += [
            (f"{at} at {to}", with_tasks(made().receipt, [*moved[:to], tasks[at], *moved[to:]])) for to in range(6)
        ]
        cases.append((f"{at} twice", with_tasks(made().receipt, [*tasks, tasks[at]])))
    for rounds in range(4):  # of a method that makes none, too
        for case in CASES:
            cases.append(told(f"{case} {rounds}", made(**CASES[case]).tasks[0], lambda s, n=rounds: s.update(rounds=n)))
        cases.append(told(f"proof {rounds}", made_proved().tasks[0], lambda s, n=rounds: s.update(rounds=n)))
    proof = made_proved(small=True).tasks[0]["statement"]["proof"]
    for case in CASES:  # a proof where nothing can be proved
        more = {"proof": proof, "method": "proof", "policy": "proof", "rounds": 0}
        cases.append(told(f"proof of {case}", made(**CASES[case]).tasks[0], lambda s, more=more: s.update(more)))
    found = both(cases)
    assert 0 < found.count(True) < 30 and len(found) > 130


def test_of_two_changes_at_once(both: Both) -> None:
    rng = random.Random(7)
    cases = []
    for receipt in (made(rows=7).tasks[0], made(kind="stream").receipt, made_proved(small=True).receipt):
        for _ in range(250):
            _, one = rng.choice(list(changes_of_a_part(receipt, rng)))
            what, two = rng.choice(list(changes_of_a_part(one, rng)))
            cases += [(what, document) for document in believed(two)]
    both(cases)


def changes_of_a_part(document: dict[str, Any], rng: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Changes of one leaf, list or map among all."""
    name = rng.choice([path for path, _ in places(document) if path])
    inner: Any = document
    for key in name[:-1]:
        inner = inner[key]
    for what, changed in changes({"it": inner[name[-1]]}):
        copied = copy.deepcopy(document)
        place: Any = copied
        for key in name[:-1]:
            place = place[key]
        if "it" in changed:
            place[name[-1]] = changed["it"]
            yield f"{name} {what}", copied
