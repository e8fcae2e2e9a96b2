"""The directory store: what was put is read, by several processes, and a full disk spoils nothing."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from shardy_common.blobs import PACKED_BYTES_MAX, DirectoryStore, MissingBlob


def named(data: bytes) -> tuple[str, bytes]:
    return blake3(data).hexdigest(), data


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    store = DirectoryStore(tmp_path / "blobs")
    yield store
    store.close()


def put_large(store: DirectoryStore, data: bytes) -> str:
    writer = store.writer()
    for at in range(0, len(data), 1000):
        writer.write(data[at : at + 1000])
    digest, size = writer.finish()
    assert size == len(data)
    return digest


def packed_bytes(store: DirectoryStore) -> int:
    return sum(path.stat().st_size for path in (store.root / "packs").glob("*.pack"))


@pytest.mark.parametrize("kind", ["small", "large"])
def test_put_has_size_read(store: DirectoryStore, kind: str) -> None:
    digest, data = named(os.urandom(5000))
    assert not store.has(digest) and store.size(digest) is None
    if kind == "small":
        store.put_small([(digest, memoryview(data))])
    else:
        assert put_large(store, data) == digest
    assert store.has(digest) and store.size(digest) == 5000
    assert store.read(digest) == data
    for offset, length in [(0, 0), (0, 1), (4999, 1), (5000, 0), (17, 4000)]:
        assert store.read(digest, offset, length) == data[offset : offset + length]
    assert store.read(digest, 4990) == data[4990:]
    for offset, length in [(0, 5001), (5000, 1), (-1, 5), (10, -1), (6000, None)]:
        with pytest.raises(ValueError, match="5000 bytes"):
            store.read(digest, offset, length)


@pytest.mark.parametrize("kind", ["small", "large"])
def test_arrays_are_read_only_and_start_anywhere(store: DirectoryStore, kind: str) -> None:
    values = np.arange(60, dtype="<i4")
    digest, data = named(values.tobytes())
    if kind == "small":
        store.put_small([(digest, data)])
    else:
        put_large(store, data)
    array = store.array(digest, "<i4", (5, 10), 40)
    assert np.array_equal(array, values[10:].reshape(5, 10)) and not array.flags.writeable
    with pytest.raises(ValueError):
        store.array(digest, "<i4", (6, 10), 40)


def test_a_missing_blob_is_said_to_be_missing(store: DirectoryStore) -> None:
    digest, _ = named(b"nobody put this")
    for read in (lambda: store.read(digest), lambda: store.array(digest, "i1", (1,))):
        with pytest.raises(MissingBlob):
            read()


def test_the_same_bytes_are_kept_once(store: DirectoryStore) -> None:
    item = named(os.urandom(1000))
    store.put_small([item, item])
    store.put_small([item])
    store.put_small(iter([item, named(b"other")]))
    assert packed_bytes(store) == 1005
    digest = put_large(store, item[1])
    assert digest == item[0] and store.read(digest) == item[1]


def test_an_empty_batch_and_an_empty_blob(store: DirectoryStore) -> None:
    store.put_small([])
    digest, data = named(b"")
    store.put_small([(digest, data)])
    assert store.size(digest) == 0 and store.read(digest) == b""


def test_an_abandoned_blob_leaves_nothing(store: DirectoryStore) -> None:
    writer = store.writer()
    writer.write(b"half of it")
    digest = writer.hexdigest()
    writer.abandon()
    assert not store.has(digest) and not list((store.root / "incoming").iterdir())


def test_packs_are_opened_again_however_many(store: DirectoryStore) -> None:
    items = []
    for i in range(70):  # more packs than are held open at once
        store._pack_at = 1 << 31
        items.append(named(b"blob %d" % i))
        store.put_small([items[-1]])
    assert all(store.read(digest) == data for digest, data in items * 2)


@pytest.mark.parametrize("bytes_before_full", [0, 1, 1500])
def test_a_full_disk_spoils_nothing(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, bytes_before_full: int
) -> None:
    before, lost = named(os.urandom(700)), [named(os.urandom(1000)), named(os.urandom(900))]
    store.put_small([before])
    real, room = os.write, bytes_before_full

    def full(fd: int, data: Any) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "no space left on device")
        n = real(fd, bytes(data)[:room])
        room -= n
        return n

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for _ in range(2):
            with pytest.raises(OSError, match="no space"):
                store.put_small(lost)
            assert not any(store.has(digest) for digest, _ in lost)
    assert store.read(before[0]) == before[1]
    store.put_small(lost)
    after = named(os.urandom(50))
    store.put_small([after])
    again = DirectoryStore(store.root)
    for digest, data in [before, *lost, after]:
        assert store.read(digest) == again.read(digest) == data
        assert blake3(again.read(digest)).hexdigest() == digest
    again.close()


def test_an_index_that_cannot_grow_is_a_full_disk_too(store: DirectoryStore) -> None:
    store.put_small([named(b"first")])
    pages = store._index._rows.execute("PRAGMA page_count").fetchone()[0]
    store._index._rows.execute(f"PRAGMA max_page_count = {pages}")
    lost = [named(os.urandom(10)) for _ in range(2000)]
    for _ in range(2):
        with pytest.raises(OSError):
            store.put_small(lost)
    store._index._rows.execute("PRAGMA max_page_count = 1000000")
    store.put_small(lost)
    assert all(store.read(digest) == data for digest, data in lost)


def test_put_takes_blobs_of_any_size_once(store: DirectoryStore) -> None:
    sizes = (0, 1, PACKED_BYTES_MAX - 1, PACKED_BYTES_MAX, PACKED_BYTES_MAX + 1, 300_000)
    blobs = [named(os.urandom(size)) for size in sizes]
    store.put(blobs)
    before = packed_bytes(store), sorted(path.name for path in store.root.glob("large/*/*"))
    assert before == (
        sum(size for size in sizes if size <= PACKED_BYTES_MAX),
        sorted(digest for digest, data in blobs if len(data) > PACKED_BYTES_MAX),
    )
    store.put((digest, memoryview(data)) for digest, data in blobs)
    assert (packed_bytes(store), sorted(path.name for path in store.root.glob("large/*/*"))) == before
    assert all(store.read(digest) == data for digest, data in blobs)


def test_put_on_a_full_disk_leaves_nothing_behind(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_source: Any, _target: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    large, small = named(os.urandom(PACKED_BYTES_MAX + 1)), named(b"small")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="no space"):
            store.put([small, large])
    assert not store.has(large[0]) and not store.has(small[0]) and list((store.root / "incoming").iterdir()) == []
    store.put([small, large])
    assert store.read(large[0]) == large[1] and store.read(small[0]) == small[1]


def test_a_large_blob_on_a_full_disk(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_source: Any, _target: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    writer = store.writer()
    writer.write(b"x" * 100_000)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError):
            writer.finish()
        writer.abandon()
    assert not list((store.root / "incoming").iterdir())
    assert store.read(put_large(store, b"x" * 100_000)) == b"x" * 100_000


def _writer_process(root: Path, start: int, done: Any) -> None:
    store = DirectoryStore(root)
    for batch in range(20):
        store.put_small([named(b"blob %d" % (start + batch * 10 + i)) for i in range(15)])
    done.put(put_large(store, b"large %d" % start * 10_000))
    store.close()


def test_processes_share_one_root(store: DirectoryStore) -> None:
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    writers = [context.Process(target=_writer_process, args=(store.root, start, done)) for start in (0, 100)]
    for writer in writers:
        writer.start()
    for batch in range(20):
        store.put_small([named(b"blob %d" % (50 + batch * 10 + i)) for i in range(15)])
    large = [done.get(timeout=30) for _ in writers]
    for writer in writers:
        writer.join(30)
        assert writer.exitcode == 0
    for i in range(305):
        digest, data = named(b"blob %d" % i)
        assert store.read(digest) == data
    assert sorted(blake3(store.read(d)).hexdigest() for d in large) == sorted(large)


def test_a_process_killed_while_writing_leaves_the_others_whole(store: DirectoryStore) -> None:
    """Bytes of a pack that no index row names are dead weight, not a corrupt store."""
    store.put_small([named(b"whole")])
    pack = next((store.root / "packs").glob("*.pack"))
    with pack.open("ab") as file:
        file.write(b"torn off")
    again = DirectoryStore(store.root)
    again.put_small([named(b"later")])
    assert again.read(named(b"whole")[0]) == b"whole" and again.read(named(b"later")[0]) == b"later"
    again.close()
    with sqlite3.connect(store.root / "packs" / "index.db") as index:
        assert index.execute("PRAGMA integrity_check").fetchone() == ("ok",)
