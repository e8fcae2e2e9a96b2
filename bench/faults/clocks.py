"""Processes whose clocks are wrong: libfaketime shifts the time of day, and leaves the steady clock alone."""

from __future__ import annotations

from pathlib import Path

from shardy_common.stack import Stack

LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")


def library() -> str:
    """Where libfaketime is; empty where it is not installed."""
    found = [path for pattern in LIBRARIES for path in Path("/").glob(pattern.lstrip("/"))]
    return str(found[0]) if found else ""


def shifted(hours: float) -> dict[str, str]:
    """What to add to a process's environment."""
    return {"LD_PRELOAD": library(), "FAKETIME": f"{hours * 3600:+.0f}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


class SkewedStack(Stack):
    """hours: how far off each process's clock is, by its name."""

    def __init__(self, data_dir: Path, hours: dict[str, float], **more: object) -> None:
        super().__init__(data_dir, **more)  # type: ignore[arg-type]
        self._hours = hours

    def _supervise(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        super()._supervise(name, argv, {**env, **(shifted(self._hours[name]) if name in self._hours else {})})
