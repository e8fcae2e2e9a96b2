"""Helpers that several folders of tests share lie in tests/support.

Tests marked `alone` hold what is promised in seconds to somebody who watches, or take every core, so nothing else may
run beside them: `make test` runs the others first, some at a time (--alone=not), and then them (--alone=only).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--alone", choices=["all", "only", "not"], default="all", help="tests marked `alone`, or the rest")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    which = config.getoption("--alone")
    if which == "all":
        return
    kept = [item for item in items if (item.get_closest_marker("alone") is not None) == (which == "only")]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept
