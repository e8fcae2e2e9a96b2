"""Every command: what it prints for people, and the documented shape that it prints for programs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import COMMAND, invoke
from fake_api import FRAUD, KEY, OPERATOR, WORKER, FakeApi
from made_keys import made_vk
from safetensors.numpy import load_file, save_file
from typer.testing import Result

from shardy_client.errors import ShardyError

Run = Callable[..., Result]
STATUS = {"id", "kind", "policy", "state", "label", "progress", "frauds", "error", "waiting_for", "usage", "created_ms",
          "ended_ms", "result", "receipt"}  # fmt: skip
LETTER = {"entry", "cause", "state", "subject", "seq", "at_ms", "trace", "evidence", "closed_by", "closed_ms",
          "outcome"}  # fmt: skip
VERIFIER = {"version", "circuit", "shape", "status", "vk_hash", "dev", "registered_by", "registered_ms", "active_ms",
            "grace_until_ms", "revoked_ms", "successor", "why", "files"}  # fmt: skip
ISSUED = {"id", "key", "owner", "scopes", "label", "expires_ms"}

# command → (arguments, keys of the JSON object, a word that people see)
TABLE: dict[str, tuple[list[str], set[str], str]] = {
    "matmul": (["a.npy", "b.npy", "-o", "c.npy"], STATUS | {"files"}, "wrote c.npy"),
    "stream": (["x.npy", "-o", "q.npy", "--lo", "-1", "--hi", "1"], STATUS | {"files"}, "wrote q.npy"),
    "jobs": ([], {"jobs", "next"}, "completed"),
    "job": (["j1", "--tasks"], STATUS | {"tasks"}, "t1"),
    "cancel": (["j2"], STATUS, "cancelled"),
    "workers": ([], {"workers", "next"}, "23.4"),
    "frauds": ([], {"frauds", "next"}, "liar"),
    "credit": ([], {"workers", "total", "used", "next"}, "your jobs: 2 tasks"),
    "receipt": (["j1"], {"statement", "signature"}, "statement"),
    "dlq list": ([], {"entries", "next"}, "unresolved"),
    "dlq show": (["task-t1"], LETTER, "12 leases ended"),
    "dlq replay": (["task-t1"], {"entry", "outcome", "job"}, "shardy job j1 --follow"),
    "dlq discard": (["task-t1", "--reason", "known"], {"entry", "outcome"}, "discarded"),
    "keys list": ([], {"keys", "next"}, "laptop"),
    "keys issue": (["--label", "mine", "--scope", "operate"], ISSUED, "shown this once"),
    "keys rotate": (["k1", "--grace-s", "60"], ISSUED, "shown this once"),
    "keys revoke": (["k1"], {"id"}, "revoked"),
    "verifiers list": ([], {"verifiers", "next"}, "1970-01-02 00:01"),
    "verifiers show": (["v1"], VERIFIER | {"vk"}, "8x384x8"),
    "verifiers register": (
        ["vk.json", "--circuit", "product", "--version", "v7", "--shape", "8x384x8"], VERIFIER, "registered"
    ),
    "verifiers rotate": (
        ["product", "v2", "--grace", "10m"], {"circuit", "version", "former", "grace_until_ms"},
        "product: version v2 is active; v1 counts for earlier leases for 10m",
    ),
    "verifiers revoke": (
        ["v1", "--successor", "v2", "--why", "leaked"], VERIFIER, "v1 is revoked; v2 is active in its place"
    ),
}  # fmt: skip
# have tests of their own: test_cli_log.py, tests/connected/test_log_care.py, tests/docs/test_commands_run.py,
# tests/circuits/test_ceremony_on_mesh.py
CARE = {"log list", "log task", "log archive", "log archives", "log verify", "log restore", "log replay"}
CEREMONY = {f"ceremony {word}" for word in ("list", "show", "start", "contribute", "beacon", "verify", "finish")}
ELSEWHERE = (
    {"up", "worker", "doctor", "rebuild", "completion", "verify", "backup", "restore", "blobs"} | CARE | CEREMONY
)


@pytest.fixture
def run(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """In a folder with operands and both keys, against a mesh with one completed and one endless job."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHARDY_URL", api.url)
    for name in ("SHARDY_KEY", "SHARDY_OPERATOR_KEY", "SHARDY_MESH_KEY"):
        monkeypatch.delenv(name, raising=False)
    Path(".data").mkdir()
    Path(".data/api_key").write_text(KEY + "\n")
    Path(".data/operator_key").write_text(OPERATOR + "\n")
    np.save("a.npy", np.ones((4, 6), np.int8)), np.save("b.npy", np.ones((6, 5), np.int8))
    np.save("x.npy", np.ones((4, 6), np.float32))
    Path("vk.json").write_text(json.dumps(made_vk(7), indent=1))
    invoke("matmul", "a.npy", "b.npy", "-o", "old.npy")
    api.steps = 10**9
    invoke("matmul", "a.npy", "b.npy", "-o", "c.npy", "--detach")
    api.steps = 0
    api.frauds = [FRAUD]
    api.operating._made(["submit"], "laptop", None)
    return invoke


def commands() -> dict[str, Any]:
    found = {}
    for name, command in COMMAND.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {f"{name} {word}": one for word, one in inner.items()} if inner else {name: command}
    return found


def test_every_command_is_in_the_table() -> None:
    assert set(commands()) == set(TABLE) | ELSEWHERE


@pytest.mark.parametrize("name", TABLE)
def test_people_see_what_matters(run: Run, name: str) -> None:
    arguments, _, word = TABLE[name]
    result = run(*name.split(), *arguments)
    assert result.exit_code == 0, result.output
    assert word in " ".join(result.output.split())


@pytest.mark.parametrize("name", TABLE)
def test_programs_see_the_documented_shape(run: Run, name: str) -> None:
    arguments, keys, _ = TABLE[name]
    result = run(*name.split(), *arguments, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert set(answer) == keys and result.stderr == ""
    said = re.search(r"JSON:(.*?)(\n\n|$)", commands()[name].help, re.S)
    assert said is not None, f"{name} --help does not say what its JSON is"
    words = said[1]
    for key in set() if "status" in words and keys >= STATUS else keys - {"next"}:
        assert re.search(rf"\b{key}\b", words), f"{name} --help does not name {key}"


@pytest.mark.parametrize("name", sorted(set(commands()) - {"completion"}))
def test_every_command_has_json_and_says_what_it_is(name: str) -> None:
    command = commands()[name]
    assert any("--json" in parameter.opts for parameter in command.params) and "JSON" in (command.help or "")


def test_dead_letters_and_keys_are_listed_by_the_bare_command(run: Run) -> None:
    assert "unresolved" in run("dlq").stdout and json.loads(run("dlq", "--state", "open", "--json").stdout)["entries"]
    assert "laptop" in run("keys").stdout and json.loads(run("keys", "--json").stdout)["keys"]
    assert run("keys", "revoke", "k1").exit_code == 0
    assert "revoked" in run("keys").stdout and "1970-01-02" in run("keys").stdout, "an ended key looks valid"
    result = run("dlq", "--json", "show", "task-t1")
    assert result.exit_code == 2 and "write --json behind show" in result.stderr
    assert run("dlq", "replay", "task-t1").exit_code == 0
    again = run("dlq", "replay", "task-t1")
    assert again.exit_code == 4 and "is replayed already" in again.stderr
    assert run("dlq", "show", "no/entry").exit_code == 2 and run("dlq", "show", "none").exit_code == 4
    assert (
        run("dlq", "--state", "shut").exit_code == 2
        and run("dlq", "discard", "task-t1", "--reason", " ").exit_code == 2
    )


def test_verification_keys(run: Run) -> None:
    assert "product" in run("verifiers").stdout and json.loads(run("verifiers", "--json").stdout)["verifiers"]
    register = ["verifiers", "register", "vk.json", "--circuit", "product", "--version"]
    for shape in ("8x384", "8x384x", "8*384*8", "8x-1x8"):
        result = run(*register, "v7", "--shape", shape)
        assert result.exit_code == 2 and "write it as MxKxN" in result.stderr
    result = run(*register, "v1", "--shape", "8x384x8")
    assert result.exit_code == 4 and "registered with another key" in result.stderr
    assert run(*register, "v7", "--shape", "8x384x8").exit_code == 0
    again = run(*register, "v7", "--shape", "8x384x8", "--json")
    assert again.exit_code == 0 and json.loads(again.stdout)["status"] == "registered"
    for content, words in (("{", "no JSON"), ("[]", "holds no JSON object"), (" " * 70_000, "larger than any")):
        Path("vk.json").write_text(content)
        result = run(*register, "v8", "--shape", "8x384x8")
        assert result.exit_code == 2 and words in result.stderr
    Path("vk.json").write_text("{}")
    assert run(*register, "v8", "--shape", "8x384x8").exit_code == 4
    assert "--circuit and --shape are missing" in run("verifiers", "register", "vk.json", "--version", "v8").stderr
    for folder, more, words in (
        ("product", [], "is no circuit's folder"),
        ("v2-8x384x8", [], "lacks v2-8x384x8.zkey, v2-8x384x8.r1cs; make circuits writes all of them"),
        ("v2-8x384x8", ["--shape", "8x8x8"], "it says --circuit, --shape, --zkey and --r1cs itself"),
    ):
        Path(folder).mkdir(exist_ok=True)
        Path(folder, "verification_key.json").write_text("{}")
        result = run("verifiers", "register", folder, "--version", "v8", *more)
        assert result.exit_code == 2 and words in result.stderr, result.stderr
    assert run("verifiers", "rotate", "product", "v7", "--grace", "soon").exit_code == 2
    assert run("verifiers", "rotate", "product", "v7", "--grace", "31d").exit_code == 4
    assert run("verifiers", "rotate", "product", "v7").exit_code == 0
    result = run("verifiers", "rotate", "product", "v7")
    assert result.exit_code == 4 and "active already" in result.stderr
    assert run("verifiers", "revoke", "v7", "--why", " ").exit_code == 2
    assert run("verifiers", "revoke", "v7", "--why", "leaked").stdout == "v7 is revoked\n"
    assert "revoked" in run("verifiers", "show", "v7").stdout and "leaked" in run("verifiers", "show", "v7").stdout
    assert run("verifiers", "show", "none").exit_code == 4 and run("verifiers", "show", "no/version").exit_code == 2


def test_where_the_operators_key_comes_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("dlq").exit_code == 0
    Path(".data/operator_key").unlink()
    none = run("dlq")
    assert none.exit_code == 4 and "API key" in none.stderr
    monkeypatch.setenv("SHARDY_KEY", KEY)
    lacking = run("dlq")
    assert lacking.exit_code == 4 and "SHARDY_OPERATOR_KEY" in lacking.stderr and "scope operate" in lacking.stderr
    monkeypatch.setenv("SHARDY_OPERATOR_KEY", OPERATOR)
    assert run("dlq").exit_code == 0 and run("jobs").exit_code == 0
    assert run("dlq", "--key", "another").exit_code == 4, "an option stands above the environment"


def test_one_worker_with_its_record(run: Run) -> None:
    shown = run("workers", WORKER["id"]).stdout
    assert "12 accepted, 1 late" in shown and "9.0" in shown and "liar" in shown
    assert set(json.loads(run("workers", WORKER["id"], "--json").stdout)) >= {"trust", "credit", "record", "frauds"}
    assert run("workers", "12D3KooWnobody").exit_code == 4


def test_credit_by_worker_and_as_a_file(run: Run, api: FakeApi) -> None:
    assert "t5" in run("credit", "--worker", WORKER["id"]).stdout
    answer = json.loads(run("credit", "--worker", WORKER["id"], "--limit", "2", "--json").stdout)
    assert [e["seq"] for e in answer["entries"]] == [1, 2] and answer["next"] == 2
    assert "--after 2" in run("credit", "--worker", WORKER["id"], "--limit", "2").stdout
    result = run("credit", "--export", "ledger.csv", "--json")
    assert json.loads(result.stdout) == {"file": "ledger.csv", "bytes": Path("ledger.csv").stat().st_size}
    assert Path("ledger.csv").read_text().splitlines()[0].startswith("seq,")
    assert run("credit", "--export", "no/ledger.csv").exit_code == 2
    assert run("credit", "--worker", "w", "--after", "soon").exit_code == 2


def test_receipts_go_to_files(run: Run) -> None:
    assert run("receipt", "j1", "--task", "t1", "-o", "r.json").exit_code == 0
    assert json.loads(Path("r.json").read_text())["statement"] == {"id": "j1", "task": "t1"}
    assert json.loads(run("receipt", "j1", "-o", "r.json", "--json").stdout) == {"file": "r.json", "job": "j1"}
    assert run("receipt", "j9", "-o", "none.json").exit_code == 4 and not Path("none.json").exists()


def test_tensors_in_and_out(run: Run) -> None:
    save_file({"w": np.full((6, 5), 3, np.int8), "bias": np.zeros(5, np.float32)}, "m.safetensors")
    result = run("matmul", "a.npy", "m.safetensors", "-o", "c.safetensors:product")
    assert result.exit_code == 0, result.output
    assert (load_file("c.safetensors")["product"] == 18).all()
    missing = run("matmul", "a.npy", "m.safetensors:v", "-o", "c.npy")
    assert missing.exit_code == 2 and "w (I8 6×5)" in missing.stderr and len(missing.stderr.splitlines()) == 1
    assert run("matmul", "a.npy", "b.npy", "-o", "c.txt").exit_code == 2


def test_waiting_reasons_are_said_where_no_terminal_is(run: Run, api: FakeApi) -> None:
    api.steps, api.waiting_for = 3, "a second network address"
    result = run("matmul", "a.npy", "b.npy", "-o", "c.npy")
    assert "waiting: a second network address" in result.stderr
    assert "waits for  a second network address" in run("job", "j3").stdout


def test_the_same_idempotency_key_is_the_same_job(run: Run, api: FakeApi) -> None:
    arguments = ("matmul", "a.npy", "b.npy", "-o", "c.npy", "--detach", "--idempotency-key", "order-7")
    assert run(*arguments).stdout == run(*arguments).stdout == "j3\n"


def test_everybodys_jobs_need_the_operator(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "j1" in run("jobs", "--all").stdout
    monkeypatch.setenv("SHARDY_OPERATOR_KEY", OPERATOR)
    monkeypatch.setenv("SHARDY_KEY", KEY)
    assert run("jobs").exit_code == 0 and run("jobs", "--all").exit_code == 0
    assert run("jobs", "--all", "--key", KEY).exit_code == 4
    assert run("jobs", "--state", "asleep").exit_code == 2


def test_defects_are_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("shardy_client.looks.AsyncLooks.frauds", broken)
    result = run("frauds")
    assert result.exit_code == 1 and "this is a defect" in result.stderr and len(result.stderr.splitlines()) == 1
    assert issubclass(ShardyError, Exception)


def test_ctrl_c_leaves_nothing_half_written(run: Run, api: FakeApi, tmp_path: Path) -> None:
    api.steps = 10**9
    before = sorted(path.name for path in tmp_path.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-m", "shardy_client.cli", "matmul", "a.npy", "b.npy", "-o", "c.npy"],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"SHARDY_URL": api.url},
        # tests that run in the background of a shell ignore SIGINT, and would hand that down
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it takes no lock
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while "j3" not in api.jobs or ("GET", "/v1/jobs/j3/events") not in api.requests:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "shardy job j3 --follow" in errors and "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == before
