"""Suite `demo`: wall time of `make demo`, cold (a fresh clone with nothing installed) and warm (the second run)."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "shardy"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        cold, warm = _demo(clone), _demo(clone)
    return [
        {"name": "demo_cold_s", "value": cold, "unit": "s", "compared_with": "", "ratio": None, "aim": ""},
        {
            "name": "demo_warm_s",
            "value": warm,
            "unit": "s",
            "compared_with": "demo_cold_s",
            "ratio": warm / cold,
            "aim": "seconds",
        },
    ]


def _demo(clone: Path) -> float:
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL")}
    started = time.perf_counter()
    done = subprocess.run(
        ["make", "--no-print-directory", "demo"], cwd=clone, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"make demo failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - started
