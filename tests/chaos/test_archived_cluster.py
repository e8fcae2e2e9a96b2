"""A log on three nodes is archived while two of each service work on it, and its leader dies between two runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.faults.logs import opened_log
from bench.faults.mesh import ENV, Mesh, until
from shardy_common.log.archiving import Archiver, Report
from shardy_common.log.retention import Policy
from shardy_common.nats_nodes import CLUSTER
from shardy_common.runtime import running_log
from shardy_common.stack import SERVICES, Stack

ALL = Policy(older_than_s=0, keep_events=0, epoch_events=100)
REPLICATED = ("gateway", "matchmaker", "quorum")


async def archived(stack: Stack, meanwhile: Callable[[str], None] = lambda _step: None) -> Report:
    async with running_log(stack.data_dir) as log:
        return await Archiver(log, ALL, step=meanwhile).run()


async def info(stack: Stack) -> dict[str, Any]:
    async with opened_log(stack) as log:
        return await log.info()


async def test_a_log_of_three_nodes_is_archived_under_load(tmp_path: Path) -> None:
    stack = Stack(
        tmp_path / "data",
        allow_same_address=True,
        env=ENV,
        gateways=2,
        replicas={"matchmaker": 2, "quorum": 2},
        nats_nodes=3,
    )
    async with Mesh(tmp_path, stack) as mesh:
        await mesh.join("ada", "bo")
        await mesh.join("cy", gateway=1)
        mesh.load()
        await mesh.goes_on(40)
        first = await archived(stack)
        assert first.purged > 0 and not first.waiting, first
        await mesh.goes_on(20)

        leader = (await info(stack))["cluster"]["leader"]
        node = stack.processes[leader.replace(CLUSTER, "nats-server")]
        node.held = asyncio.Event()
        stack.kill(node.name)

        async def led_by_another() -> bool:
            return (await info(stack))["cluster"].get("leader", leader) != leader

        await until(led_by_another, "another node leads")
        await mesh.goes_on(40)
        second = await archived(stack)
        assert second.purged > 0 and not second.waiting, second
        assert second.archived_before == first.archived < second.archived, second
        node.held.set()
        await mesh.goes_on(20)
        for name in REPLICATED:
            stack.kill(name)  # one of each begins with its rows, and follows what was archived meanwhile
        await until(mesh.live, "all of them are back")

        async def whole() -> bool:
            nodes = (await info(stack))["cluster"]["replicas"]
            return len(nodes) == 2 and all(node["current"] and not node.get("offline") for node in nodes)

        await until(whole, "the node that died has what the others have")
        await asyncio.sleep(0.5)
        third = await archived(stack)
        assert not third.waiting and third.archived_before == second.archived < third.archived, third
        log = await mesh.in_peace(rebuilt=tuple(SERVICES))
        assert [recorded.seq for recorded in log if recorded.part == 0][:3] == [1, 2, 3], "from the archive on"
