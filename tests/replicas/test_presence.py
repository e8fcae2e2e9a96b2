"""Replicas find each other on a real nats-server: at once when one comes or says goodbye, after silence otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from nats_process import NatsProcess

from shardy_common.log.client import LogClient, connect
from shardy_common.presence import Presence
from shardy_common.replicas import SILENCE_S

pytestmark = pytest.mark.connected


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsProcess]:
    server = NatsProcess(tmp_path / "nats").start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def client(server: NatsProcess) -> AsyncIterator[LogClient]:
    client = await connect(server.url, name="test")
    yield client
    await client.close()


class Replica:
    def __init__(self, client: LogClient, name: str, live: bool = True, service: str = "quorum") -> None:
        self.live, self.changes = live, 0
        self.presence = Presence(client, service, name, changed=self.changed)
        self.task = asyncio.create_task(self.presence.run(lambda: self.live))

    def changed(self) -> None:
        self.changes += 1

    @property
    def names(self) -> tuple[str, ...]:
        return self.presence.replicas.names

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def until(look: Callable[[], bool], seconds: float = 20.0) -> float:
    started = time.monotonic()
    while not look():
        assert time.monotonic() - started < seconds, "never happened"
        await asyncio.sleep(0.01)
    return time.monotonic() - started


async def test_they_meet_part_and_miss_each_other(client: LogClient, server: NatsProcess) -> None:
    far = await connect(server.url, name="far")
    a, b, other = Replica(client, "0"), Replica(far, "1"), Replica(client, "7", service="matchmaker")
    await until(lambda: a.names == b.names == ("0", "1"))
    assert (a.changes, b.changes, other.names) == (1, 1, ("7",)), "services do not mix"
    await b.stop()
    await until(lambda: a.names == ("0",))
    assert a.changes == 2
    c = Replica(far, "2")
    await until(lambda: a.names == c.names == ("0", "2"))
    c.live = False  # rebuilding: it says goodbye, and goes on listening
    await until(lambda: a.names == ("0",))
    c.live = True
    await until(lambda: a.names == ("0", "2"))
    c.task.cancel()
    far._transport.close()  # type: ignore[union-attr]  # dead without a goodbye
    await far.close()
    assert await until(lambda: a.names == ("0",)) > SILENCE_S - 1.5, "missed after the silence, not before"
    for replica in (a, other):
        await replica.stop()


async def test_one_that_starts_is_not_counted_before_it_is_live_but_knows_the_others(client: LogClient) -> None:
    old = Replica(client, "0")
    await asyncio.sleep(0.2)
    new = Replica(client, "1", live=False)
    assert await until(lambda: new.names == ("0", "1")) < 0.9, "it asks, and need not wait for the next second"
    assert old.names == ("0",)
    new.live = True
    await until(lambda: old.names == ("0", "1"))
    for replica in (old, new):
        await replica.stop()


async def test_garbage_is_passed_over_and_a_namesake_is_named(
    client: LogClient, caplog: pytest.LogCaptureFixture
) -> None:
    one = Replica(client, "0")
    await asyncio.sleep(0.2)
    for data in (b"", b"\xff", b"[]", b"3", b'{"name": "5"}', b'{"name": "5", "life": "x", "state": "sings"}'):
        await client.publish("ctl.quorum.alive", data)
    await client.flush()
    await asyncio.sleep(0.1)
    assert one.names == ("0",) and not one.task.done()
    with caplog.at_level(logging.WARNING, "shardy.presence"):
        twin = {"name": "0", "life": "another", "state": "alive"}
        for _ in range(3):
            await client.publish("ctl.quorum.alive", json.dumps(twin).encode())
        await client.flush()
        await until(lambda: bool(caplog.records))
    assert len(caplog.records) == 1 and "SHARDY_INSTANCE" in caplog.text
    assert one.names == ("0",)
    await one.stop()


async def test_they_meet_again_after_the_server_was_away(client: LogClient, server: NatsProcess) -> None:
    far = await connect(server.url, name="far")
    a, b = Replica(client, "0"), Replica(far, "1")
    await until(lambda: a.names == b.names == ("0", "1"))
    server.kill()
    await until(lambda: a.names == ("0",) and b.names == ("1",))
    server.start()
    await until(lambda: a.names == b.names == ("0", "1"), 40)
    for replica in (a, b):
        await replica.stop()
    await far.close()
