"""Content-addressed blobs in a directory that the services of one host share.

Large blobs are a file each, written aside and renamed. Small ones (a mesh makes thousands of small results a second)
are appended to a pack file of the writing process, with an index in SQLite: one write and one transaction a batch.
An address is the hex BLAKE3 of the bytes; a name that differs from its bytes never gets in.
"""

from __future__ import annotations

import os
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import blake3
import numpy as np

from shardy_common.blobs.index import PackIndex, Place

PACKED_BYTES_MAX = 64 * 1024
_OPEN_FILES_MAX = 64
_LOCATED_MAX = 10_000
_MAPPED_BYTES_MIN = 1 << 20


class BlobStore(Protocol):
    def has(self, digest: str) -> bool: ...

    def size(self, digest: str) -> int | None: ...

    def read(self, digest: str, offset: int = 0, length: int | None = None) -> bytes: ...

    def put_small(self, items: Iterable[tuple[str, bytes | memoryview]]) -> None: ...

    def put(self, items: Iterable[tuple[str, bytes | memoryview]]) -> None: ...

    def writer(self) -> BlobWriter: ...


class MissingBlob(KeyError):
    """The store has no such blob."""


class BlobWriter:
    """Streams one blob in. finish() gives (digest, size) and makes it visible; abandon() drops it."""

    def __init__(self, store: DirectoryStore, expected: str | None = None) -> None:
        self._store, self._expected = store, expected
        self._temp = store.root / "incoming" / f"{os.getpid()}-{secrets.token_hex(8)}"
        self._file = open(self._temp, "wb")  # noqa: SIM115 - closed in finish or abandon
        self._hash = blake3.blake3()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._file.write(data)
        self.size += len(data)

    def finish(self) -> tuple[str, int]:
        digest = self._hash.hexdigest()
        self._file.close()
        self._store.adopt(self._temp, digest)
        return digest, self.size

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def abandon(self) -> None:
        self._file.close()
        self._temp.unlink(missing_ok=True)


class DirectoryStore:
    """root is made if it is missing. One instance per process; reads of any blob, writes to a pack of its own."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        for name in ("incoming", "packs", "large"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self._index = PackIndex(self.root / "packs" / "index.db")
        self._pack_name = ""
        self._pack_fd = -1
        self._pack_at = 0
        self._open: OrderedDict[str, int] = OrderedDict()  # file below root → descriptor
        self._located: OrderedDict[str, tuple[str, int, int]] = OrderedDict()
        self._recent: OrderedDict[str, None] = OrderedDict()  # digests known to be packed: replicas repeat them

    def put_small(self, items: Iterable[tuple[str, bytes | memoryview]]) -> None:
        """Store blobs of at most PACKED_BYTES_MAX under digests that the caller computed; durable against a crash of
        this process when it returns."""
        places, chunks, fresh = [], [], set()
        if self._pack_fd < 0 or self._pack_at > 1 << 30:
            self._new_pack()
        at = self._pack_at
        for digest, data in items:
            if digest in self._recent or digest in fresh:
                continue
            fresh.add(digest)
            chunks.append(data)
            places.append(Place(bytes.fromhex(digest), self._pack_name, at, len(data)))
            at += len(data)
        if not places:
            return
        blob = b"".join(chunks)
        written = 0
        try:
            while written < len(blob):  # a full disk raises here, before anything points at the bytes
                written += os.write(self._pack_fd, memoryview(blob)[written:])
        except OSError:
            self._pack_at = 1 << 31  # what was written in part is never referred to: the next call takes a new pack
            raise
        self._pack_at = at
        self._index.add(places)
        for digest in fresh:
            self._recent[digest] = None
        while len(self._recent) > 50_000:
            self._recent.popitem(last=False)

    def put(self, items: Iterable[tuple[str, bytes | memoryview]]) -> None:
        """Store blobs of any size under digests that the caller computed: small ones in one write, a file for each of
        the others that is not there yet."""
        small = []
        for digest, data in items:
            if len(data) <= PACKED_BYTES_MAX:
                small.append((digest, data))
            elif not self.has(digest):
                writer = self.writer()
                try:
                    writer.write(data)
                    writer.finish()
                except OSError:
                    writer.abandon()
                    raise
        self.put_small(small)

    def writer(self) -> BlobWriter:
        return BlobWriter(self)

    def adopt(self, path: Path, digest: str) -> None:
        """Make a file of the same file system a blob. The caller has checked that its bytes have this digest."""
        target = self._path(digest)
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)

    def has(self, digest: str) -> bool:
        return self.size(digest) is not None

    def size(self, digest: str) -> int | None:
        try:
            return self._locate(digest)[2]
        except MissingBlob:
            return None

    def read(self, digest: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes [offset, offset+length). Raises MissingBlob; ValueError when the range is outside."""
        name, at, size = self._locate(digest)
        fd = self._fd(name)
        n = size - offset if length is None else length
        if offset < 0 or n < 0 or offset + n > size:
            raise ValueError(f"bytes {offset} to {offset + n} of a blob of {size} bytes")
        out = os.pread(fd, n, at + offset)
        while len(out) < n:
            out += os.pread(fd, n - len(out), at + offset + len(out))
        return out

    def array(self, digest: str, dtype: str, shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
        """A read-only array over the bytes from offset: memory-mapped for large blobs, read for packed ones."""
        count = int(np.prod(shape))
        name, _, _ = self._locate(digest)
        size = count * np.dtype(dtype).itemsize
        if name.startswith("packs/") or size <= _MAPPED_BYTES_MIN:  # mapping a few rows costs more than reading them
            return np.frombuffer(self.read(digest, offset, size), dtype).reshape(shape)
        return np.memmap(self.root / name, dtype=dtype, mode="r", offset=offset, shape=shape)

    def close(self) -> None:
        self._index.close()
        for fd in self._open.values():
            os.close(fd)
        if self._pack_fd >= 0:
            os.close(self._pack_fd)

    def _locate(self, digest: str) -> tuple[str, int, int]:
        """(file below root, offset, size). Blobs never change, so where one lies is remembered."""
        known = self._located.get(digest)
        if known is not None:
            return known
        row = self._index.find(bytes.fromhex(digest))
        if row is not None:
            found = ("packs/" + row[0], row[1], row[2])
        else:
            name = f"large/{digest[:2]}/{digest}"
            try:
                found = (name, 0, (self.root / name).stat().st_size)
            except OSError:
                raise MissingBlob(digest) from None
        self._located[digest] = found
        if len(self._located) > _LOCATED_MAX:
            self._located.popitem(last=False)
        return found

    def _path(self, digest: str) -> Path:
        return self.root / "large" / digest[:2] / digest

    def _new_pack(self) -> None:
        if self._pack_fd >= 0:
            os.close(self._pack_fd)
        self._pack_name = f"{os.getpid()}-{secrets.token_hex(6)}.pack"
        path = self.root / "packs" / self._pack_name
        self._pack_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._pack_at = 0

    def _fd(self, name: str) -> int:
        fd = self._open.get(name)
        if fd is None:
            fd = os.open(self.root / name, os.O_RDONLY)
            self._open[name] = fd
            if len(self._open) > _OPEN_FILES_MAX:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(name)
        return fd
