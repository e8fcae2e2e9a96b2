"""Epochs as files: what is written is read, and no change goes unnoticed. And what the policy archives."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from archivekit import message
from hypothesis import given
from hypothesis import strategies as st

from shardy_common.care import restore_files
from shardy_common.log import ArchiveError
from shardy_common.log.archive import Archive, Extent, extent_of, needed
from shardy_common.log.archive_file import EpochWriter, Head, Message, read_epoch, record, records
from shardy_common.log.reader import takes
from shardy_common.log.retention import ActiveJobs, Policy, epochs, floor

SIZE = 10


def written(folder: Path, first: int, last: int, previous: str = "", payload: bytes = b"{}") -> tuple[Path, Head]:
    writer = EpochWriter(folder, "EVENTS", previous)
    for seq in range(first, last + 1):
        writer.add(message(seq, payload, None if seq % 3 else b"NATS/1.0\r\nNats-Msg-Id: m%d\r\n\r\n" % seq))
    return writer.finish()


def three(folder: Path) -> Extent:
    """Three epochs that follow each other."""
    chain = ""
    for first in (1, 1 + SIZE, 1 + 2 * SIZE):
        _, head = written(folder, first, first + SIZE - 1, chain)
        chain = head.chain
    return Extent(3 * SIZE, chain)


payloads = st.binary(max_size=200)


@given(st.lists(st.tuples(st.binary(max_size=60), st.none() | st.binary(min_size=1, max_size=40)), max_size=20))
def test_records_are_read_as_they_were_written(pairs: list[tuple[bytes, bytes | None]]) -> None:
    """Any bytes, with line feeds and records in them."""
    wanted = [Message(b"a.b.c", n, n * 7, payload, headers) for n, (payload, headers) in enumerate(pairs, 5)]
    body = b"".join(map(record, wanted))
    assert list(records(body)) == wanted and list(records(body, 7)) == wanted[3:]


def test_an_archive_is_read_from_any_place(tmp_path: Path) -> None:
    extent, archive = three(tmp_path), Archive(tmp_path, "EVENTS")
    read = [m.seq for _, body in archive.walk(extent, 0, lambda _: True) for m in records(body)]
    assert read == list(range(1, 31))
    assert [m.seq for m in archive.between(extent, 9, 22)] == list(range(9, 23))
    assert archive.get(extent, 11) == message(11, b"{}", None) and archive.get(extent, 31) is None
    assert [head.first for head, _ in archive.walk(extent, 15, lambda _: True)] == [11, 21]
    assert list(archive.walk(extent, 0, lambda name: name == "job.failed")) == []
    assert archive.find(extent, "task.created.t12", 0, "m12") == 12
    assert archive.find(extent, "task.created.t12", 12, "m12") is None
    assert archive.find(extent, "task.created.t12", 0, "m13") is None


def test_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    assert written(tmp_path / "a", 1, 9)[0].read_bytes() == written(tmp_path / "b", 1, 9)[0].read_bytes()
    assert written(tmp_path / "a", 1, 9)[0].stat().st_mode & 0o777 == 0o600


def _rewritten(path: Path, change: Callable[[Head, bytes], tuple[Head, bytes]], *, chained: bool = False) -> None:
    head, body = change(*read_epoch(path))
    if chained:
        head = msgspec.structs.replace(head, chain=head.chained())
    path.write_bytes(gzip.compress(msgspec.json.encode(head) + b"\n") + gzip.compress(body))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-12] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def payload(path: Path) -> None:
    _rewritten(path, lambda head, body: (head, body.replace(b"{}", b"[]", 1)))


def longer(path: Path) -> None:
    _rewritten(path, lambda head, body: (head, body + record(message(99))))


def swapped(path: Path) -> None:
    """Two events change places; digests are made to fit."""

    def change(head: Head, body: bytes) -> tuple[Head, bytes]:
        from blake3 import blake3

        first, second, *rest = records(body)
        body = b"".join(map(record, [second, first, *rest]))
        return msgspec.structs.replace(head, body=blake3(body).hexdigest()), body

    _rewritten(path, change, chained=True)


def dropped(path: Path) -> None:
    def change(head: Head, body: bytes) -> tuple[Head, bytes]:
        from blake3 import blake3

        body = b"".join(map(record, list(records(body))[:-1]))
        return msgspec.structs.replace(head, body=blake3(body).hexdigest(), bytes=len(body)), body

    _rewritten(path, change, chained=True)


def later(path: Path) -> None:
    _rewritten(path, lambda head, body: (msgspec.structs.replace(head, last_ns=head.last_ns + 1), body))


def newer(path: Path) -> None:
    _rewritten(path, lambda head, body: (msgspec.structs.replace(head, format=9), body))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other(path: Path) -> None:
    path.write_bytes(b"what is this")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (flip, "damaged|was changed"),
        (cut, "is cut off"),
        (payload, "its records have another BLAKE3"),
        (longer, "holds more than its head says"),
        (swapped, "holds event 12 where 11 belongs"),
        (dropped, "ends at event 19, and not at 20"),
        (later, "its head has another chain"),
        (newer, "has format 9, and this version reads 1: use a newer shardy"),
        (empty, "does not begin as an archived epoch does"),
        (other, "damaged|does not begin"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_changed_file_is_refused(tmp_path: Path, harm: Callable[[Path], None], words: str) -> None:
    extent = three(tmp_path)
    path = sorted(tmp_path.iterdir())[1]
    harm(path)
    with pytest.raises(ArchiveError, match=words):
        read_epoch(path)
    with pytest.raises(ArchiveError):
        for _ in Archive(tmp_path, "EVENTS").walk(extent, 0, lambda _: True):
            pass


@pytest.mark.parametrize(("gone", "words"), [(0, "events 1–10 are missing"), (1, "events 11–20 are missing"),
                                             (2, "events 21–30 are neither in the stream nor in")])  # fmt: skip
def test_a_missing_file_is_named(tmp_path: Path, gone: int, words: str) -> None:
    extent = three(tmp_path)
    sorted(tmp_path.iterdir())[gone].unlink()
    with pytest.raises(ArchiveError, match=words):
        Archive(tmp_path, "EVENTS").covering(extent)


def test_files_of_another_log_are_refused(tmp_path: Path) -> None:
    """With sequences that fit: the chain tells."""
    extent = three(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    middle = sorted((tmp_path / "b").iterdir())[1]
    written(tmp_path / "b", 11, 20, read_epoch(middle)[0].previous, b"[]")
    with pytest.raises(ArchiveError, match="does not follow the file before it"):
        Archive(tmp_path / "b", "EVENTS").covering(extent)
    last = sorted((tmp_path / "a").iterdir())[2]
    written(tmp_path / "a", 21, 30, read_epoch(last)[0].previous, b"[]")
    with pytest.raises(ArchiveError, match="its chain differs"):
        Archive(tmp_path / "a", "EVENTS").covering(extent)
    with pytest.raises(ArchiveError, match="is of the stream EVENTS, and not of OTHER"):
        Archive(tmp_path / "a", "OTHER").epochs()
    last.rename(tmp_path / "a" / "000000000021-000000000031.log.gz")
    with pytest.raises(ArchiveError, match=r"is 000000000021-000000000030.log.gz under another name"):
        Archive(tmp_path / "a", "EVENTS").epochs()


def test_files_are_put_back(tmp_path: Path) -> None:
    extent = three(tmp_path / "kept")
    (tmp_path / "data").mkdir()
    assert len(restore_files([tmp_path / "kept"], tmp_path / "data")) == 3
    paths = sorted((tmp_path / "data" / "archive").iterdir())
    flip(paths[0])
    paths[1].unlink()
    assert restore_files([tmp_path / "kept"], tmp_path / "data") == [str(path) for path in paths[:2]]
    assert len(Archive(tmp_path / "data" / "archive", "EVENTS").covering(extent)) == 3
    flip(sorted((tmp_path / "kept").iterdir())[2])
    with pytest.raises(ArchiveError):
        restore_files([tmp_path / "kept"], tmp_path / "data")
    with pytest.raises(ArchiveError, match="is no data folder"):
        restore_files([tmp_path / "kept"], tmp_path / "none")
    with pytest.raises(ArchiveError, match="no archived file"):
        restore_files([tmp_path / "data"], tmp_path / "data")


def test_a_gap_is_never_written(tmp_path: Path) -> None:
    writer = EpochWriter(tmp_path, "EVENTS", "")
    writer.add(message(1))
    with pytest.raises(ArchiveError, match="event 2 is missing between 1 and 3"):
        writer.add(message(3))
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_what_strangers_write_does_not_swell_the_head(tmp_path: Path) -> None:
    writer = EpochWriter(tmp_path, "EVENTS", "")
    for seq in range(1, 1_001):
        writer.add(Message(b"task.x%d.t" % seq, seq, seq, b"", None))
    path, head = writer.finish()
    assert len(head.names) == 201 and sum(head.names.values()) == 1_000
    assert [h.first for h, _ in Archive(tmp_path, "EVENTS").walk(Extent(1_000, ""), 0, lambda _: False)] == [1]
    assert path.exists()


# -- the policy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "young", "active", "keep", "through"),
    [
        (1_000, None, [], 0, 999),  # the newest event always stays
        (1_000, None, [], 100, 900),
        (1_000, 501, [], 100, 500),
        (1_000, 501, [700], 100, 500),
        (1_000, 501, [700, 42], 100, 41),
        (1_000, 1, [], 0, 0),
        (50, None, [], 100, 0),
        (0, None, [], 0, 0),
        (1_000, None, [1], 0, 0),
    ],
)
def test_the_floor(last: int, young: int | None, active: list[int], keep: int, through: int) -> None:
    assert floor(last, young, active, Policy(0, keep, 100)) == through


@pytest.mark.parametrize(
    ("after", "through", "size", "ranges"),
    [
        (0, 0, 100, []),
        (0, 100, 100, [(1, 100)]),
        (0, 99, 100, [(1, 99)]),
        (0, 101, 100, [(1, 100), (101, 101)]),
        (100, 350, 100, [(101, 200), (201, 300), (301, 350)]),
        (0, 9, 1_000, []),  # too short for a file of its own
        (0, 10, 1_000, [(1, 10)]),
        (5, 5, 1, []),
        (5, 7, 1, [(6, 6), (7, 7)]),
    ],
)
def test_epochs_follow_each_other(after: int, through: int, size: int, ranges: list[tuple[int, int]]) -> None:
    assert epochs(after, through, Policy(0, 0, size)) == ranges


def test_active_jobs_begin_where_they_were_submitted_or_reopened() -> None:
    jobs = ActiveJobs()
    for seq, subject in enumerate(
        ["job.submitted.a", "job.submitted.b", "task.created.a", "job.completed.b", "job.failed.a", "job.reopened.a",
         "job.submitted.c", "job.cancelled.c", "job.completed.never"], 1
    ):  # fmt: skip
        jobs.see(seq, subject)
    assert jobs.since == {"a": 6}


def test_what_a_stream_says_of_its_archive() -> None:
    told = {"shardy.archived": "400", "shardy.archive-chain": "ab"}
    assert extent_of({"config": {"metadata": told}}) == Extent(400, "ab")
    assert extent_of({"config": {}}) == extent_of({"config": {"metadata": {"shardy.archived": "x"}}}) == Extent()


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [([], True), (["task.*.*"], True), (["job.*.*", "worker.*.*"], True), (["*.created.*"], True), ([">"], True),
     (["job.*.*", "dlq.*.*", "fraud.detected.*"], False), (["key.*.*"], False)],
)  # fmt: skip
def test_who_needs_the_archive(filters: list[str], wanted: bool) -> None:
    assert needed(filters) is wanted


@pytest.mark.parametrize(
    ("pattern", "subject", "taken"),
    [("task.*.a", "task.created.a", True), ("task.*.a", "task.created.b", False), ("task.>", "task.created.b", True),
     (">", "x", True), ("task.*", "task.created.b", False), ("task.created.b.*", "task.created.b", False),
     ("task.created.b.>", "task.created.b", False), ("*.*.b", "task.created.b", True), ("job.>", "jobs.a.b", False)],
)  # fmt: skip
def test_patterns(pattern: str, subject: str, taken: bool) -> None:
    assert takes(pattern, subject) is taken
