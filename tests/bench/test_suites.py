"""Every suite can be begun: what it takes from other modules is there."""

from __future__ import annotations

import importlib

import pytest

from bench.__main__ import SUITES


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_can_be_begun(suite: str) -> None:
    assert callable(importlib.import_module(f"bench.{suite}").run)
