"""kill -9 of everything in turn, then of everything at once, while clients go on asking. (At random: test_soak.py.)"""

from __future__ import annotations

from bench.faults.mesh import Mesh, until

IN_TURN = ("gateway", "matchmaker", "quorum-1", "nats-server", "gateway-1", "dlq", "matchmaker-1", "quorum")


async def test_everything_is_killed_in_turn_and_at_once(pair: Mesh) -> None:
    pair.load()
    await pair.goes_on()
    for name in IN_TURN:
        assert pair.stack.kill(name), f"{name} was not running"
        await pair.goes_on(3)
    for name in list(pair.crew.processes):
        pair.crew.kill(name)
        await pair.goes_on(3)
        await pair.crew.again(name)
    await until(pair.live, "everything is there again")
    killed = [pair.stack.kill(name) for name in pair.stack.processes]
    assert all(killed)
    for name in list(pair.crew.processes):
        pair.crew.kill(name)
        await pair.crew.again(name)
    await pair.goes_on()
    await pair.in_peace(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))
