"""The server and its roles, for the folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from guardkit import ANSWER_S, Guarded, Role, role_of

from shardy_common.make_streams import make
from shardy_common.permissions import ROLES


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    server = Guarded(tmp_path_factory.mktemp("guarded"))
    try:
        asyncio.run(asyncio.wait_for(make(server.node.url, 1, seed_file=server.seed("operator")), ANSWER_S))
        yield server
    finally:
        server.stop()


@pytest.fixture
async def roles(guarded: Guarded) -> AsyncIterator[dict[str, Role]]:
    found = {name: await role_of(guarded, name) for name in ROLES}
    yield found
    for role in found.values():
        await role.client.close()
