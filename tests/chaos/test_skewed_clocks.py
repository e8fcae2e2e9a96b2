"""Services and workers whose clocks are an hour or more off, each another way: the log's clock is the mesh's clock."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from bench.faults.clocks import SkewedStack, shifted
from bench.faults.mesh import ENV, Mesh, until
from shardy_common.wire import events as ev

SAYS = "import time; a = time.monotonic(); time.sleep(0.2); print(time.time(), time.monotonic() - a)"
HOURS = {"gateway": 1, "matchmaker": -1, "matchmaker-1": 1, "quorum": -2, "quorum-1": 2, "dlq": -1}


async def test_clocks_that_are_hours_off_end_no_lease_too_soon(tmp_path: Path) -> None:
    stack = SkewedStack(
        tmp_path / "data", HOURS, allow_same_address=True, env=ENV, replicas={"matchmaker": 2, "quorum": 2}
    )
    async with Mesh(tmp_path, stack) as mesh:
        await mesh.crew.start("ada", stack.url)
        await mesh.crew.start("bo", stack.url, env=shifted(3))
        await mesh.crew.start("cy", stack.url, env=shifted(-3))
        await until(lambda: mesh.tiered("ada", "bo", "cy"), "the workers joined")
        await until(mesh.live, "both of each see each other")
        mesh.load()
        await mesh.goes_on(40)
        quiet = mesh.follower.came[-1][1].seq
        for name in ("matchmaker", "gateway"):  # what takes over reads deadlines that somebody else wrote
            mesh.stack.kill(name)
            await mesh.goes_on(10)
        mesh.crew.kill("ada")  # its leases do run out
        await mesh.crew.again("ada")
        await mesh.goes_on(10)
        log = await mesh.in_peace(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))
    expired = [r for r in log if isinstance(r.event, ev.TaskExpired) and r.seq <= quiet]
    assert expired == [], "every worker was there: no lease had a reason to run out"
    now_ms = time.time() * 1e3
    leases = [lease for r in log if isinstance(r.event, ev.TaskCreated) for lease in r.event.leases]
    assert leases and all(abs(lease.deadline_ms - now_ms) < 1_800_000 for lease in leases)


async def test_a_shifted_process_tells_another_time_and_waits_as_long() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SAYS, env={**os.environ, **shifted(-3)}, stdout=subprocess.PIPE
    )
    told, waited = (await process.communicate())[0].split()
    assert abs(float(told) - time.time() + 3 * 3600) < 60 and 0.2 <= float(waited) < 60
