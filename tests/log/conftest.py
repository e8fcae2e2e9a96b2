"""A nats-server for the folder, and the two stores that answer to one contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from archivekit import emptied
from nats_process import NatsProcess

from shardy_common.log import JetStreamLog, MemoryLog


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsProcess]:
    server = NatsProcess(tmp_path_factory.mktemp("nats")).start()
    yield server
    server.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsProcess]:
    """A server that the test may kill."""
    server = NatsProcess(tmp_path / "nats").start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", pytest.param("jetstream", marks=pytest.mark.connected)])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[MemoryLog | JetStreamLog]:
    if request.param == "memory":
        yield MemoryLog(lambda: 1_000)
        return
    server = request.getfixturevalue("shared_server")
    jetstream = await emptied(await JetStreamLog.open(server.url, name="test"), server)
    yield jetstream
    await jetstream.close()


@pytest.fixture
async def jetstream(shared_server: NatsProcess) -> AsyncIterator[JetStreamLog]:
    log = await emptied(await JetStreamLog.open(shared_server.url, name="test"), shared_server)
    yield log
    await log.close()
