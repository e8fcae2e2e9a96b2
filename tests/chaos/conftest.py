"""One mesh with two of each for the faults that can share it. After each fault its whole history is checked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bench.faults.mesh import ENV, Mesh, until
from shardy_common.stack import Stack

PURE = ("test_history_rules.py", "test_measures.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A stack supervises its processes from one event loop, so all tests of real faults run in one."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.path.name not in PURE:
            item.add_marker(pytest.mark.connected)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """Two gateways, matchmakers and quorums; three honest workers."""
    folder = tmp_path_factory.mktemp("pair")
    replicas = {"matchmaker": 2, "quorum": 2}
    stack = Stack(folder / "data", allow_same_address=True, env=ENV, gateways=2, replicas=replicas)
    async with Mesh(folder, stack) as mesh:
        await mesh.join("ada", "bo")
        await mesh.join("cy", gateway=1)
        await until(mesh.live, "both of each see each other")
        yield mesh
