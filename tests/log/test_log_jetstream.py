"""What only a real server shows: kills, restarts, lost consumers, flow control, and the client's internals."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from nats_process import NatsProcess

from shardy_common.log import Append, Appended, Conflict, JetStreamLog, Outcome, Recorded, Unknown
from shardy_common.log.client import LogClient, connect, header_value, hpub
from shardy_common.log.jetstream import JetStreamLog as Log
from shardy_common.log.reader import JetStreamReader
from shardy_common.permissions import READERS_MAX
from shardy_common.wire import events as ev

pytestmark = pytest.mark.connected


def failed(job: str) -> ev.JobFailed:
    return ev.JobFailed(job, "x" * 40)


async def read_until(reader: Any, count: int, timeout_s: float = 60.0) -> list[Recorded]:
    out: list[Recorded] = []
    async with asyncio.timeout(timeout_s):
        while len(out) < count:
            out += await reader.batch(1_000, 0.5)
    return out


async def test_killed_mid_append_nothing_acknowledged_is_lost(server: NatsProcess) -> None:
    log = await JetStreamLog.open(server.url, name="test")
    log.appender._timeout_s = 2.0
    reader = log.read(["job.*.*"], 0)
    acknowledged: dict[str, int] = {}
    outcomes: list[Any] = []
    stop = asyncio.Event()

    async def append() -> None:
        n = 0
        while not stop.is_set():
            items = [Append(failed(f"j{n + i}"), f"m{n + i}") for i in range(200)]
            n += 200
            for item, outcome in zip(items, await log.append(items), strict=True):
                outcomes.append(outcome)
                if isinstance(outcome, Appended):
                    acknowledged[item.event.entity_id] = outcome.seq

    got: list[Recorded] = []

    async def read() -> None:
        while not appending.done() or not reader.caught_up or len(got) < max(acknowledged.values()):
            got.extend(await reader.batch(1_000, 0.2))

    appending, reading = asyncio.create_task(append()), asyncio.create_task(read())
    for _ in range(2):
        await asyncio.sleep(0.4)
        server.kill()
        await asyncio.sleep(0.2)
        server.start()
        before = len(acknowledged)
        async with asyncio.timeout(30):
            while len(acknowledged) < before + 200:
                await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(appending, 30)
    await asyncio.wait_for(reading, 60)
    assert any(isinstance(outcome, Unknown) for outcome in outcomes), "the kills were felt"
    assert {type(outcome) for outcome in outcomes} == {Appended, Unknown}
    seqs = [r.seq for r in got]
    assert seqs == list(range(1, len(seqs) + 1)), "no gap, no repeat, through both restarts"
    recorded = {r.event.job: r.seq for r in got}  # type: ignore[union-attr]
    assert acknowledged.items() <= recorded.items()
    await reader.close()
    await log.close()


async def test_an_unknown_append_is_repeated_without_harm(server: NatsProcess) -> None:
    """A repeat of what was recorded answers Conflict or duplicate (servers differ with their replicas), never twice."""
    log = await JetStreamLog.open(server.url, name="test")
    log.appender._timeout_s = 1.0
    items = [Append(failed("once"), "m", 0), Append(failed("free"), "n")]
    server.kill()
    assert all(isinstance(outcome, Unknown) for outcome in await log.append(items))
    server.start()
    log.appender._timeout_s = 20.0

    async def answered() -> list[Outcome]:
        """What is on its way when the client says that the connection is back counts as unknown too."""
        async with asyncio.timeout(60):
            while True:
                outcomes = await log.append(items)
                if not any(isinstance(outcome, Unknown) for outcome in outcomes):
                    return outcomes
                await asyncio.sleep(0.1)

    await answered()
    once, free = await answered()
    assert isinstance(once, Conflict) or once.duplicate  # type: ignore[union-attr]
    assert isinstance(free, Appended) and free.duplicate
    assert await log.last_seq() == 2
    await log.close()


async def test_a_deleted_consumer_is_made_anew_where_it_was(jetstream: JetStreamLog) -> None:
    log = jetstream
    await log.append([Append(failed(f"j{i}"), f"m{i}") for i in range(100)])
    reader = log.read(["job.*.*"], 0)
    got = await read_until(reader, 100)
    reply = await log.client.request(f"$JS.API.CONSUMER.DELETE.{log.stream}.{reader._consumer}", b"", timeout=5)
    assert json.loads(reply.data)["success"]
    await log.append([Append(failed(f"k{i}"), f"n{i}") for i in range(100)])
    got += await read_until(reader, 100)
    assert [r.seq for r in got] == list(range(1, 201))
    await reader.close()


async def test_a_readers_end_removes_its_consumer(jetstream: JetStreamLog) -> None:
    await jetstream.append([Append(failed("j"), "m")])
    reader = jetstream.read(["job.*.*"], 0)
    await read_until(reader, 1)
    await reader.close()
    async with asyncio.timeout(5):
        while True:
            reply = await jetstream.client.request(f"$JS.API.CONSUMER.NAMES.{jetstream.stream}", b"", timeout=5)
            if not json.loads(reply.data)["consumers"]:
                break
            await asyncio.sleep(0.05)


async def test_messages_before_the_consumers_answer_are_kept(
    jetstream: JetStreamLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load the answer that a consumer was made is read after its first messages."""
    await jetstream.append([Append(failed(f"j{i}"), f"m{i}") for i in range(50)])
    real = jetstream.client.request

    async def late(*args: Any, **more: Any) -> Any:
        reply = await real(*args, **more)
        await asyncio.sleep(0.3)
        return reply

    monkeypatch.setattr(jetstream.client, "request", late)
    restarts = 0
    original = JetStreamReader._restart

    async def counted(self: JetStreamReader) -> None:
        nonlocal restarts
        restarts += 1
        await original(self)

    monkeypatch.setattr(JetStreamReader, "_restart", counted)
    reader = jetstream.read(["job.*.*"], 0)
    assert [r.seq for r in await read_until(reader, 50)] == list(range(1, 51))
    assert restarts == 1 and reader.caught_up
    await reader.close()


async def test_bytes_that_do_not_decode_are_read_as_no_event(jetstream: JetStreamLog) -> None:
    client = jetstream.client
    await jetstream.append([Append(failed("before"), "m1")])
    for payload in (b"\xff\xfe", b"", b'{"e":"job.sung/1"}'):
        await client.request("job.failed.poison", payload, timeout=5)
    await jetstream.append([Append(failed("after"), "m2")])
    reader = jetstream.read(["job.*.*"], 0)
    got = await read_until(reader, 5)
    assert [r.event is None for r in got] == [False, True, True, True, False]
    assert got[1].payload == b"\xff\xfe" and got[1].subject == "job.failed.poison" and got[3].seq == 4
    await reader.close()


async def test_a_slow_reader_is_waited_for(jetstream: JetStreamLog) -> None:
    """100,000 events and a reader that takes its time: the server holds back, nothing is lost."""
    total = 100_000
    appended = 0
    for start in range(0, total, 10_000):
        outcomes = await jetstream.append([Append(failed(f"j{i}"), f"m{i}") for i in range(start, start + 10_000)])
        appended += sum(isinstance(outcome, Appended) for outcome in outcomes)
    last = await jetstream.last_seq()
    assert appended == total == last
    reader = jetstream.read(["job.*.*"], 0)
    seqs, deepest, heaviest = 0, 0, 0
    async with asyncio.timeout(90):
        while seqs < last:
            for recorded in await reader.batch(500, 1.0):
                seqs += 1
                assert recorded.seq == seqs
            await asyncio.sleep(0.02 if seqs < 10_000 else 0)
            if len(reader._backlog) > deepest:
                deepest = len(reader._backlog)
                heaviest = sum(len(entry[3]) for entry in reader._backlog)
    assert reader.caught_up
    assert heaviest < 40 * 2**20, f"{deepest} events of {heaviest} bytes waited at most"
    await reader.close()


async def test_flow_control_stops_the_server_while_the_backlog_is_deep(
    jetstream: JetStreamLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = "y" * 4_000
    for start in range(0, 24_000, 4_000):
        await jetstream.append([Append(ev.JobFailed(f"j{i}", big), f"m{i}") for i in range(start, start + 4_000)])
    reader = jetstream.read(["job.*.*"], 0)
    first = await reader.batch(1, 5.0)
    held = -1
    async with asyncio.timeout(60):
        while len(reader._backlog) != held:  # whoever does not ask for more gets no more
            held = len(reader._backlog)
            await asyncio.sleep(0.5)
    assert held < 20_000, "the server stopped before it had sent all"
    rest = await read_until(reader, 23_999)
    assert [r.seq for r in first + rest] == list(range(1, 24_001))
    await reader.close()


async def test_open_waits_for_a_server_that_is_not_there_yet(server: NatsProcess) -> None:
    server.stop()
    opening = asyncio.create_task(Log.open(server.url, name="early"))
    await asyncio.sleep(0.3)
    assert not opening.done()
    server.start()
    log = await asyncio.wait_for(opening, 15)
    assert isinstance((await log.append([Append(failed("j"), "m")]))[0], Appended)
    await log.close()


# -- what the raw client takes for granted of the pinned nats-py -------------------------------------------------------


async def test_raw_messages_come_in_order_with_their_headers(shared_server: NatsProcess) -> None:
    client = await connect(shared_server.url, name="raw")
    assert isinstance(client, LogClient)
    got: list[tuple[bytes, bytes, bytes, bytes | None]] = []
    sub = await client.subscribe_raw("raw.>", lambda *message: got.append(message))
    await client.flush()
    await client.send_raw(
        [hpub(f"raw.{i}", "answers", f"Number: {i}\r\nTwice: {i}{i}\r\n", b"x" * i) for i in range(2_000)]
    )
    await client.publish("raw.plain", b"no headers")
    async with asyncio.timeout(20):
        while len(got) < 2_001:
            await asyncio.sleep(0.01)
    assert [m[0] for m in got[:-1]] == [b"raw.%d" % i for i in range(2_000)]
    assert all(m[1] == b"answers" and m[2] == b"x" * i for i, m in enumerate(got[:-1]))
    assert [header_value(m[3], b"Number") for m in got[:-1]] == [str(i) for i in range(2_000)]
    assert header_value(got[7][3], b"Twice") == "77" and header_value(got[7][3], b"Num") == ""
    assert header_value(got[-1][3], b"Number") == "" and bytes(got[-1][2]) == b"no headers"
    await client.unsubscribe_raw(sub)
    await client.publish("raw.after", b"")
    await client.flush()
    assert len(got) == 2_001
    await client.close()


async def test_stock_subscriptions_work_beside_raw_ones(shared_server: NatsProcess) -> None:
    client = await connect(shared_server.url, name="raw")
    sub = await client.subscribe("plain.*")
    await client.publish("plain.a", b"hello", headers={"A": "b"})
    message = await sub.next_msg(timeout=5)
    assert message.data == b"hello" and message.headers == {"A": "b"}
    await client.close()


@pytest.mark.parametrize(
    ("block", "value"),
    [
        (None, ""),
        (b"", ""),
        (b"NATS/1.0\r\n\r\n", ""),
        (b"NATS/1.0 100 FlowControl Request\r\nName: value\r\n\r\n", "value"),
        (b"NATS/1.0\r\nOther: x\r\nName:value\r\n\r\n", "value"),
        (b"NATS/1.0\r\nName:   spaced out  \r\n\r\n", "spaced out"),
        (b"NATS/1.0\r\nXName: no\r\n\r\n", ""),
        (b"NATS/1.0\r\nName: \xff\r\n\r\n", "\ufffd"),
    ],
)
def test_header_value(block: bytes | None, value: str) -> None:
    assert header_value(block, b"Name") == value


async def test_all_is_read_though_the_server_counts_too_little_as_pending(jetstream: JetStreamLog) -> None:
    count = 5_000
    await jetstream.append([Append(ev.JobFailed(f"j{i}", "x"), f"m{i}") for i in range(count)])
    reader = jetstream.read([], 0)
    honest = reader._on_message

    def miscounted(subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        honest(subject, reply.rpartition(b".")[0] + b".0" if reply.startswith(b"$JS.ACK") else reply, data, headers)

    reader._on_message = miscounted  # type: ignore[method-assign]
    seqs: list[int] = []
    while not seqs or not reader.caught_up:
        seqs += [recorded.seq for recorded in await reader.batch(20, 1.0)]
    assert seqs == list(range(1, count + 1))
    await reader.close()


async def test_a_stream_whose_messages_are_all_gone_has_been_read(server: NatsProcess) -> None:
    """What is kept for a while only may end before anybody has read it, and its last sequence stays."""
    log = await Log.open(server.url, name="test")
    await log.append([Append(ev.JobFailed(f"j{i}", "x"), f"m{i}") for i in range(5)])
    await log.client.request(f"$JS.API.STREAM.PURGE.{log.stream}", b"", timeout=5)
    reader = log.read([], 0)
    async with asyncio.timeout(2):
        while not reader.caught_up:
            assert await reader.batch(10, 0.2) == []
    await reader.close()
    await log.close()


async def test_an_idle_server_has_delivered_all_it_has(jetstream: JetStreamLog) -> None:
    """Where it names a last sequence that it does not have, its next sign of life says that nothing is left."""
    await jetstream.append([Append(ev.JobFailed(f"j{i}", "x"), f"m{i}") for i in range(5)])
    reader = jetstream.read([], 0)
    seqs = [recorded.seq for recorded in await reader.batch(100, 2.0)]
    reader._end = 9
    assert seqs == [1, 2, 3, 4, 5] and not reader.caught_up
    async with asyncio.timeout(10):
        while not reader.caught_up:
            await reader.batch(10, 1.0)
    await reader.close()


@pytest.mark.parametrize("number", [3, READERS_MAX - 1])
async def test_a_reader_whose_name_another_has_takes_the_next_at_once(server: NatsProcess, number: int) -> None:
    log = await JetStreamLog.open(server.url, name="test")
    await log.append([Append(failed("j"), "a")])
    first = log.read(["job.*.*"], 0)
    first._number = number - 1
    assert len(await read_until(first, 1)) == 1 and first._number == number
    second = log.read(["job.*.*"], 0)
    second._number = first._number - 1  # so it asks for the name of the first
    assert len(await second.batch(10, 1.0)) == 1
    assert second._number == (first._number + 1) % READERS_MAX
    await first.close()
    await second.close()
    await log.close()


async def test_a_reader_that_begins_at_the_end_says_at_once_that_there_is_no_more(server: NatsProcess) -> None:
    """A service that is started again is live then, and not when its wait for events is over."""
    log = await JetStreamLog.open(server.url, name="test")
    await log.append([Append(failed("j"), "a")])
    for after, filters in ((1, ["job.*.*"]), (1, []), (0, ["task.created.*"]), (0, ["job.*.*", "task.*.*"])):
        reader = log.read(filters, after)
        async with asyncio.timeout(10):
            found = await reader.batch(10, 60.0)
        assert reader.caught_up or found, (after, filters)
        await reader.close()
    await log.close()
