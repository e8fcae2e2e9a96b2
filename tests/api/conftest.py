"""One stack with two gateways for the tests of the API, and clients with its keys."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from apikit import keyed

from shardy_common.stack import Stack

LIMITS = {"SHARDY_FAILED_AUTH_BURST": "100000", "SHARDY_REQUESTS_BURST": "100000"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a stack is connected; a stack supervises from one event loop, so all tests here run in one."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            if inspect.iscoroutinefunction(getattr(item, "function", None)):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            if "stack" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.connected)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(tmp_path_factory.mktemp("api"), allow_same_address=True, env=LIMITS, gateways=2) as running:
        yield running
        broken = {m.name: m.log.read_text()[-2000:] for m in running.processes.values() if m.restarts}
        assert not broken, broken


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def second(stack: Stack) -> str:
    return stack.urls[1]


@pytest_asyncio.fixture(loop_scope="session")
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with keyed(stack.url, stack.api_key) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def operator(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with keyed(stack.url, stack.operator_key) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def other(stack: Stack, second: str) -> AsyncIterator[httpx.AsyncClient]:
    """The same requester at the other gateway."""
    async with keyed(second, stack.api_key) as client:
        yield client
