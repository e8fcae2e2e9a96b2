"""Who may import whom (.importlinter), and that the pure modules draw no randomness of their own."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
FOLDERS = {
    "shardy_common": "libs/shardy_common",
    "shardy_client": "libs/shardy_client",
    "shardy_gateway": "services/gateway",
    "shardy_matchmaker": "services/matchmaker",
    "shardy_quorum": "services/quorum",
    "shardy_prover_verifier": "services/prover-verifier",
    "shardy_gossip_bridge": "services/gossip-bridge",
    "shardy_dlq": "services/dlq",
}


def lint(cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, PYTHONPATH=str(cwd)) if cwd != ROOT else dict(os.environ)
    command = [*LINT, "--config", str(ROOT / ".importlinter"), "--no-cache"]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_contracts_are_kept() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "5 kept, 0 broken" in done.stdout


PLANTED = [
    ("services/matchmaker/tiers.py", "import time"),
    ("services/quorum/tally.py", "import random"),
    ("libs/shardy_common/carving.py", "import sqlite3"),
    ("services/matchmaker/decide.py", "from uuid import uuid4"),
    ("services/dlq/letters.py", "from shardy_quorum import tally"),
    ("libs/shardy_common/kinds.py", "import shardy_client"),
]


def test_planted_imports_are_found(tmp_path: Path) -> None:
    """One copy of the sources with all of them planted: each must be named."""
    for package, folder in FOLDERS.items():
        shutil.copytree(ROOT / folder, tmp_path / package, ignore=shutil.ignore_patterns("static", "*.wasm", "*.pyc"))
    for path, line in PLANTED:
        package, folder = next((p, f) for p, f in FOLDERS.items() if path.startswith(f + "/"))
        target = tmp_path / package / path.removeprefix(folder + "/")
        target.write_text(target.read_text() + f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode != 0
    for path, line in PLANTED:
        package, folder = next((p, f) for p, f in FOLDERS.items() if path.startswith(f + "/"))
        module = f"{package}.{path.removeprefix(folder + '/').removesuffix('.py').replace('/', '.')}"
        imported = line.split()[1]
        assert f"{module} is not allowed to import {imported}" in done.stdout or (
            f"{module} -> {imported}" in done.stdout.replace("shardy_quorum.tally", "shardy_quorum")
        ), (module, imported, done.stdout[-3000:])


@pytest.mark.parametrize("path", ["services/matchmaker/decide.py", "services/matchmaker/pool.py"])
def test_randomness_comes_from_the_generator_that_is_given(path: str) -> None:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            assert node.attr == "Random", f"{path}:{node.lineno} uses random.{node.attr}"
        assert not (isinstance(node, ast.ImportFrom) and node.module == "random"), f"{path}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr != "Random", f"{path}:{node.lineno} makes a generator of its own"
