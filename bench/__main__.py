"""`python -m bench [SUITE…]`: run suites, print a table each, write bench/out/<suite>.json.

A suite is a module of this package with `run() -> list[dict]`, each dict with the keys name, value, unit,
compared_with (name of the other figure, or ""), ratio (ours against it, or None) and aim (text).
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SUITES = ("engine", "proofs", "tasks", "demo", "trust", "log", "chaos", "soak")
ASKED_FOR = ("soak",)  # half an hour: run only when it is named
OUT = Path(__file__).parent / "out"


def show(suite: str, figures: list[dict[str, Any]]) -> None:
    table = Table(title=f"{suite} ({platform.machine()}, {os.cpu_count()} cores)", title_justify="left")
    for column in ("figure", "value", "unit", "compared with", "ratio", "aim"):
        table.add_column(column, justify="right" if column in ("value", "ratio") else "left")
    for figure in figures:
        ratio = "" if figure["ratio"] is None else f"{figure['ratio']:.3g}"
        table.add_row(
            figure["name"],
            f"{figure['value']:.4g}",
            figure["unit"],
            figure["compared_with"] or "",
            ratio,
            figure["aim"] or "",
        )
    Console(width=140).print(table)


def main() -> int:
    names = sys.argv[1:] or [suite for suite in SUITES if suite not in ASKED_FOR]
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        print(f"no suite {', '.join(unknown)}: there are {', '.join(SUITES)}", file=sys.stderr)
        return 2
    OUT.mkdir(exist_ok=True)
    for name in names:
        figures = importlib.import_module(f"bench.{name}").run()
        show(name, figures)
        (OUT / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
