"""A receipt passes as it was made, and in no other form: each field is changed, dropped and added to by itself."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from made_receipts import MESH, made, signed_again
from receipt_changes import CASES, changes, lies, with_tasks

from shardy_common.receipts import canonical, check, load


@pytest.mark.parametrize("case", CASES)
def test_receipts_pass_as_they_were_made(case: str) -> None:
    job = made(**CASES[case])
    report = check(canonical(job.receipt), mesh_keys=[MESH.key])
    assert report.ok and report.vouched and report.problems == []
    replicas = CASES[case].get("replicas", 2)
    assert report.type == "job" and report.tasks == len(job.tasks)
    assert set(report.workers.values()) == {len(job.tasks)} and len(report.workers) == replicas
    answers = replicas * len(job.tasks)
    assert (report.signed, report.unsigned) == ((0, answers) if "before" in case else (answers, 0))
    for task in job.tasks:
        alone = check(json.dumps(task, indent=2), mesh_keys={MESH.key})
        assert alone.ok and alone.vouched and alone.type == "task" and alone.tasks == 1


@pytest.mark.parametrize("case", CASES)
def test_any_change_of_a_job_receipt_is_refused(case: str) -> None:
    receipt = made(**CASES[case], rows=7).receipt
    tried = 0
    for what, changed in changes(receipt):
        report = check(changed, mesh_keys=[MESH.key])
        assert not report.ok, what
        tried += 1
    assert tried > 300


@pytest.mark.parametrize("case", CASES)
def test_any_change_of_a_task_receipt_is_refused(case: str) -> None:
    receipt = made(**CASES[case]).tasks[1]
    for what, changed in changes(receipt):
        assert not check(changed, mesh_keys=[MESH.key]).ok, what


@pytest.mark.parametrize(("what", "said", "change"), [pytest.param(*lie, id=lie[0]) for lie in lies()])
def test_what_does_not_fit_together_is_refused_though_the_mesh_signed_it(
    what: str, said: str, change: Callable[[dict[str, Any]], Any]
) -> None:
    del what
    receipt = copy.deepcopy(made().tasks[1])
    assert check(signed_again(receipt), mesh_keys=[MESH.key]).ok
    change(receipt["statement"])
    report = check(signed_again(receipt), mesh_keys=[MESH.key])
    assert any(said in problem for problem in report.problems), report.problems
    assert "does not fit the statement" not in " ".join(report.problems)


def test_what_is_not_signed_has_no_place_in_a_frame() -> None:
    receipt = copy.deepcopy(made(signed=False).tasks[0])
    receipt["statement"]["workers"][0].update(index=1, count=2, path=["0" * 64])
    assert "a place in a tree without a signature" in check(signed_again(receipt)).problems[0]


def test_audits_need_the_rounds_that_were_wanted() -> None:
    receipt = copy.deepcopy(made(policy="audit", method="audit", rounds=2, replicas=1).tasks[0])
    statement = receipt["statement"]
    assert statement["error_bound"] == {"base": "2147483647", "exponent": 2}
    statement["rounds"], statement["error_bound"]["exponent"] = 1, 1
    assert "1 rounds where the job wanted 2" in check(signed_again(receipt)).problems[0]
    statement["rounds"], statement["error_bound"]["exponent"] = 2, 8
    assert "not that of 2 rounds" in check(signed_again(receipt)).problems[0]


def test_a_job_is_covered_once_and_by_its_own_tasks() -> None:
    receipt = made().receipt
    tasks = receipt["tasks"]
    assert check(with_tasks(receipt, tasks)).ok

    def problems(changed: list[dict[str, Any]], **fields: Any) -> str:
        return "; ".join(check(with_tasks(receipt, changed, **fields)).problems)

    assert "do not cover" in problems(tasks[:-1])
    assert "leaves a gap" in problems(tasks[1:])
    assert "overlaps" in problems([tasks[0], *tasks])
    assert "out of its place" in problems([*tasks[3:], *tasks[:3]])
    other = {**tasks[2], "operands": {**tasks[2]["operands"], "a": tasks[2]["operands"]["b"]}}
    assert "something else than the job about operands" in problems([*tasks[:2], other, *tasks[3:]])
    assert "about mesh" in problems([{**tasks[0], "mesh": "another"}, *tasks[1:]])
    assert "after the job's end" in problems([{**tasks[0], "seq": 50}, *tasks[1:]])
    assert "ops" in problems(tasks, ops="1")
    assert "methods" in problems(tasks, methods={"quorum": 5, "audit": 1})
    assert "the operands make" in problems(tasks, shape=[5, 7])
    assert "counts 7 tasks, and 6" in problems(tasks, tasks=7)
    assert "tasks_root" in problems(tasks, tasks_root="0" * 64)


def test_who_vouches() -> None:
    receipt = made().receipt
    alone = check(receipt)
    assert alone.ok and not alone.vouched and alone.key == MESH.key
    stranger = check(receipt, mesh_keys=["0" * 64])
    assert not stranger.ok and not stranger.vouched and "none of the mesh's keys" in stranger.problems[0]
    assert check(receipt, mesh_keys=["0" * 64, MESH.key]).vouched


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "JSON object"),
        ("{", "Expecting"),
        ('{"a": 1, "a": 1}', "twice"),
        ('{"a": 1.0}', "fractions"),
        ('{"a": 1e3}', "fractions"),
        ('{"a": NaN}', "fractions"),
        ("{}", "statement is missing"),
        ('{"statement": {}, "signature": {}, "more": 1}', "fields"),
        ('{"statement": {"type": "job", "n": true}}', "only maps"),
        ('{"statement": {"n": 9007199254740992}}', "too large"),
        ('{"statement": {"n": "\\ud800"}}', "surrogates"),
        ('{"\u00e9": 1}', "ASCII"),
        ('{"a":' * 9 + "1" + "}" * 9, "nested deeper"),
        ('{"a":' * 100_000, ""),
    ],
)
def test_what_is_no_receipt_is_said_to_be_none(text: str, said: str) -> None:
    report = check(text)
    assert not report.ok and said in report.problems[0]
    assert not check([]).ok  # type: ignore[arg-type]


def test_load_gives_what_was_written() -> None:
    receipt = made().receipt
    assert load(canonical(receipt)) == receipt
