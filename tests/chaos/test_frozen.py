"""SIGSTOP of each, longer than leases and presence last: what wakes up acts on an old view, and nothing comes of it."""

from __future__ import annotations

import asyncio

from bench.faults.crew import resume, stop
from bench.faults.mesh import Mesh

LEASES_S = 11.0  # a lease of these tasks lasts ten seconds and a little (LEASE_BASE_MS); presence three


async def test_one_of_each_is_frozen_and_the_others_go_on(pair: Mesh) -> None:
    pair.load()
    await pair.goes_on()
    pids = [pair.stack.processes[name].pid for name in ("gateway-1", "matchmaker", "quorum-1", "dlq")]
    pids.append(pair.crew.processes["cy"].pid)  # whose gateway is frozen too: two devices are left, as many as needed
    for pid in pids:
        stop(pid)
    try:
        await asyncio.sleep(LEASES_S)
        await pair.goes_on()
    finally:
        for pid in pids:
            resume(pid)
    await pair.goes_on()
    await pair.in_peace(rebuilt=("matchmaker", "quorum"))
    running = {managed.pid for managed in pair.stack.processes.values()}
    assert set(pids[:-1]) <= running, "they went on, and were not started again"


async def test_the_log_is_frozen_and_everybody_waits_for_it(pair: Mesh) -> None:
    pair.load()
    await pair.goes_on()
    pid = pair.stack.processes["nats-server"].pid
    stop(pid)
    try:
        await asyncio.sleep(LEASES_S)
    finally:
        resume(pid)
    await pair.goes_on()
    await pair.in_peace(rebuilt=("gateway", "matchmaker", "quorum"))
