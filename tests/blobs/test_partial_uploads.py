"""Partial uploads in a store that several processes share: offsets, limits, races, full disks, expiry."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from shardy_common.blobs import DirectoryStore
from shardy_common.blobs import uploads as module
from shardy_common.blobs.uploads import LengthDiffers, TooManyUploads, Uploads, WrongOffset

DATA = os.urandom(300_000)
DIGEST = blake3(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def test_pieces_through_two_processes_make_a_blob(tmp_path: Path, store: DirectoryStore) -> None:
    """Two instances stand for two gateways: they share nothing but the folder."""
    ways = [Uploads(store), Uploads(DirectoryStore(tmp_path))]
    at = 0
    for turn, piece in enumerate((DATA[:1], DATA[1:100_000], DATA[100_000:100_000], DATA[100_000:])):
        way = ways[turn % 2]
        upload = way.begin("me", DIGEST, len(DATA))
        assert (upload.offset, upload.length) == (at, len(DATA)) and not store.has(DIGEST)
        at = way.append(upload, at, piece)
    assert ways[0].complete(upload, DIGEST) and store.read(DIGEST) == DATA
    assert ways[0].find("me", DIGEST) is None and ways[1].complete(upload, DIGEST), "a second one finds it done"


@pytest.mark.parametrize("size", [0, 1, 65_537])
def test_any_size(store: DirectoryStore, size: int) -> None:
    uploads, data = Uploads(store), DATA[:size]
    digest = blake3(data).hexdigest()
    upload = uploads.begin("me", digest, size)
    assert uploads.append(upload, 0, data) == size and uploads.complete(upload, digest)
    assert store.size(digest) == size and store.read(digest) == data


def test_one_wrong_bit_drops_it(store: DirectoryStore) -> None:
    uploads = Uploads(store)
    upload = uploads.begin("me", DIGEST, len(DATA))
    uploads.append(upload, 0, DATA[:-1] + bytes([DATA[-1] ^ 1]))
    assert not uploads.complete(upload, DIGEST)
    assert not store.has(DIGEST) and uploads.find("me", DIGEST) is None


@pytest.mark.parametrize("offset", [0, 9, 11, 10**12])
def test_a_piece_begins_where_it_stands(store: DirectoryStore, offset: int) -> None:
    uploads = Uploads(store)
    upload = uploads.begin("me", DIGEST, len(DATA))
    uploads.append(upload, 0, DATA[:10])
    with pytest.raises(WrongOffset) as wrong:
        uploads.append(upload, offset, b"x")
    assert wrong.value.offset == 10 == upload.path.stat().st_size
    with pytest.raises(WrongOffset):
        uploads.append(upload, 10, bytes(len(DATA)))
    assert upload.path.stat().st_size == 10, "nothing goes past the length"


def test_owners_are_apart_and_lengths_agree(store: DirectoryStore) -> None:
    uploads = Uploads(store)
    uploads.append(uploads.begin("me", DIGEST, 100), 0, b"mine")
    assert uploads.find("you", DIGEST) is None and uploads.begin("you", DIGEST, 50).offset == 0
    with pytest.raises(LengthDiffers) as differs:
        uploads.begin("me", DIGEST, 101)
    assert differs.value.length == 100
    assert not uploads.drop("them", DIGEST) and uploads.drop("me", DIGEST) and not uploads.drop("me", DIGEST)
    assert uploads.find("you", DIGEST) is not None
    for owner, digest in (("../up", DIGEST), ("", DIGEST), ("me", "../" + DIGEST), ("me", DIGEST.upper())):
        with pytest.raises(ValueError, match="none"):
            uploads.begin(owner, digest, 1)
        assert uploads.find(owner, digest) is None


def test_number_and_bytes_are_bounded(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UPLOADS_MAX", 3)
    monkeypatch.setattr(module, "UPLOAD_BYTES_MAX", 1_000)
    uploads = Uploads(store)
    names = [blake3(bytes([n])).hexdigest() for n in range(5)]
    uploads.begin("me", names[0], 600)
    with pytest.raises(TooManyUploads, match="bytes"):
        uploads.begin("me", names[1], 401)
    uploads.begin("me", names[1], 400)
    uploads.begin("me", names[2], 0)
    with pytest.raises(TooManyUploads, match="3 partial"):
        uploads.begin("me", names[3], 0)
    assert uploads.begin("me", names[0], 600).offset == 0, "those that began go on"
    uploads.begin("you", names[3], 1_000)
    uploads.drop("me", names[2])
    uploads.begin("me", names[4], 0)


def test_a_full_disk_takes_nothing_back(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = Uploads(store)
    upload = uploads.begin("me", DIGEST, len(DATA))
    uploads.append(upload, 0, DATA[:1_000])
    real, room = os.pwrite, [500]

    def full(fd: int, data: bytes, at: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        wrote = real(fd, bytes(data)[: room[0]], at)
        room[0] -= wrote
        return wrote

    monkeypatch.setattr(module.os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        uploads.append(upload, 1_000, DATA[1_000:])
    monkeypatch.undo()
    assert upload.path.read_bytes() == DATA[:1_000]
    uploads.append(upload, 1_000, DATA[1_000:])
    assert uploads.complete(upload, DIGEST)


def test_a_race_of_writers_makes_no_mixture(store: DirectoryStore) -> None:
    """Eight at once append the same pieces: each piece is taken once, whoever was first."""
    uploads, step = Uploads(store), 7_000
    upload = uploads.begin("me", DIGEST, len(DATA))

    def write() -> None:
        at = 0
        while at < len(DATA):
            try:
                at = uploads.append(upload, at, DATA[at : at + step])
            except WrongOffset as error:
                at = error.offset

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert upload.path.read_bytes() == DATA and uploads.complete(upload, DIGEST)


def test_the_idle_expire(store: DirectoryStore) -> None:
    uploads = Uploads(store)
    upload = uploads.begin("me", DIGEST, 10)
    uploads.append(upload, 0, b"12345")
    writer = store.writer()  # of a process that was killed
    writer.write(b"x")
    now = upload.path.stat().st_mtime
    assert uploads.sweep(now + module.EXPIRE_S - 5) == 0 and uploads.find("me", DIGEST) is not None
    assert uploads.sweep(now + module.EXPIRE_S + 5) == 2 and uploads.find("me", DIGEST) is None
    with pytest.raises(WrongOffset) as wrong:
        uploads.append(upload, 5, b"67890")
    assert wrong.value.offset == 0, "it begins anew"
