"""Joining probes: each its own while the thread keeps up, shared by those that wait when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from shardy_common.engine import Engine
from shardy_common.limits import PROBE_ROUNDS, PROBE_SIDE
from shardy_gateway.probes import READY, KnownProbe, Probes


@pytest_asyncio.fixture
async def probes() -> AsyncIterator[Probes]:
    made = Probes()
    yield made
    made.close()


async def ready(probes: Probes) -> None:
    while len(probes._ready) < READY:
        await asyncio.sleep(0.01)


async def test_whoever_comes_in_turn_gets_a_probe_of_its_own_with_the_right_answer(probes: Probes) -> None:
    probes.start()
    await ready(probes)
    taken = [await probes.take() for _ in range(READY)]
    assert len({probe.seed for probe in taken}) == READY
    engine = Engine()
    for probe in taken[:2]:
        assert engine.probe(probe.seed, PROBE_SIDE, PROBE_SIDE, PROBE_SIDE, PROBE_ROUNDS) == probe.digest


async def test_a_crowd_shares_what_is_made_and_nobody_later_gets_it(probes: Probes) -> None:
    probes.start()
    await ready(probes)
    crowd: list[KnownProbe] = await asyncio.gather(*(probes.take() for _ in range(200)))
    seeds = {probe.seed for probe in crowd}
    assert READY < len(seeds) <= READY + 2  # one was being made, perhaps, when they came
    assert (await probes.take()).seed not in seeds


async def test_one_that_went_away_while_it_waited_takes_nothing_from_the_others(probes: Probes) -> None:
    gone = asyncio.create_task(probes.take())
    stays = asyncio.create_task(probes.take())
    await asyncio.sleep(0)
    gone.cancel()
    assert isinstance(await stays, KnownProbe)
