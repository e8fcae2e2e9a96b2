"""Style that a formatter does not keep: lengths, sizes, and words that have no place in a repository."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout.split(
    "\0"
)[:-1]
FILES = [path for path in TRACKED if (ROOT / path).is_file()]
CODE = (".py", ".ts", ".mjs", ".js", ".circom", ".sh", ".css")
GENERATED = ("web-worker/src/kernels/",)
PRAGMA = re.compile(r"\s*# (?:type: ignore|noqa|fmt: skip).*")  # as in the linter, it does not count
LINES_MAX = 420
# word and letter classes keep these patterns from matching themselves
UNFINISHED = re.compile(r"\b(TO[D]O|FIX[M]E|X[X]X)\b")
OF_THIS_MACHINE = re.compile(r"(?<![\w.~}])/(?:w[o]rk|r[o]ot|home/[a-z]+)/[A-Za-z._]|/tmp/[b]ash|/opt/[a-z]+env")
HOSTS = re.compile(r"https?://(?:[\w.-]*\b(?:artifactory|nexus|proxy|mirror|registry)[\w.-]*|10\.\d+\.\d+\.\d+)[:/]")


def text_of(path: str) -> str:
    data = (ROOT / path).read_bytes()
    return "" if b"\0" in data[:8000] else data.decode("utf-8")


def test_nothing_is_too_large() -> None:
    assert [path for path in FILES if (ROOT / path).stat().st_size > 5 * 2**20] == []


def test_no_line_of_code_is_too_long() -> None:
    long = [
        f"{path}:{number}"
        for path in FILES
        if path.endswith(CODE) and not path.startswith(GENERATED)
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if len(PRAGMA.sub("", line)) > 120
    ]
    assert long == []


def test_modules_stay_readable() -> None:
    long = {
        path: lines
        for path in FILES
        if path.endswith((".py", ".ts", ".rs")) and not path.startswith("tests/")
        if (lines := text_of(path).count("\n")) > LINES_MAX
    }
    assert long == {}


@pytest.mark.parametrize("pattern", [UNFINISHED, OF_THIS_MACHINE], ids=["unfinished work", "paths of one machine"])
def test_words_that_do_not_belong(pattern: re.Pattern[str]) -> None:
    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path in FILES
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_no_private_package_hosts() -> None:
    found = [f"{path}: {match[0]}" for path in FILES for match in HOSTS.finditer(text_of(path))]
    assert found == []


def test_the_patterns_can_find_something() -> None:
    assert UNFINISHED.search("# TO" + "DO: later") and OF_THIS_MACHINE.search("cd /wo" + "rk/main")
    assert HOSTS.search("https://nex" + "us.example.org/simple") and not OF_THIS_MACHINE.search("x/work/y")


def test_every_package_is_installed() -> None:
    """Where the sources are installed in place, one that is missing in the list is found all the same."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    roots = {name: ROOT / folder for name, folder in tool["package-dir"].items()}
    found = {
        ".".join((name, *init.parent.relative_to(root).parts))
        for name, root in roots.items()
        for init in root.rglob("__init__.py")
        if "node_modules" not in init.parts
    }
    assert found == set(tool["packages"])


def test_no_two_files_of_tests_have_one_name() -> None:
    """They are imported by their names alone, so the second would not be collected."""
    names = [Path(path).name for path in FILES if re.fullmatch(r"tests/.*/test_\w+\.py", path)]
    assert [name for name in sorted(set(names)) if names.count(name) > 1] == []
