"""What uploads must leave: the store's limit, the disk's floor."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from shardy_common.blobs import DirectoryStore, NoRoom, StoreRoom


def test_the_store_is_measured_with_packs_large_blobs_and_partial_uploads(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    room = StoreRoom(store.root, 10_000_000, 0)
    before = room.measure()
    writer = store.writer()
    writer.write(bytes(100_000))
    writer.finish()
    (tmp_path / "incoming" / "partial").mkdir()
    (tmp_path / "incoming" / "partial" / "x-5").write_bytes(bytes(7_000))
    assert room.measure() - before == 107_000
    store.close()


def test_uploads_end_at_the_limit_and_go_on_when_it_is_raised(tmp_path: Path) -> None:
    room = StoreRoom(tmp_path, 1_000, 0)
    room.check(1_000)
    with pytest.raises(NoRoom, match="holds 0 of at most 1000 bytes"):
        room.check(1_001)
    room.wrote(600)
    room.check(400)
    with pytest.raises(NoRoom, match="holds 600"):
        room.check(401)
    room.bytes_max = 2_000
    room.check(401)
    room.measure()
    room.check(1_500)  # what is gone from the disk counts no more


@pytest.mark.parametrize(
    ("free_blocks", "floor", "count", "fits"),
    [(100, 10, 90, True), (100, 10, 91, False), (9, 10, 0, False), (10, 10, 0, True), (99, 0, 99, True),
     (100, 0, 101, False)],
)  # fmt: skip
def test_a_floor_of_free_disk_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_blocks: int, floor: int, count: int, fits: bool
) -> None:
    disk = SimpleNamespace(f_bavail=free_blocks, f_frsize=1, f_blocks=10_000)
    monkeypatch.setattr(os, "statvfs", lambda _path: disk)
    room = StoreRoom(tmp_path, 1 << 40, floor)
    if fits:
        room.check(count)
    else:
        with pytest.raises(NoRoom, match=f"{free_blocks} bytes left, of which uploads must leave {floor}"):
            room.check(count)


def test_the_floor_of_a_small_disk_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=640, f_frsize=1, f_blocks=640))
    assert StoreRoom(tmp_path, 1 << 40, 256 << 20).free() == (640, 10)
