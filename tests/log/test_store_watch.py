"""When a nats-server that had no room is worth starting anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardy_common import stack_store
from shardy_common.stack_store import StoreWatch

ERROR = "[ERR] JetStream failed to store a msg on stream '$G > EVENTS': write 1.blk: no space left on device\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "nats-server.log"


@pytest.fixture
def watch(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreWatch:
    monkeypatch.setattr(stack_store, "ROOM_BYTES_MIN", 1)
    return StoreWatch(log, tmp_path)


def write(log: Path, text: str) -> None:
    with open(log, "a") as out:
        out.write(text)


def test_a_server_that_stores_is_left_alone(watch: StoreWatch, log: Path) -> None:
    assert not watch.hopeless(), "it has not even a log yet"
    write(log, "[INF] Server is ready\n[WRN] slow consumer\n")
    assert not watch.hopeless()


def test_one_that_failed_to_store_is_hopeless_until_another_is_started(watch: StoreWatch, log: Path) -> None:
    write(log, "[INF] Server is ready\n" + ERROR)
    assert watch.hopeless() and watch.hopeless()
    watch.started()
    assert not watch.hopeless(), "the old process said it"
    write(log, ERROR)
    assert watch.hopeless()


def test_it_is_left_alone_while_there_is_no_room(watch: StoreWatch, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(log, ERROR)
    monkeypatch.setattr(stack_store, "ROOM_BYTES_MIN", watch.room() + (1 << 40))
    assert not watch.hopeless()
    monkeypatch.setattr(stack_store, "ROOM_BYTES_MIN", 1)
    assert watch.hopeless(), "what it said is remembered"


def test_a_log_that_was_rotated_is_read_from_its_beginning(watch: StoreWatch, log: Path) -> None:
    write(log, "[INF] a long line of an earlier server\n" * 10)
    assert not watch.hopeless()
    log.write_text(ERROR)
    assert watch.hopeless()


def test_a_store_that_is_gone_has_no_room(log: Path, tmp_path: Path) -> None:
    watch = StoreWatch(log, tmp_path / "gone")
    write(log, ERROR)
    assert watch.room() == 0 and not watch.hopeless()
