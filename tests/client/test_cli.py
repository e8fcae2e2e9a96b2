"""The command line: answers, files, one-line errors and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_runner import invoke
from fake_api import FRAUD, KEY, FakeApi, Problem
from typer.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def run(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("jobs", "--json")` in an empty folder, against the fake mesh."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHARDY_URL", api.url)
    monkeypatch.setenv("SHARDY_KEY", KEY)
    return invoke


def save(name: str, rows: int, cols: int, dtype: str = "int8") -> np.ndarray:
    array = np.random.default_rng(rows).integers(-100, 100, (rows, cols)).astype(dtype)
    np.save(name, array)
    return array


def only_line(result: Result) -> str:
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    return lines[0]


def test_matmul_writes_the_product(run: Run) -> None:
    a, b = save("a.npy", 4, 6), save("b.npy", 6, 5)
    result = run("matmul", "a.npy", "b.npy", "-o", "c.npy", "--policy", "audit", "--label", "mine")
    assert result.exit_code == 0, result.output
    assert np.array_equal(np.load("c.npy"), a.astype(int) @ b.astype(int))
    assert "wrote c.npy" in result.stderr and result.stdout == ""


def test_matmul_reports_who_was_caught(run: Run, api: FakeApi) -> None:
    api.frauds = [FRAUD]
    save("a.npy", 4, 6), save("b.npy", 6, 5)
    assert "caught: native/0.1 liar" in run("matmul", "a.npy", "b.npy", "-o", "c.npy").stderr


def test_matmul_of_floats_needs_bounds(run: Run) -> None:
    save("a.npy", 4, 6, "float32"), save("b.npy", 6, 5, "float32")
    assert "need pre" in only_line(run("matmul", "a.npy", "b.npy", "-o", "c.npy"))
    assert "both clamp bounds" in only_line(run("matmul", "a.npy", "b.npy", "-o", "c.npy", "--lo", -1))
    assert run("matmul", "a.npy", "b.npy", "-o", "c.npy", "--lo", -1, "--hi", 1).exit_code == 0
    assert np.load("c.npy").dtype == np.float32
    assert run("matmul", "a.npy", "b.npy", "-o", "c.npy", "--lo", -1, "--hi", 1, "--part", "c").exit_code == 0
    assert np.load("c.npy").dtype == np.int32


def test_stream_writes_values_and_scales(run: Run) -> None:
    save("x.npy", 4, 6, "float32")
    result = run("stream", "x.npy", "-o", "q.npy", "--scales", "s.npy", "--lo", -100, "--hi", 100)
    assert result.exit_code == 0, result.output
    assert np.load("q.npy").dtype == np.int8 and np.load("s.npy").shape == (4,)


def test_detached_jobs_are_found_again(run: Run, api: FakeApi) -> None:
    save("a.npy", 4, 6), save("b.npy", 6, 5)
    api.steps = 1
    result = run("matmul", "a.npy", "b.npy", "-o", "c.npy", "--detach")
    assert result.exit_code == 0 and result.stdout == "j1\n" and not Path("c.npy").exists()
    assert "running" in run("job", "j1").stdout
    assert run("job", "j1", "--follow").exit_code == 0
    shown = run("job", "j1", "--tasks").stdout
    assert "completed" in shown and "t1" in shown and "20 of 20" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.npy", "b.npy", "-o", "c.npy"], "there is no file none.npy"),
        (["text.npy", "b.npy", "-o", "c.npy"], "is no .npy file"),
        (["a.npy", "b.npy", "-o", "no/c.npy"], "its folder does not exist"),
        (["a.npy", "b.npy", "-o", "."], "it is a folder"),
        (["a.npy", "a.npy", "-o", "c.npy"], "inner lengths differ"),
        (["wide.npy", "b.npy", "-o", "c.npy"], "int64"),
        (["a.npy", "b.npy", "-o", "c.npy", "--policy", "trust"], "'adaptive' or 'proof'"),
        (["a.npy", "b.npy", "-o", "c.npy", "--part", "d"], "--part"),
    ],
)
def test_bad_input_is_exit_2_and_one_line(run: Run, api: FakeApi, arguments: list[str], words: str) -> None:
    save("a.npy", 4, 6), save("b.npy", 6, 5), save("wide.npy", 4, 6, "int64")
    Path("text.npy").write_text("not an array")
    result = run("matmul", *arguments)
    assert result.exit_code == 2 and words in only_line(result)
    assert api.requests == []


def test_usage_errors_are_exit_2(run: Run) -> None:
    assert run("matmul").exit_code == 2
    assert run("nonsense").exit_code == 2
    assert run("jobs", "--limit", "many").exit_code == 2
    assert run("jobs", "--limit", 0).exit_code == 2
    assert run("worker", "--backend", "abacus", "--ephemeral").exit_code == 2
    assert only_line(run("matmul")) == "error: Missing argument 'A' (see: shardy matmul --help)"
    assert "No such option: --fast" in only_line(run("jobs", "--fast"))
    assert "shardy dlq discard --help" in only_line(run("dlq", "discard", "task-t1"))
    assert run("worker", "--threads", 0, "--ephemeral").exit_code == 2
    assert run("up", "--port", 70_000).exit_code == 2


def test_an_absent_mesh_is_exit_3(run: Run) -> None:
    result = run("jobs", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 3 and "shardy up" in only_line(result)


def test_refusals_are_exit_4(run: Run, api: FakeApi) -> None:
    api.refuse = Problem(429, "1000 of your jobs are active: wait for some to end")
    result = run("jobs")
    assert result.exit_code == 4 and "wait for some" in only_line(result)
    api.refuse = None
    assert run("jobs", "--key", "wrong").exit_code == 4
    assert run("job", "j7").exit_code == 4


def test_failed_jobs_are_exit_1(run: Run, api: FakeApi) -> None:
    api.fail = "task t1 stayed unresolved"
    save("a.npy", 4, 6), save("b.npy", 6, 5)
    result = run("matmul", "a.npy", "b.npy", "-o", "c.npy")
    assert result.exit_code == 1 and "stayed unresolved" in result.stderr
    result = run("job", "j1")
    assert result.exit_code == 1 and "stayed unresolved" in result.stdout


def test_cancel(run: Run, api: FakeApi) -> None:
    api.steps = 99
    save("a.npy", 4, 6), save("b.npy", 6, 5)
    run("matmul", "a.npy", "b.npy", "-o", "c.npy", "--detach")
    assert "cancelled" in run("cancel", "j1").stdout
    assert run("cancel", "j1").exit_code == 4


@pytest.mark.parametrize("command", ["jobs", "workers", "frauds", "credit"])
def test_every_list_has_a_sentence_for_nothing_a_table_and_json(run: Run, api: FakeApi, command: str) -> None:
    plain = run(command)
    assert plain.exit_code == 0 and plain.stdout.strip()
    assert isinstance(json.loads(run(command, "--json").stdout), dict)
    api.frauds = [FRAUD]
    assert run(command).exit_code == 0


def test_lists_show_what_matters(run: Run, api: FakeApi) -> None:
    api.frauds = [FRAUD]
    assert "liar" in run("frauds").stdout
    assert "23.4" in run("workers").stdout
    save("a.npy", 4, 6), save("b.npy", 6, 5)
    for _ in range(2):
        run("matmul", "a.npy", "b.npy", "-o", "c.npy")
    assert "--before j2" in run("jobs", "--limit", 1).stdout


def test_doctor_names_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDY_CHROMIUM", "/nowhere/chromium")
    result = run("doctor", "--json")
    found = {check["name"]: check for check in json.loads(result.stdout)}
    assert not found["Chromium"]["ok"] and "apt install chromium" in found["Chromium"]["remedy"]
    assert found["engine (WebAssembly)"]["ok"] and found["mesh"]["ok"] and "version 0.1.0" in found["mesh"]["detail"]
    assert found["clock"]["ok"] and "the mesh's" in found["port"]["detail"] and "SHARDY_KEY" in found["keys"]["detail"]
    for name in ("Node.js", "Docker", "disk space", "free memory", "nats-server", "graphics adapter", "worker page"):
        assert found[name]["ok"] or found[name]["remedy"], name


def test_help_teaches(run: Run) -> None:
    for name in ("matmul", "stream", "worker", "job", "workers", "up", "rebuild", "doctor", "verify", "dlq", "keys"):
        result = run(name, "--help")
        assert result.exit_code == 0 and len(result.stdout) > 300, name


def test_the_installed_program_prints_no_traces(tmp_path: Path) -> None:
    environment = {**os.environ, "SHARDY_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "shardy_client.cli", "workers"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 3 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
