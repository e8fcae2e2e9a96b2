"""`shardy verify`: what is said to be verified, and what never is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import invoke
from made_receipts import MESH, made, signed_again
from typer.testing import Result

Run = Callable[..., Result]
KEY = MESH.key
OTHER = "cd" * 32


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """In a folder with the receipt and the arrays of one product."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHARDY_MESH_KEY", raising=False)
    one = made()
    write(one.receipt)
    np.save("a.npy", one.arrays["a"]), np.save("c.npy", one.arrays["c"])
    np.save("b.npy", one.arrays["b"].T), np.save("bt.npy", one.arrays["b"])
    return lambda *arguments: invoke("verify", *arguments)


def write(receipt: dict[str, Any], name: str = "r.json") -> str:
    Path(name).write_text(json.dumps(receipt))
    return name


def test_a_receipt_of_a_mesh_that_is_trusted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = ("--a", "a.npy", "--b", "b.npy", "--c", "c.npy")
    result = run("r.json", "--mesh-key", KEY, *everything)
    assert result.exit_code == 0 and "VERIFIED: signed by" in result.output and "NOT" not in result.output
    assert "6 tiles equal" in result.output and "answers  12 signed by their workers, 0 not" in result.output
    monkeypatch.setenv("SHARDY_MESH_KEY", f"{OTHER},{KEY}")
    assert run("r.json", "--b", "bt.npy", "--b-layout", "nk").exit_code == 0
    monkeypatch.delenv("SHARDY_MESH_KEY")
    Path(".data").mkdir()
    Path(".data/mesh_key.pub").write_text(KEY + "\n")
    answer = json.loads(run("r.json", "--json", *everything).stdout)
    assert answer["verified"] and answer["vouched"] and answer["arrays"]["tiles"] == 6 and answer["problems"] == []
    assert set(answer) == {"verified", "problems", "vouched", "type", "mesh", "job", "key", "tasks", "ops", "workers",
                           "methods", "signed", "unsigned", "proofs", "development", "arrays"}  # fmt: skip


def test_without_a_key_that_is_trusted_nothing_looks_verified(run: Run) -> None:
    result = run("r.json", "--c", "c.npy")
    assert result.exit_code == 1 and "NOT VERIFIED" in result.output and KEY in result.output
    assert "GET /v1/mesh" in result.output and "--mesh-key" in result.output
    assert not json.loads(run("r.json", "--json").stdout)["verified"]


def test_a_forged_receipt(run: Run) -> None:
    result = run("r.json", "--mesh-key", OTHER)
    assert result.exit_code == 1 and "none of the mesh's keys that you trust" in result.output
    one = made().receipt
    one["statement"]["ops"] = "1"
    assert run(write(one), "--mesh-key", KEY).exit_code == 1
    assert "ops: the tasks have" in run(write(signed_again(one)), "--mesh-key", KEY).output


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_one_wrong_value_in_an_array_is_named(run: Run, name: str) -> None:
    array = np.load(f"{name}.npy")
    array[-1, -1] ^= 1
    np.save("wrong.npy", array)
    result = run("r.json", "--mesh-key", KEY, f"--{name}", "wrong.npy")
    assert result.exit_code == 1 and "NOT VERIFIED" in result.output
    assert ("1 of 6 tiles differ" if name == "c" else f"operand {name} is not the one") in result.output


def test_a_task_receipt_and_other_parts(run: Run) -> None:
    one = made("stream")
    for name, array in one.arrays.items():
        np.save(f"{name}.npy", array)
    parts = [word for name in ("x", "q", "scale") for word in ("--part", f"{name}={name}.npy")]
    result = run(write(one.receipt), "--mesh-key", KEY, *parts)
    assert result.exit_code == 0 and "x as in the receipt, 3 tiles equal" in result.output
    assert run(write(one.tasks[0]), "--mesh-key", KEY).exit_code == 0
    assert run("r.json", "--mesh-key", KEY, "--part", "y=q.npy").exit_code == 2
    assert run("r.json", "--mesh-key", KEY, "--part", "q").exit_code == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1.5}', '{"statement": {}, "statement": {}}', "\xff"])
def test_what_is_no_receipt(run: Run, text: str) -> None:
    Path("r.json").write_text(text, encoding="latin1")
    result = run("r.json", "--mesh-key", KEY)
    assert result.exit_code == 1 and "no receipt" in result.output and "Traceback" not in result.output


def test_wrong_usage(run: Run) -> None:
    for arguments, words in (
        (("none.json",), "cannot read none.json"),
        (("r.json", "--mesh-key", "12"), "no mesh key"),
        (("r.json", "--mesh-key", KEY, "--a", "none.npy"), "there is no file"),
        (("r.json", "--b-layout", "T"), "--b-layout"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and words in result.stderr and len(result.stderr.splitlines()) == 1
