"""Processes whose time of day is wrong, while their steady clock goes on as it should.

Done in Python (skewed/sitecustomize.py): libfaketime, which does it to any program, makes time.sleep fail on CPython
3.11 (EINVAL of clock_nanosleep), and time namespaces leave the time of day alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from shardy_common.stack import Stack

FOLDER = Path(__file__).parent / "skewed"


def shifted(hours: float) -> dict[str, str]:
    """What to add to a process's environment."""
    path = os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH", ""))))
    return {"PYTHONPATH": path, "SHARDY_SKEW_S": f"{hours * 3600:.0f}"}


class SkewedStack(Stack):
    """hours: how far off each process's clock is, by its name."""

    def __init__(self, data_dir: Path, hours: dict[str, float], **more: object) -> None:
        super().__init__(data_dir, **more)  # type: ignore[arg-type]
        self._hours = hours

    def _supervise(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        super()._supervise(name, argv, {**env, **(shifted(self._hours[name]) if name in self._hours else {})})
