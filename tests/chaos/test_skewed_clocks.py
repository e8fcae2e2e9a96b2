"""Services and workers whose clocks are an hour or more off, each another way: the log's clock is the mesh's clock."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.faults.clocks import SkewedStack, library, shifted
from bench.faults.mesh import ENV, Mesh, until
from shardy_common.wire import events as ev

HOURS = {"gateway": 1, "matchmaker": -1, "matchmaker-1": 1, "quorum": -2, "quorum-1": 2, "dlq": -1}


async def test_clocks_that_are_hours_off_end_no_lease_too_soon(tmp_path: Path) -> None:
    if not library():
        print("libfaketime is not installed here (Debian: faketime)")
        pytest.skip("libfaketime is not installed here (Debian: faketime)")
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
        await mesh.goes_on(60)
        quiet = mesh.follower.came[-1][1].seq
        for name in ("matchmaker", "gateway"):  # what takes over reads deadlines that somebody else wrote
            mesh.stack.kill(name)
            await mesh.goes_on(20)
        mesh.crew.kill("ada")  # its leases do run out
        await mesh.crew.again("ada")
        await mesh.goes_on(20)
        log = await mesh.in_peace(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))
    expired = [r for r in log if isinstance(r.event, ev.TaskExpired) and r.seq <= quiet]
    assert expired == [], "every worker was there: no lease had a reason to run out"
    now_ms = time.time() * 1e3
    leases = [lease for r in log if isinstance(r.event, ev.TaskCreated) for lease in r.event.leases]
    assert leases and all(abs(lease.deadline_ms - now_ms) < 1_800_000 for lease in leases)
