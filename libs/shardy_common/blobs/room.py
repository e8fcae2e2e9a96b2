"""How much more may be uploaded: a limit of the store's bytes, and a floor of free disk that only results may use.

Uploads are refused before the disk is full, so that jobs that run can still hand in their results, and the log and the
projections beside the store go on. What others write into the store is seen at the next `measure`; the disk itself is
looked at each time.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

SMALL_DISK_PART = 64  # the floor is at most such a part of the disk


class NoRoom(Exception):
    """The text says which limit was met."""


class StoreRoom:
    def __init__(self, root: Path, bytes_max: int, free_bytes_min: int) -> None:
        self._root, self.bytes_max, self._free_min = root, bytes_max, free_bytes_min
        self.used = 0

    def measure(self) -> int:
        """Count the bytes of all files of the store; takes as long as it has files, so not in the event loop."""
        self.used = _size_of(self._root)
        return self.used

    def wrote(self, count: int) -> None:
        self.used += count

    def free(self) -> tuple[int, int]:
        """Free bytes of the disk, and how many of them uploads must leave."""
        try:
            disk = os.statvfs(self._root)
        except (OSError, AttributeError):  # a platform that does not tell
            return 1 << 62, 0
        return disk.f_bavail * disk.f_frsize, min(self._free_min, disk.f_blocks * disk.f_frsize // SMALL_DISK_PART)

    def check(self, count: int) -> None:
        """NoRoom unless so many bytes may come."""
        if self.used + count > self.bytes_max:
            raise NoRoom(f"the blob store holds {self.used} of at most {self.bytes_max} bytes")
        free, floor = self.free()
        if free - count < floor:
            raise NoRoom(f"the disk of the blob store has {free} bytes left, of which uploads must leave {floor}")


def _size_of(folder: Path) -> int:
    size = 0
    folders = [str(folder)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # gone since
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
    return size
