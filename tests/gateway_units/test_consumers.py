"""A consumer is made again from a message on, whoever dies between deleting and making it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats_process import NatsProcess

from shardy_common.errors import Refused
from shardy_common.log import Append, JetStreamLog
from shardy_common.wire import events as ev
from shardy_gateway import consumers

pytestmark = pytest.mark.connected
CONFIG = {
    "durable_name": "handler",
    "ack_policy": "explicit",
    "max_deliver": 3,
    "deliver_policy": "new",
    "ack_wait": 7_000_000_000,
    "filter_subjects": ["job.failed.*", "job.cancelled.*"],
}


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[JetStreamLog]:
    server = NatsProcess(tmp_path / "nats").start()
    log = await JetStreamLog.open(server.url, name="test")
    await log.append([Append(ev.JobFailed(f"j{i}", "x"), f"m{i}") for i in range(9)])
    request = {"stream_name": log.stream, "config": CONFIG}
    await log.client.request(f"$JS.API.CONSUMER.CREATE.{log.stream}.handler", json.dumps(request).encode())
    yield log
    await log.close()
    server.stop()


async def info(log: JetStreamLog, name: str = "handler") -> dict[str, Any]:
    return json.loads((await log.client.request(f"$JS.API.CONSUMER.INFO.{log.stream}.{name}", b"")).data)


async def test_it_is_as_it_was_and_begins_at_the_message(log: JetStreamLog) -> None:
    assert (await info(log))["num_pending"] == 0
    await consumers.restart(log, "handler", 4, "max-1")
    found = await info(log)
    changed = {"deliver_policy": "by_start_sequence", "opt_start_seq": 4}
    assert {name: found["config"][name] for name in {**CONFIG, **changed}} == {**CONFIG, **changed}
    assert found["num_pending"] == 6
    await consumers.forget(log, "max-1")
    assert "error" in await info(log, "note-max-1")


async def test_a_gateway_that_dies_when_it_is_deleted(log: JetStreamLog, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = consumers._create

    async def dies(log: JetStreamLog, consumer: str, config: dict[str, Any]) -> None:
        if consumer == "handler":
            raise RuntimeError("killed here")
        await honest(log, consumer, config)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(consumers, "_create", dies)
        await consumers.restart(log, "handler", 4, "max-1")
    assert "error" in await info(log), "it is nowhere just now"
    await consumers.restart(log, "handler", 4, "max-1")
    assert (await info(log))["num_pending"] == 6
    await consumers.restart(log, "handler", 4, "max-1")
    assert (await info(log))["num_pending"] == 6, "a third try changes nothing"


async def test_one_that_is_gone_is_refused(log: JetStreamLog) -> None:
    with pytest.raises(Refused, match="exists no longer") as refused:
        await consumers.restart(log, "stranger", 4, "max-1")
    assert refused.value.status == 409 and "error" in await info(log, "note-max-1")
