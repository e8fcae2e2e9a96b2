"""Small disks: file systems of a few MiB in memory that can be filled, and made larger. Needs the right to mount."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from types import TracebackType

PIECE = 4096  # a page, so that nothing is left


class SmallDisk:
    """`with SmallDisk(folder, mib) as disk:` mounts one; why_not: what kept it from being mounted, else empty."""

    def __init__(self, folder: Path, mib: int) -> None:
        self.folder, self.mib, self.why_not = folder, mib, ""

    def __enter__(self) -> SmallDisk:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.why_not = _run("mount", "-t", "tmpfs", "-o", f"size={self.mib}m", "tmpfs", str(self.folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.why_not:
            _run("umount", "--lazy", str(self.folder))

    def fill(self) -> Path:
        """A file that takes all the room there is, whoever else takes some meanwhile."""
        filler = self.folder / "filler"
        with open(filler, "wb", buffering=0) as out, contextlib.suppress(OSError):
            while True:
                out.write(bytes(PIECE))
        return filler

    def enlarge(self, mib: int) -> None:
        """Give it more room while it is in use."""
        if why := _run("mount", "-o", f"remount,size={mib}m", str(self.folder)):
            raise RuntimeError(why)


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return (done.stderr.strip() or f"{command[0]} failed") if done.returncode else ""
