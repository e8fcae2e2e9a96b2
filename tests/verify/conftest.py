"""Fixture `both`: receipts checked in Python and in TypeScript, whose answers must be the same."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from typing import Any

import pytest
from both_checkers import KEYS, WEB, Both, Checker, comparable, told

from shardy_common.receipts import check


@pytest.fixture(scope="session")
def typescript(tmp_path_factory: pytest.TempPathFactory) -> Checker:
    vite = WEB / "node_modules/.bin/vite"
    if shutil.which("node") is None or not vite.exists():
        pytest.skip("the web worker's packages are not installed: npm ci in web-worker/")
    out = tmp_path_factory.mktemp("verify")
    command = [str(vite), "build", "--config", "tests/verify/vite.config.ts", "--logLevel", "error"]
    done = subprocess.run(
        [*command, "--outDir", str(out), "--emptyOutDir"], cwd=WEB, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Checker(out / "driver.mjs", out)


@pytest.fixture
def both(typescript: Checker) -> Both:
    """`both(cases)` of (what, receipt) pairs, a receipt being a document or bytes: whether each is right, if the two
    agree about everything that they say of each; words=False: but for the words in which they say it."""

    def both(cases: Iterable[tuple[str, Any]], words: bool = True) -> list[bool]:
        named = [
            (what, receipt if isinstance(receipt, bytes) else json.dumps(receipt, ensure_ascii=False).encode())
            for what, receipt in cases
        ]
        answers = typescript({"receipt": data, "mesh_keys": KEYS} for _, data in named)
        assert len(answers) == len(named)
        found, differing = [], []
        for (what, data), answer in zip(named, answers, strict=True):
            report = told(check(data, mesh_keys=KEYS))
            if comparable(report, words) != comparable(answer["report"], words):
                differing.append((what, *((r["problems"], r) for r in (report, answer["report"]))))
            found.append(not report["problems"])
        assert not differing, f"{len(differing)} of {len(named)}, as {differing[:3]}"
        return found

    return both
