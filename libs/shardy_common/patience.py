"""How long to wait for what may take long: until nothing has moved for a time, not until a time has passed."""

from __future__ import annotations

from pathlib import Path


class Patience:
    """Pure. Every new sign of progress begins the time anew. Times are seconds of a steady clock."""

    def __init__(self, limit_s: float, now_s: float, sign: object = None) -> None:
        self._limit_s, self._until_s, self._sign = limit_s, now_s + limit_s, sign

    def lasts(self, now_s: float, sign: object) -> bool:
        if sign != self._sign:
            self._sign, self._until_s = sign, now_s + self._limit_s
        return now_s < self._until_s


def written(folder: Path) -> int:
    """When anything in this folder was last written to, in the file system's nanoseconds; 0 for never."""
    newest = 0
    if folder.is_dir():
        for path in folder.iterdir():
            try:
                newest = max(newest, path.stat().st_mtime_ns)
            except OSError:  # it was just removed
                continue
    return newest
