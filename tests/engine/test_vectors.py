"""The committed vectors: the module meets them, and they are what the oracle says today."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from shardy_common.engine import Engine

# Both modules lie in vectors/, which conftest.py puts on the path.
replay: Any = importlib.import_module("replay")
generate: Any = importlib.import_module("generate")


@pytest.mark.parametrize("function", sorted(replay.RUN))
def test_engine_meets_vectors(engine: Engine, function: str) -> None:
    results = [(name, passed) for name, passed in replay.outcomes(engine) if name.startswith(function + ":")]
    assert results, f"no vectors for {function}"
    assert [name for name, passed in results if not passed] == []


def test_committed_vectors_are_the_oracles() -> None:
    assert generate.PATH.read_text() == generate.text()


def test_a_changed_vector_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = replay.cases()
    product = next(case for case in cases if case["function"] == "matmul")
    digits = product["want"]["c"]["hex"]
    product["want"]["c"]["hex"] = f"{int(digits[0], 16) ^ 1:x}" + digits[1:]
    monkeypatch.setattr(replay, "cases", lambda: cases)
    assert replay.failures() == [f"matmul: {product['name']}"]


def test_vectors_stay_small() -> None:
    assert generate.PATH.stat().st_size < 300_000
    assert len(json.loads(generate.PATH.read_text())["cases"]) > 250
