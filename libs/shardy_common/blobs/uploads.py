"""Blobs that arrive in pieces: partial files beside the store, which end as blobs or are dropped.

A partial upload is one file, `incoming/partial/<owner>/<digest>-<length>`, and its size is where it stands: nothing
else has to be kept in step with it. Pieces are appended under a lock of that file, so they may come through several
processes that share the store. What was appended survives a killed process; a full disk takes nothing back but the
piece that did not fit.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import blake3

from shardy_common import ids
from shardy_common.blobs.store import DirectoryStore

try:
    import fcntl
except ImportError:  # no advisory locks on this platform: one process writes there
    fcntl = None  # type: ignore[assignment]

UPLOADS_MAX = 16  # partial uploads of one owner
UPLOAD_BYTES_MAX = 16 << 30  # of one owner, counted by the lengths that were announced
EXPIRE_S = 24 * 3600  # after its last piece


class WrongOffset(Exception):
    """The piece does not begin where the upload stands."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the upload stands at {offset}")
        self.offset = offset


class LengthDiffers(Exception):
    """Another length was announced with an earlier piece."""

    def __init__(self, length: int) -> None:
        super().__init__(f"the upload began with the length {length}")
        self.length = length


class TooManyUploads(Exception):
    """The text names the limit that was passed."""


@dataclass(frozen=True, slots=True)
class Partial:
    """Where an upload stands: offset of length bytes are here."""

    path: Path
    length: int
    offset: int


class Uploads:
    def __init__(self, store: DirectoryStore) -> None:
        self._store = store
        self.root = store.root / "incoming" / "partial"

    def find(self, owner: str, digest: str) -> Partial | None:
        for path in self._of(owner):
            name, _, length = path.name.partition("-")
            if name == digest:
                with contextlib.suppress(FileNotFoundError):  # it was completed or dropped just now
                    return Partial(path, int(length), path.stat().st_size)
        return None

    def begin(self, owner: str, digest: str, length: int) -> Partial:
        """The upload as it stands, made if it is new. LengthDiffers; TooManyUploads; OSError when the disk is full."""
        if not ids.is_token(owner) or not ids.is_digest(digest) or length < 0:
            raise ValueError("owner, digest or length is none")
        folder = self.root / owner
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock"):  # two first pieces at once must agree on the length, and on what is left
            found = self.find(owner, digest)
            if found is None:
                lengths = [int(path.name.partition("-")[2]) for path in self._of(owner)]
                if len(lengths) >= UPLOADS_MAX:
                    raise TooManyUploads(f"{UPLOADS_MAX} partial uploads")
                if sum(lengths) + length > UPLOAD_BYTES_MAX:
                    raise TooManyUploads(f"{UPLOAD_BYTES_MAX} bytes of partial uploads")
                found = Partial(folder / f"{digest}-{length}", length, 0)
                found.path.touch(mode=0o600)
        if found.length != length:
            raise LengthDiffers(found.length)
        return found

    def append(self, upload: Partial, offset: int, data: bytes | memoryview) -> int:
        """The new offset. WrongOffset when the upload does not stand at `offset` (or is gone); OSError with everything
        as before."""
        with _opened(upload.path) as fd:
            size = os.fstat(fd).st_size if fd >= 0 else 0
            if fd < 0 or size != offset or size + len(data) > upload.length:
                raise WrongOffset(size)
            written = 0
            try:
                while written < len(data):
                    written += os.pwrite(fd, memoryview(data)[written:], size + written)
            except OSError:
                os.ftruncate(fd, size)
                raise
            return size + written

    def complete(self, upload: Partial, digest: str) -> bool:
        """Check the digest over the whole, with all cores, and make it a blob. False: it did not fit, it is gone."""
        with _opened(upload.path) as fd:
            if fd < 0:  # another request completed it, or found that it does not fit
                return self._store.has(digest)
            hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
            if upload.length:
                hasher.update_mmap(upload.path)
            if os.fstat(fd).st_size != upload.length or hasher.hexdigest() != digest:
                upload.path.unlink(missing_ok=True)
                return False
            self._store.adopt(upload.path, digest)
            return True

    def drop(self, owner: str, digest: str) -> bool:
        found = self.find(owner, digest)
        if found is None:
            return False
        found.path.unlink(missing_ok=True)
        return True

    def sweep(self, now_s: float | None = None) -> int:
        """Remove what had no piece for EXPIRE_S, and what writers of killed processes left. How many files."""
        before = (time.time() if now_s is None else now_s) - EXPIRE_S
        gone = 0
        for path in [*self.root.glob("*/*-*"), *self._store.root.glob("incoming/*-*")]:
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_mtime < before:
                    path.unlink()
                    gone += 1
        return gone

    def _of(self, owner: str) -> list[Path]:
        return sorted((self.root / owner).glob("*-*")) if ids.is_token(owner) else []


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor of the file that has the name now, locked; -1 if there is none."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield -1
        return
    try:
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd if _same(fd, path) else -1
    finally:
        os.close(fd)


def _same(fd: int, path: Path) -> bool:
    """Whether the file still has the name: it may have been renamed or removed while we waited for the lock."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
