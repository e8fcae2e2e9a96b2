"""Replicas that join and leave under load: work never stops meanwhile."""

from __future__ import annotations

import time
from itertools import pairwise

from bench.faults.mesh import Mesh, until

PAUSE_MAX_S = 15.0  # who leaves without a word is missed after three seconds; the rest is left to a busy machine


async def test_replicas_join_and_leave_without_a_pause(pair: Mesh) -> None:
    stack = pair.stack
    pair.load(4)
    await pair.goes_on()
    began_s = time.monotonic()
    added = []
    for service in ("matchmaker", "quorum", "gateway"):
        added.append(stack.add_replica(service))
        await until(pair.live, f"{added[-1]} takes its share")
        await pair.goes_on(5)
    assert added == ["matchmaker-2", "quorum-2", "gateway-2"]
    await pair.join("newcomer", gateway=2)
    await pair.goes_on()
    for name in added:
        await stack.remove_replica(name)
        await pair.goes_on(5)
    await until(pair.live, "those that stay see each other, and nobody else")
    ended_s = time.monotonic()
    times = [began_s, *(at for at, _ in pair.follower.verdicts(began_s) if at < ended_s), ended_s]
    longest_s = max(b - a for a, b in pairwise(times))
    assert longest_s < PAUSE_MAX_S, f"nothing was verified for {longest_s:.1f} s"
    assert len(stack.urls) == 2 and added[0] not in stack.processes
    await pair.in_peace(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))
