"""The log on three nodes: what is acknowledged survives the loss of the leader, and one of several racers wins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from guardkit import ANSWER_S, Guarded

from shardy_common.log import Append, Appended, Conflict, JetStreamLog, Recorded, Unknown
from shardy_common.make_streams import make
from shardy_common.permissions import OPERATOR
from shardy_common.wire import events as ev

pytestmark = pytest.mark.connected


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    server = Guarded(tmp_path_factory.mktemp("cluster"), 3)
    try:
        asyncio.run(asyncio.wait_for(make(server.url, 3, seed_file=server.seed(OPERATOR)), 60))
        yield server
    finally:
        server.stop()


async def opened(cluster: Guarded, role: str = "matchmaker") -> JetStreamLog:
    opening = JetStreamLog.open(cluster.url, name="t", role=role, seed_file=cluster.seed(role))
    return await asyncio.wait_for(opening, ANSWER_S)


async def leader_of(log: JetStreamLog) -> str:
    reply = await log.client.request(f"$JS.API.STREAM.INFO.{log.stream}", b"", timeout=ANSWER_S)
    return str(json.loads(reply.data)["cluster"]["leader"])


async def test_a_repeat_and_a_race(cluster: Guarded) -> None:
    """A repeat with what it expected then answers `duplicate` here, and Conflict on one node: both mean that it is
    there. Who comes second with another event loses, on any node."""
    one, two = await opened(cluster), await opened(cluster)
    mine = Append(ev.JobFailed("j", "mine"), "mine", 0, "job.*.j")
    (first,) = await one.append([mine])
    assert isinstance(first, Appended)
    (repeat,) = await one.append([mine])
    assert isinstance(repeat, Conflict) or (repeat.duplicate and repeat.seq == first.seq)  # type: ignore[union-attr]
    (late,) = await two.append([Append(ev.JobFailed("j", "theirs"), "theirs", 0, "job.*.j")])
    assert isinstance(late, Conflict)
    names = [f"r{i}" for i in range(200)]
    races = await asyncio.gather(
        *(
            log.append([Append(ev.JobFailed(name, str(k)), f"{k}/{name}", 0, f"job.*.{name}") for name in names])
            for k, log in enumerate((one, two))
        )
    )
    for name, pair in zip(names, zip(*races, strict=True), strict=True):
        assert sorted(type(outcome).__name__ for outcome in pair) == ["Appended", "Conflict"], name
    assert await one.last_seq() == 1 + len(names)
    await one.close()
    await two.close()


async def test_the_leader_is_killed_while_events_are_appended(cluster: Guarded) -> None:
    log, other = await opened(cluster), await opened(cluster, "gossip-bridge")
    start = await log.last_seq()
    log.appender._timeout_s = 2.0
    reader = other.read([], start)
    acknowledged: dict[str, int] = {}
    outcomes: list[Any] = []
    stop = asyncio.Event()

    async def append() -> None:
        n = 0
        while not stop.is_set():
            items = [Append(ev.JobFailed(f"j{n + i}", "x"), f"m{n + i}", 0) for i in range(100)]
            n += 100
            left = items
            while left:  # the same again, until each is known to be there
                found = list(zip(left, await log.append(left), strict=True))
                outcomes.extend(outcome for _, outcome in found)
                acknowledged.update({i.event.entity_id: o.seq for i, o in found if isinstance(o, Appended) and o.seq})
                left = [item for item, outcome in found if isinstance(outcome, Unknown)]

    got: list[Recorded] = []

    async def read() -> None:
        while not appending.done() or start + len(got) < max(acknowledged.values()):
            got.extend(await reader.batch(1_000, 0.2))

    appending, reading = asyncio.create_task(append()), asyncio.create_task(read())
    async with asyncio.timeout(60):
        while len(acknowledged) < 300:
            await asyncio.sleep(0.02)
    leader = await leader_of(other)
    cluster.kill(leader)
    before = len(acknowledged)
    async with asyncio.timeout(60):
        while len(acknowledged) < before + 1_000:
            await asyncio.sleep(0.05)
    assert await leader_of(log) != leader
    cluster.start(leader)
    stop.set()
    await asyncio.wait_for(appending, 60)
    await asyncio.wait_for(reading, 60)
    assert {type(outcome) for outcome in outcomes} <= {Appended, Conflict, Unknown}
    assert [r.seq for r in got] == list(range(start + 1, start + len(got) + 1)), "no gap, no repeat"
    recorded = {r.event.job: r.seq for r in got}  # type: ignore[union-attr]
    assert len(recorded) == len(got), "each once, however often it was appended"
    assert acknowledged.items() <= recorded.items()
    await reader.close()
    await log.close()
    await other.close()
