"""Real networks that lose packets: a pulled cable, one-way losses, a gateway alone, workers cut off from it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from bench.faults.mesh import ENV, Mesh, until
from bench.faults.network import Far, FarStack

PULLED_S = 6.0
GIVEN_UP_S = 17.0  # pings every five seconds; the third that is not answered ends a connection (log/client.py)


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    with Far(os.getpid() % 256) as there:
        if there.why_not:
            print(f"no network namespace can be made here: {there.why_not}")
            pytest.skip(f"no network namespace can be made here: {there.why_not}")
        yield there


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def apart(far: Far, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    folder = tmp_path_factory.mktemp("apart")
    stack = FarStack(folder / "data", far, allow_same_address=True, env=ENV, replicas={"matchmaker": 2, "quorum": 2})
    async with Mesh(folder, stack) as mesh:
        for name in ("ada", "bo"):
            await mesh.crew.start(name, stack.url)
        await mesh.crew.start("cut", stack.workers_url)
        await until(lambda: mesh.tiered("ada", "bo", "cut"), "all workers joined")
        await until(mesh.live, "both of each see each other")
        yield mesh


@pytest.fixture(autouse=True)
def whole(far: Far) -> Iterator[None]:
    """However a test ends, the next one begins with a whole network."""
    yield
    far.plug()
    far.heal()


async def test_one_way_losses_stop_only_those_who_suffer_them(apart: Mesh, far: Far) -> None:
    """One matchmaker hears nothing, one quorum is not heard, one worker and the dlq are cut off: the others go on all
    the while."""
    nats = apart.stack.nats_port
    apart.load()
    await apart.goes_on()
    far.drop("matchmaker", nats, "from")
    far.drop("quorum-1", nats, "to")
    far.drop("dlq", nats)
    far.drop("workers", apart.stack.port)
    cut_s = time.monotonic()
    await asyncio.sleep(GIVEN_UP_S / 2)
    await apart.goes_on()
    await asyncio.sleep(max(0.0, cut_s + GIVEN_UP_S - time.monotonic()))
    await apart.goes_on()
    far.heal()
    await until(apart.live, "everybody is back, and seen")
    await apart.in_peace(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))


async def test_a_gateway_without_its_log_says_so_and_keeps_its_word(apart: Mesh, far: Far) -> None:
    """It promises nothing while it cannot append; what clients ask for again with their keys is one job each."""
    apart.load()
    await apart.goes_on()
    before = len(apart.history.seen)
    far.drop("gateway", apart.stack.nats_port)
    apart.load(1)  # the others may each be waiting for a job, and ask for no new one

    async def complains() -> bool:
        return any(s.what == "error" and s.key for s in apart.history.seen[before:])

    await until(complains, "a client is told that the log does not answer")
    await asyncio.sleep(1.0)
    far.heal()
    told = {s.detail for s in apart.history.seen[before:] if s.what == "error" and s.key}
    assert any("log" in words for words in told), told
    await apart.goes_on()
    await apart.in_peace(rebuilt=("gateway",))


async def test_the_cable_is_pulled_and_plugged_in_again(apart: Mesh, far: Far) -> None:
    """Nothing reaches anything for longer than presence lasts; connections stay, and what they hold is sent again."""
    apart.load()
    await apart.goes_on()
    far.pull()
    await asyncio.sleep(PULLED_S)
    far.plug()
    await apart.goes_on()
    await until(apart.live, "everybody is back, and seen")
    await apart.in_peace(rebuilt=("gateway", "matchmaker", "quorum"))
