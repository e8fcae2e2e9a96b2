"""One engine for all tests of this folder; the tests themselves show that nothing is left over between calls."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shardy_common.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
for folder in ("vectors", "engine-rs"):
    sys.path.insert(0, str(ROOT / folder))


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine()
