"""The index of packed blobs: parts fill up one after another, and whatever stands in any of them is found."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from shardy_common.blobs import DirectoryStore, index
from shardy_common.blobs.index import PackIndex, Place, pack_ends, places, sizes

ROWS = 10


def place(number: int, pack: str = "one.pack") -> Place:
    return Place(blake3(b"%d" % number).digest(), pack, 7 * number, 7)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(index, "PART_ROWS", ROWS)
    return tmp_path / "index.db"


@pytest.fixture
def rows(path: Path) -> Iterator[PackIndex]:
    rows = PackIndex(path)
    yield rows
    rows.close()


def parts(path: Path) -> list[tuple[int, int]]:
    with sqlite3.connect(path) as connection:
        said = connection.execute("SELECT n, rows FROM parts ORDER BY n").fetchall()
        held = connection.execute("SELECT part, COUNT(*) FROM places GROUP BY part ORDER BY part").fetchall()
    assert said == held
    return said


def test_only_the_newest_part_grows_and_all_are_searched(path: Path, rows: PackIndex) -> None:
    for start in range(0, 36, 4):
        rows.add([place(n) for n in range(start, start + 4)])
    assert parts(path) == [(0, 12), (1, 12), (2, 12)]
    assert [rows.find(place(n).digest) for n in range(36)] == [("one.pack", 7 * n, 7) for n in range(36)]
    assert rows.find(place(36).digest) is None


def test_two_processes_share_the_parts(path: Path, rows: PackIndex) -> None:
    other = PackIndex(path)
    for n in range(0, 30, 2):
        rows.add([place(n)])
        other.add([place(n + 1, "two.pack")])
    assert parts(path) == [(0, 10), (1, 10), (2, 10)]
    for n in range(30):
        pack = "two.pack" if n % 2 else "one.pack"
        assert rows.find(place(n).digest) == other.find(place(n).digest) == (pack, 7 * n, 7)
    other.close()


def test_what_stands_in_two_parts_is_one_blob(path: Path, rows: PackIndex) -> None:
    rows.add([place(n) for n in range(10)])
    rows.add([place(3, "two.pack"), place(10, "two.pack")])
    assert rows.find(place(3).digest) in {("one.pack", 21, 7), ("two.pack", 21, 7)}
    with sqlite3.connect(path) as connection:
        assert sorted(sizes(connection)) == sorted((place(n).digest, 7) for n in range(11))
        assert sorted(pack_ends(connection)) == [("one.pack", 70), ("two.pack", 77)]
        listed = list(places(connection))
    assert [(p.pack, p.at) for p in listed] == sorted((p.pack, p.at) for p in listed) and len(listed) == 12


def test_an_index_without_parts_is_read_and_taken_over(path: Path) -> None:
    with sqlite3.connect(path) as old:
        old.execute("CREATE TABLE packed (digest BLOB PRIMARY KEY, pack TEXT, at INTEGER, size INTEGER) WITHOUT ROWID")
        old.executemany("INSERT INTO packed VALUES (?,?,?,?)", [place(n) for n in range(25)])
        old.commit()
        before = list(places(old)), sorted(sizes(old)), pack_ends(old)
    rows = PackIndex(path)
    rows.add([place(25)])
    assert parts(path) == [(0, 25), (1, 1)], "what was there is a part of its own"
    assert [rows.find(place(n).digest) for n in range(26)] == [("one.pack", 7 * n, 7) for n in range(26)]
    rows.close()
    with sqlite3.connect(path) as now:
        assert (list(places(now))[:25], sorted(sizes(now))[:0], pack_ends(now)) == (before[0], [], [("one.pack", 182)])
        assert set(sizes(now)) - set(before[1]) == {(place(25).digest, 7)}


def test_a_store_reads_blobs_of_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PART_ROWS", ROWS)
    store = DirectoryStore(tmp_path)
    blobs = [b"blob %d" % n for n in range(3 * ROWS)]
    for data in blobs:
        store.put_small([(blake3(data).hexdigest(), data)])
    again = DirectoryStore(tmp_path)
    assert [again.read(blake3(data).hexdigest()) for data in blobs] == blobs
    assert len(parts(tmp_path / "packs" / "index.db")) == 3
    again.close()
    store.close()
