"""No room under the log, under the projections, under the blobs: words, waiting, no gap; all goes on when there is room
again. (Uploads to a full store: tests/connected/test_full_disk.py.)"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bench.faults.disk import SmallDisk
from bench.faults.mesh import ENV, Mesh, until
from shardy_common.stack import Stack

# nats-server gives away three quarters of its disk: 64 MiB for the log, which a load fills in minutes, and 16 for
# advisories. Of the six projections, each keeps up to 32 MiB of changes beside its file.
MIB = {"nats": 128, "projections": 320, "blobs": 24}
Disks = dict[str, SmallDisk]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cramped(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Mesh, Disks]]:
    folder = tmp_path_factory.mktemp("cramped")
    with contextlib.ExitStack() as mounts:
        disks = {}
        for name, mib in MIB.items():
            disks[name] = mounts.enter_context(SmallDisk(folder / "data" / name, mib))
            if why := disks[name].why_not:
                print(f"no small file system can be mounted here: {why}")
                pytest.skip(f"no small file system can be mounted here: {why}")
        async with Mesh(folder, Stack(folder / "data", allow_same_address=True, env=ENV)) as mesh:
            await mesh.join("ada", "bo", "cy")
            yield mesh, disks


@pytest.mark.parametrize(("place", "words"), [("projections", "no room"), ("blobs", "store"), ("nats", "log")])
async def test_a_full_disk_is_waited_for(cramped: tuple[Mesh, Disks], place: str, words: str) -> None:
    """words: what the service's log says of its projection, and what clients are told of the other two."""
    mesh, disks = cramped
    mesh.load()
    await mesh.goes_on()
    log = mesh.stack.data_dir / "logs" / "matchmaker.log"
    before, seen = len(log.read_text()), len(mesh.history.seen)
    filler = disks[place].fill()
    mesh.load(1)  # who waits for a job hears nothing of it: somebody asks for another

    async def told() -> bool:
        if place == "projections":
            return words in log.read_text()[before:]
        return any(s.what == "error" and s.key and words in s.detail for s in mesh.history.seen[seen:])

    await until(told, f"somebody is told that there is no room under {place}")
    await asyncio.sleep(2.0)
    if place == "blobs":
        filler.unlink()
    else:
        disks[place].enlarge(4 * MIB[place])
    await mesh.goes_on()
    await mesh.in_peace(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))
    for managed in mesh.stack.processes.values():
        assert "Traceback" not in managed.log.read_text(errors="replace"), managed.name
