"""Fixtures: one fake API for all tests, emptied between them, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_api import KEY, FakeApi

from shardy_client import Mesh


@pytest.fixture(scope="session")
def running_api() -> Iterator[FakeApi]:
    api = FakeApi()
    api.start()
    yield api
    api.stop()


@pytest.fixture
def api(running_api: FakeApi) -> FakeApi:
    running_api.reset()
    return running_api


@pytest.fixture
def mesh(api: FakeApi) -> Iterator[Mesh]:
    with Mesh(api.url, KEY) as mesh:
        yield mesh
