"""Completion: what is offered for each value, and that bash, zsh and fish really complete after an installation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runner import invoke
from fake_api import KEY, OPERATOR, FakeApi
from terminal import Terminal

JOB = {"kind": "matmul", "policy": "quorum", "label": ""}
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def words(api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[object]:
    """What a shell is offered behind these words; the last one is not finished."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHARDY_URL", api.url)
    monkeypatch.setenv("SHARDY_KEY", KEY)
    monkeypatch.setenv("SHARDY_OPERATOR_KEY", OPERATOR)

    def offered(line: str) -> list[str]:
        monkeypatch.setenv("_SHARDY_COMPLETE", "complete_fish")
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        return [text.partition("\t")[0] for text in invoke().stdout.splitlines() if text]

    yield offered


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("shardy matm", ["matmul"]),
        ("shardy matmul a.npy b.npy --policy ", ["quorum", "audit", "adaptive", "proof"]),
        ("shardy matmul a.npy b.npy --policy ad", ["adaptive"]),
        ("shardy matmul --scale ", ["row", "tensor"]),
        ("shardy matmul a.n", []),  # the shell's own file names
        ("shardy rebuild g", ["gateway", "gossip-bridge"]),
        ("shardy job ", ["j2", "j1"]),
        ("shardy cancel j1", ["j1"]),
        ("shardy receipt j2", ["j2"]),
        ("shardy workers 12D", ["12D3KooWabcdefgh"]),
        ("shardy credit --worker ", ["12D3KooWabcdefgh"]),
        ("shardy dlq sh", ["show"]),
        ("shardy dlq replay ", ["task-t1"]),
        ("shardy dlq list --state d", ["discarded"]),
        ("shardy keys revoke ", ["k1"]),
        ("shardy keys issue --scope o", ["operate"]),
        ("shardy verifiers ro", ["rotate"]),
        ("shardy verifiers rotate ", ["product"]),
        ("shardy verifiers rotate product ", ["v0", "v1", "v2"]),
        ("shardy verifiers revoke v1 --successor v2", ["v2"]),
        ("shardy completion z", ["zsh"]),
        ("shardy worker --backend g", ["gpu"]),
        ("shardy job --url http://127.0.0.1:9 ", []),
    ],
)
def test_values_are_offered(words, api: FakeApi, line: str, offers: list[str]) -> None:  # type: ignore[no-untyped-def]
    for name in ("j1", "j2"):
        api.add_job(name, JOB, 1, {})
    for label in ("laptop", "lost"):
        api.operating._made(["submit"], label, None)
    api.operating.revoked["k2"] = {"state": "revoked", "ends_ms": 1}  # not offered: it has ended
    assert words(line) == offers


def test_a_mesh_that_does_not_answer_is_not_waited_for(words, api: FakeApi) -> None:  # type: ignore[no-untyped-def]
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        assert words(f"shardy job --url http://127.0.0.1:{silent.getsockname()[1]} ") == []
        assert time.monotonic() - started < 10, "it gives up by itself; a busy machine takes its time"


def test_other_shells_are_refused() -> None:
    result = invoke("completion", "cmd")
    assert result.exit_code == 2 and "bash, zsh, fish" in result.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_complete_after_an_installation(shell: str, api: FakeApi, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} on this machine (Debian: apt install {shell})")
    api.add_job("j77", JOB, 1, {})
    (tmp_path / "operand.npy").touch()
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / ".config"),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        "SHARDY_URL": api.url,
        "SHARDY_KEY": KEY,
    }
    script = "shardy --install-completion >/dev/null; shardy --show-completion; true"
    shown = subprocess.run(
        [program, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == invoke("completion", shell).stdout.strip()
    if shell == "fish":
        # fish tells what it would complete without a terminal.
        for line, found in LINES.items():
            asked = [program, "-c", f"complete -C '{line}'"]
            offered = subprocess.run(
                asked, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
            ).stdout
            assert [text.partition("\t")[0] for text in offered.split("\n")[:-1]] == [found.split()[-1]]
        return
    terminal = Terminal([program, "-i"], environment, tmp_path)
    try:
        terminal.ready()
        for line, found in LINES.items():
            assert terminal.completed(line) == found
    finally:
        terminal.close()


LINES = {
    "shardy matmul --policy ad": "shardy matmul --policy adaptive",
    "shardy matmul oper": "shardy matmul operand.npy",
    "shardy job j7": "shardy job j77",
}
