"""Receipts checked in TypeScript, in Node, and how its reports are compared with those in Python."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from made_receipts import MESH

from shardy_common.receipts import Report

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web-worker"
MODULES = [ROOT / f"libs/shardy_common/{name}.wasm" for name in ("engine/shardy_engine", "proofs/prover")]
KEYS = [MESH.key]
Both = Callable[..., list[bool]]

# Where the words are those of a library, or of many a rule, what comes after them may be others.
OWN_WORDS = re.compile(
    r"(this is no receipt of the format [^:]*|this is no job that a mesh takes|is no task statement): "
)


class Checker:
    """The TypeScript's, in Node."""

    def __init__(self, driver: Path, scratch: Path) -> None:
        self._driver, self._scratch = driver, scratch

    def __call__(self, cases: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """receipt: bytes. mesh_keys. arrays: contents of .npy files by name, if any. A report for each, and arrays'."""
        asked, answered = self._scratch / "cases", self._scratch / "reports"
        with asked.open("w", encoding="ascii") as file:
            for case in cases:
                arrays = {name: base64.b64encode(data).decode() for name, data in case.get("arrays", {}).items()}
                more = {"arrays": arrays} if arrays else {}
                receipt = base64.b64encode(case["receipt"]).decode()
                print(json.dumps({"receipt": receipt, "mesh_keys": case["mesh_keys"], **more}), file=file)
        command = ["node", self._driver, *MODULES, asked, answered]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        return [json.loads(line) for line in answered.read_text(encoding="utf-8").split("\n") if line]


def told(report: Report) -> dict[str, Any]:
    """A report as the driver writes it."""
    values = {field.name: getattr(report, field.name) for field in fields(report)}
    plain = {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}
    return {**plain, "ops": str(report.ops)}


def comparable(report: dict[str, Any], words: bool = True) -> dict[str, Any]:
    if not words:
        return {**report, "problems": len(report["problems"])}
    problems = [text[: found.end()] if (found := OWN_WORDS.search(text)) else text for text in report["problems"]]
    return {**report, "problems": problems}
