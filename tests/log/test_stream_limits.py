"""The stream's limits: what a stream of an earlier version is changed to, and what the real server makes of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shardy_common.log import Append, Appended, Full, JetStreamLog, LogRoom, StreamLimits
from shardy_common.log import stream as streams
from shardy_common.log import streams as configured
from shardy_common.log.appender import Appender
from shardy_common.wire import events as ev

WANT = configured.events(1, limits=StreamLimits(1_000, 5))
HAVE = {**WANT, "description": "kept"}
UPDATES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "nothing to do": (HAVE, None),
    "a stream that dropped its oldest": ({**HAVE, "discard": "old"}, HAVE),
    "without limits": ({**HAVE, "max_bytes": -1, "max_msgs": -1, "max_consumers": -1}, HAVE),
    "a larger one": ({**HAVE, "max_bytes": 9_999}, HAVE),
    "subjects that came since": (
        {**HAVE, "subjects": WANT["subjects"][1:]},
        {**HAVE, "subjects": sorted(WANT["subjects"])},
    ),
    "subjects of a newer version": ({**HAVE, "subjects": [*WANT["subjects"], "new.*.*"]}, None),
}


@pytest.mark.parametrize("what", UPDATES)
def test_a_stream_takes_the_limits_and_keeps_the_rest(what: str) -> None:
    have, wanted = UPDATES[what]
    assert streams.updated(have, WANT) == wanted


def test_no_limits_named_leaves_them() -> None:
    other = {**HAVE, "discard": "old", "max_bytes": 7}
    assert streams.updated(other, WANT, ()) is None
    assert streams.updated({**other, "subjects": []}, WANT, ()) == {**other, "subjects": sorted(WANT["subjects"])}


@pytest.mark.parametrize(("code", "full"), [(10077, True), (10047, True), (10023, True), (10071, False), (0, False)])
def test_only_a_lack_of_room_is_full(code: int, full: bool) -> None:
    assert streams.is_full(code) == full


@pytest.mark.parametrize(
    ("room", "filled"),
    [
        (LogRoom(), 0.0),
        (LogRoom(50, 0, 9, 0), 0.0),
        (LogRoom(50, 100, 9, 10), 0.9),
        (LogRoom(99, 100, 1, 10), 0.99),
        (LogRoom(150, 100), 1.5),
    ],
)
def test_the_fullness_is_that_of_the_limit_that_is_nearest(room: LogRoom, filled: float) -> None:
    assert room.filled == filled


async def info(log: JetStreamLog) -> dict[str, Any]:
    reply = await log.client.request(f"$JS.API.STREAM.INFO.{log.stream}", b"", timeout=5)
    return json.loads(reply.data)


@pytest.mark.connected
async def test_a_log_of_an_earlier_version_takes_limits_at_the_next_start_and_loses_nothing(
    jetstream: JetStreamLog,
) -> None:
    old = {**(await info(jetstream))["config"], "discard": "old", "max_bytes": -1, "max_msgs": -1, "max_consumers": -1}
    await jetstream._ask(f"STREAM.UPDATE.{jetstream.stream}", old)
    await jetstream.append([Append(ev.JobFailed(f"j{n}", "x" * 500), f"m{n}") for n in range(50)])
    await jetstream.limit(StreamLimits(4_000))  # less than it holds
    now = await info(jetstream)
    assert now["config"]["discard"] == "new" and now["config"]["max_bytes"] == 4_000
    assert now["config"]["max_consumers"] == streams.CONSUMERS_MAX
    assert now["state"]["messages"] == 50, "nothing that was acknowledged is dropped"
    (outcome,) = await jetstream.append([Append(ev.JobFailed("k", "x"), "k")])
    assert isinstance(outcome, Full) and outcome.detail == "maximum bytes exceeded"
    room = await jetstream.room()
    assert room.filled > 1 and room.bytes_max == 4_000 and room.events == 50
    await jetstream.make_stream(configured.events(1))  # somebody who names no limits, as tests and tools do
    assert (await jetstream.room()).bytes_max == 4_000
    await jetstream.limit(StreamLimits(1 << 20))
    assert isinstance((await jetstream.append([Append(ev.JobFailed("k", "x"), "k")]))[0], Appended)


@pytest.mark.connected
async def test_a_limit_that_the_server_has_no_room_for_is_no_reason_not_to_start(jetstream: JetStreamLog) -> None:
    await jetstream.limit(StreamLimits(1 << 60))
    assert streams.BYTES_MIN <= (await jetstream.room()).bytes_max < 1 << 60, "it takes what there is"
    await jetstream._ask(f"STREAM.DELETE.{jetstream.stream}")
    await jetstream.limit(StreamLimits(1 << 60))
    assert streams.BYTES_MIN <= (await jetstream.room()).bytes_max < 1 << 60, "a new one too"


@pytest.mark.connected
async def test_readers_are_bounded_in_number(jetstream: JetStreamLog) -> None:
    have = (await info(jetstream))["config"]
    await jetstream._ask(f"STREAM.UPDATE.{jetstream.stream}", {**have, "max_consumers": 1})
    first, second = jetstream.read([">"], 0), jetstream.read([">"], 0)
    await jetstream.append([Append(ev.JobFailed("j", "x"), "m")])
    assert len(await first.batch(10, 5)) == 1
    assert await second.batch(10, 0.3) == [], "it waits, and does not break"
    await first.close()
    assert len(await second.batch(10, 10)) == 1
    await second.close()


class _Stalled:
    """A connection whose server answers nothing."""

    is_closed = False
    role = "operator"
    forbidden: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.sent: list[int] = []

    async def send_raw(self, commands: list[bytes]) -> None:
        self.sent.append(len(commands))


async def test_no_more_appends_wait_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow server holds its callers back, and not their appends in memory."""
    monkeypatch.setattr("shardy_common.log.appender.IN_FLIGHT_MAX", 10)
    client = _Stalled()
    appender = Appender(client, timeout_s=30)  # type: ignore[arg-type]
    calls = [asyncio.create_task(appender.append([Append(ev.JobFailed("j", "x"), f"{n}")] * 4)) for n in range(5)]
    await asyncio.sleep(0.01)
    assert client.sent == [4, 4] and appender.in_flight == 8
    appender._lost()
    await asyncio.sleep(0.01)
    assert client.sent == [4] * 4
    for _ in range(3):
        appender._lost()
        await asyncio.sleep(0.01)
    assert all(call.done() for call in calls) and appender.in_flight == 0


async def test_bytes_that_wait_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardy_common.log.appender.IN_FLIGHT_BYTES_MAX", 1_000)
    client = _Stalled()
    appender = Appender(client, timeout_s=30)  # type: ignore[arg-type]
    large = [Append(ev.JobFailed("j", "x" * 2_000), "m")]
    calls = [asyncio.create_task(appender.append(large)) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert client.sent == [1], "one alone is never too large"
    appender._lost()
    await asyncio.sleep(0.01)
    assert client.sent == [1, 1]
    appender._lost()
    await asyncio.gather(*calls)
