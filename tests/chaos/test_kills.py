"""kill -9 of everything in turn, and of several at random, while clients go on asking."""

from __future__ import annotations

import asyncio
import random

from bench.faults.mesh import Mesh, until

EVERYTHING = ("gateway", "gateway-1", "matchmaker", "matchmaker-1", "quorum", "quorum-1", "dlq", "nats-server")


async def test_everything_is_killed_in_turn(pair: Mesh) -> None:
    pair.load()
    await pair.goes_on()
    for name in EVERYTHING:
        old = pair.stack.kill(name)
        assert old, f"{name} was not running"
        await pair.goes_on(3)
        await until(lambda name=name, old=old: up(pair, name, old), f"{name} runs again")
    for name in list(pair.crew.processes):
        pair.crew.kill(name)
        await pair.goes_on(3)
        await pair.crew.again(name)
    await pair.in_peace(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))


async def up(mesh: Mesh, name: str, old: int) -> bool:
    return mesh.stack.processes[name].pid not in (0, old)


async def test_several_are_killed_at_random(pair: Mesh) -> None:
    """Also those that have just started, and nats-server together with whoever waits for it."""
    rng = random.Random(5)
    pair.load()
    for _ in range(6):
        for name in rng.sample(EVERYTHING, rng.randint(1, 4)):
            pair.stack.kill(name)
        if rng.random() < 0.5:
            worker = rng.choice(sorted(pair.crew.processes))
            pair.crew.kill(worker)
            await pair.crew.again(worker)
        await asyncio.sleep(rng.uniform(0, 1.5))
    await pair.in_peace(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))


async def test_everything_is_killed_at_once(pair: Mesh) -> None:
    pair.load()
    await pair.goes_on()
    killed = [pair.stack.kill(name) for name in pair.stack.processes]
    for name in list(pair.crew.processes):
        pair.crew.kill(name)
        await pair.crew.again(name)
    assert all(killed)
    await pair.goes_on()
    await pair.in_peace()
