"""The simulated disk keeps what `Projection` keeps: the same commits into both, the same answers."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mesh_disk import SimulatedDisk

from shardy_common.log import Projection, Table
from shardy_gateway.views import TABLES

FEW = [Table("things", {"id": str, "n": int, "body": bytes}, [["n"]]), Table("places", {"at": int, "what": str})]
QUERIES = (
    "SELECT * FROM things ORDER BY id",
    "SELECT body FROM things",
    "SELECT n, COUNT(*) FROM things GROUP BY n ORDER BY n",
    "SELECT max(at) FROM places",
    "SELECT t.id FROM things t JOIN places p ON p.what = t.id ORDER BY p.at",
)


@pytest.fixture
def both(tmp_path: Path) -> Any:
    real = Projection(tmp_path / "p.db", FEW, version=1)
    yield real, SimulatedDisk(FEW, version=1)
    real.close()


@pytest.mark.parametrize("seed", range(20))
def test_both_keep_the_same(both: Any, seed: int) -> None:
    rng = random.Random(seed)
    for step in range(rng.randrange(1, 30)):
        rows: dict[str, list[tuple[Any, ...]]] = {
            "things": [(f"t{i}", rng.randrange(3), rng.randbytes(2)) for i in sorted(rng.sample(range(6), 3))],
            "places": [(i, f"t{rng.randrange(6)}") for i in sorted(rng.sample(range(9), rng.randrange(4)))],
        }
        for disk in both:
            disk.commit(rows, step)
        if rng.random() < 0.4:
            assert len({str([disk.rows(sql) for sql in QUERIES]) for disk in both}) == 1
    real, simulated = both
    assert real.checkpoint == simulated.checkpoint
    assert [real.rows(sql) for sql in QUERIES] == [simulated.rows(sql) for sql in QUERIES]
    kept = {table: {row[0]: row for row in real.rows(f"SELECT * FROM {table}")} for table in ("things", "places")}
    assert kept == simulated.committed
    assert real.checksum() == simulated.checksum()


def test_a_full_disk_keeps_nothing_of_a_commit(both: Any) -> None:
    _, disk = both
    disk.commit({"things": [("a", 1, b"x")]}, 7)
    disk.fails = lambda: True
    with pytest.raises(sqlite3.OperationalError, match="full"):
        disk.commit({"things": [("a", 2, b"y"), ("b", 2, b"y")]}, 9)
    assert disk.checkpoint == 7 and disk.rows("SELECT * FROM things") == [("a", 1, b"x")]


def test_a_wiped_disk_answers_as_a_new_one() -> None:
    disk = SimulatedDisk(TABLES, version=1)
    disk.commit({"idem": [("i", "j", "b", 1)]}, 3)
    assert disk.rows("SELECT job FROM idem") == [("j",)]
    disk.wipe()
    assert disk.checkpoint == 0
    assert disk.rows("SELECT job FROM idem") == [] and disk.rows("SELECT max(place) FROM credit") == [(None,)]
