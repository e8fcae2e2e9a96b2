"""One stack with three honest workers for all tests that can share it, and one that may be broken."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from meshkit import SLOW, Workers, api, client
from replayed import Replayed

from shardy_client import AsyncMesh
from shardy_common.stack import Stack

HONEST = ("ada", "bo", "cy")
NO_CANARIES = {"SHARDY_CANARY_EVERY": "0"}  # a liar must be caught where its test looks: test_trusting_mesh.py has some


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A stack supervises its processes from one event loop, so all tests here run in one."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.connected)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The shared stack: nothing in it is killed."""
    # tests of refusals ask without a key more often than anybody should
    env = {**NO_CANARIES, "SHARDY_FAILED_AUTH_BURST": "100000"}
    async with Stack(tmp_path_factory.mktemp("stack"), allow_same_address=True, env=env) as running:
        yield running
        broken = {m.name: m.log.read_text()[-2000:] for m in running.processes.values() if m.restarts}
        assert not broken, broken


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def honest(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    """Three honest workers that stay for the whole run."""
    workers = Workers(stack, tmp_path_factory.mktemp("workers"))
    try:
        await workers.start(*HONEST)
        yield workers
    finally:
        await workers.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def workers(stack: Stack, tmp_path: Path) -> AsyncIterator[Workers]:
    """Further workers of the shared stack, for one test."""
    more = Workers(stack, tmp_path)
    try:
        yield more
    finally:
        await more.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def mesh(stack: Stack) -> AsyncIterator[AsyncMesh]:
    async with client(stack) as mesh:
        yield mesh


@pytest_asyncio.fixture(loop_scope="session")
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with api(stack) as http:
        yield http


_replayed: weakref.WeakKeyDictionary[Stack, Replayed] = weakref.WeakKeyDictionary()


async def check_replayed(stack: Stack) -> None:
    """The state that every service of the stack keeps is what a fold of its log gives."""
    if stack not in _replayed:
        _replayed[stack] = Replayed(stack)
    await _replayed[stack].check()


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def live_equals_replayed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """After every test: of the stacks that it shares with others, and of its own before they stop."""
    leave = Stack.__aexit__

    async def checked(self: Stack, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                await check_replayed(self)
        finally:
            await leave(self, kind, error, trace)

    monkeypatch.setattr(Stack, "__aexit__", checked)
    yield
    for name in request.fixturenames:
        stack = None
        with contextlib.suppress(AssertionError):  # of one that only this test had, and that is gone
            stack = request.getfixturevalue(name)
        if isinstance(stack, Stack) and stack.processes:
            await check_replayed(stack)


@pytest.fixture
def rng() -> np.random.Generator:
    gc.collect()
    return np.random.default_rng(20)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def wreck(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack whose processes are killed, and whose projections are thrown away."""
    async with Stack(tmp_path_factory.mktemp("wreck"), allow_same_address=True, env=NO_CANARIES) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def crew(wreck: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    """Three honest but slow workers of that stack: jobs last long enough to be interrupted."""
    workers = Workers(wreck, tmp_path_factory.mktemp("crew"))
    try:
        await workers.start("dee", "eve", "fay", **SLOW)
        yield workers
    finally:
        await workers.stop()
