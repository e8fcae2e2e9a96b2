"""Right products satisfy the circuit, and it makes public just what signals.py computes from their bytes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from shardy_common.proofs.signals import Circuit, signals_of

SMALL = (8, 8, 8)


def agrees(circuit: Any, case: Any) -> None:
    wires = circuit.witness(case.inputs)
    assert circuit.publics(wires) == case.signals
    assert circuit.constraints.publics == 4
    assert list(circuit.constraints.broken(wires)) == []


@pytest.mark.parametrize("rows, k, cols", [(8, 8, 8), (1, 1, 1), (7, 8, 8), (8, 3, 8), (8, 8, 5), (5, 6, 7)])
def test_products_padded_or_not(compiled: Any, random_case: Any, rows: int, k: int, cols: int) -> None:
    agrees(compiled(*SMALL), random_case(Circuit(*SMALL), rows * 64 + k * 8 + cols, rows, k, cols))


@pytest.mark.parametrize("low, high", [(-128, -128), (-128, 127), (127, -128), (127, 127), (0, 0), (0, -128), (1, -1)])
def test_extremes(compiled: Any, make_case: Any, low: int, high: int) -> None:
    agrees(compiled(*SMALL), make_case(Circuit(*SMALL), np.full((8, 8), low), np.full((8, 8), high)))


def test_rows_of_different_signs(compiled: Any, make_case: Any) -> None:
    """Digits borrow from each other where signs alternate."""
    a = np.where(np.arange(8)[:, None] % 2, np.int8(127), np.int8(-128)) * np.ones((8, 8), np.int8)
    agrees(compiled(*SMALL), make_case(Circuit(*SMALL), a, np.eye(8) * -128))


def test_two_groups_of_rows(compiled: Any, random_case: Any) -> None:
    agrees(compiled(16, 16, 16), random_case(Circuit(16, 16, 16), 3, rows=11))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(32, 32, 32), (8, 384, 8), (64, 64, 64)])
@pytest.mark.timeout(600)
def test_larger(compiled: Any, make_case: Any, random_case: Any, shape: tuple[int, int, int]) -> None:
    agrees(compiled(*shape), random_case(Circuit(*shape), 1))
    extreme = make_case(Circuit(*shape), np.full((shape[0], shape[1]), -128), np.full((shape[2], shape[1]), -128))
    agrees(compiled(*shape), extreme)


def test_the_calculator_refuses_what_is_wrong(compiled: Any, random_case: Any, make_case: Any) -> None:
    """An honest worker with a broken device learns of it before it proves."""
    right = random_case(Circuit(*SMALL), 5)
    wrong = right.c.copy()
    wrong[3, 4] += 1
    with pytest.raises(ValueError, match="Assert Failed"):
        compiled(*SMALL).witness(make_case(right.shape, right.a, right.b, wrong).inputs)


def test_signals_follow_from_the_inputs_alone(random_case: Any) -> None:
    case = random_case(Circuit(*SMALL), 6)
    assert signals_of(case.inputs) == case.signals


def test_constraints_are_as_recorded(builder: Any, compiled: Any) -> None:
    recorded = builder.recorded()
    assert set(recorded) == {builder.name_of(shape) for shape in builder.SHAPES}
    for shape in [(8, 8, 8), (16, 16, 16)]:
        assert builder.describe(compiled(*shape).folder) == recorded[builder.name_of(shape)]
    # what makes them: bits of B, hashes, the check itself; each grows as the README says
    assert recorded["v2-32x32x32"]["constraints"] == 23_785
    assert all(entry["publics"] == 4 for entry in recorded.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_constraints_are_as_recorded(builder: Any, compiled: Any) -> None:
    recorded = builder.recorded()
    for shape in builder.SHAPES:
        assert builder.describe(compiled(*shape).folder) == recorded[builder.name_of(shape)]


def test_the_readme_states_what_is_recorded(builder: Any) -> None:
    text = (builder.FOLDER / "README.md").read_text()
    for name, entry in json.loads((builder.FOLDER / "constraints.json").read_text())["circuits"].items():
        line = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), "")
        assert f"{entry['constraints']:,}" in line and f"{entry['wires']:,}" in line, name
