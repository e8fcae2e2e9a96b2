"""The log's end is lost, or all of it, while projections remember more: they belong to another log, and begin anew."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from bench.faults.logs import last_seq, newest_block, read_log
from bench.faults.mesh import ENV, Mesh, log_killed, log_started, until
from shardy_common.stack import Stack

SYNCED_S = 2.0  # the server writes through to the disk every second (sync_interval)
LOST_BYTES = 5_000


def cut(block: Path) -> None:
    os.truncate(block, block.stat().st_size - LOST_BYTES)


def flip(block: Path) -> None:
    with open(block, "r+b") as data:
        data.seek(block.stat().st_size - LOST_BYTES)
        (old,) = data.read(1)
        data.seek(-1, os.SEEK_CUR)
        data.write(bytes([old ^ 1]))


@pytest.mark.parametrize("damage", [cut, flip])
async def test_a_torn_end_costs_no_more_than_what_was_not_synced(tmp_path: Path, damage: object) -> None:
    """Services and clients have seen events that are gone. Jobs that were in the log before are there and end; a job
    of the lost second may be unknown, but is so everywhere."""
    async with Mesh(tmp_path, Stack(tmp_path / "data", allow_same_address=True, env=ENV)) as mesh:
        await mesh.join("ada", "bo", "cy")
        mesh.load()
        await mesh.goes_on(40)
        await asyncio.sleep(SYNCED_S)
        synced = await last_seq(mesh.stack)
        await mesh.goes_on(40)
        await log_killed(mesh)
        damage(newest_block(mesh.stack.data_dir))  # type: ignore[operator]
        log_started(mesh)
        await mesh.rest()
        await until(mesh.live, "every service follows the log that is left")
        assert await last_seq(mesh.stack) >= synced, "what was synced is there"
        lost = mesh.forget_lost(await read_log(mesh.stack))
        await mesh.follow_anew()
        mesh.load()
        await mesh.goes_on(40)
        await mesh.in_peace(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))
        async with mesh.api() as http:
            for job in lost:
                assert (await http.get(f"/v1/jobs/{job}")).status_code == 404, "nowhere half known"


async def test_an_emptied_store_is_another_log(tmp_path: Path) -> None:
    """nats-server comes back without its memory: new jobs are served right, old ones are known nowhere."""
    replicas = {"matchmaker": 2, "quorum": 2}
    async with Mesh(
        tmp_path, Stack(tmp_path / "data", allow_same_address=True, env=ENV, gateways=2, replicas=replicas)
    ) as mesh:
        await mesh.join("ada", "bo", "cy")
        mesh.load()
        await mesh.goes_on(40)
        await mesh.in_peace()
        old = mesh.history.jobs()
        await log_killed(mesh)
        shutil.rmtree(mesh.stack.data_dir / "nats")
        log_started(mesh)
        mesh.history.seen.clear()
        mesh.crew.forget()
        await until(mesh.live, "every service follows the new log")
        await mesh.follow_anew()
        await until(lambda: mesh.tiered("ada", "bo", "cy"), "the workers joined again")
        mesh.load()
        await mesh.goes_on(40)
        await mesh.in_peace(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))
        for url in mesh.stack.urls:
            async with mesh.api(url=url) as http:
                listed = {job["id"] for job in (await http.get("/v1/jobs?limit=500")).json()["jobs"]}
                assert listed.isdisjoint(old)
                for job in old:
                    assert (await http.get(f"/v1/jobs/{job}")).status_code == 404
