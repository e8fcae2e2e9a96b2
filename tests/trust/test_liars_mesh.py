"""The mesh behind the figures of docs/threat-model.md: it repeats, and its figures can come out either way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.curves import Line, chart
from bench.trust_mesh import LiarsMesh, Outcome, job


def ran(policy: str, way: str, colluding: bool = True, seed: int = 3, tasks: int = 600) -> Outcome:
    return LiarsMesh(seed, job(policy, 2, tasks), 10, 0.4, colluding, way).run()


def test_a_seed_repeats_to_the_digit() -> None:
    assert ran("adaptive", "rarely") == ran("adaptive", "rarely") != ran("adaptive", "rarely", seed=4)


@pytest.mark.parametrize("way", ["always", "sleeper", "rarely", "cunning"])
def test_an_audit_lets_nothing_through_and_brands_nobody(way: str) -> None:
    outcome = ran("audit", way)
    assert (outcome.tasks, outcome.wrong, outcome.branded) == (600, 0, 0)
    assert outcome.answers > 600 or way == "cunning", "liars were caught, and others asked"


def test_colluders_get_through_a_quorum_and_independent_liars_do_not() -> None:
    assert ran("quorum", "cunning").wrong > 0 == ran("quorum", "cunning", colluding=False).wrong
    assert ran("quorum", "always", colluding=False).wrong == 0


def test_sleepers_get_through_on_trust_within_their_budget() -> None:
    outcome = ran("adaptive", "sleeper", tasks=3_000)
    assert 0 < outcome.wrong < 60 and 0 < outcome.gain <= 0.1 and outcome.branded == 0


def test_a_chart_has_its_lines_and_axes() -> None:
    svg = chart("Title", "across", "%", [Line("one & two", [(0, 0), (10, 50)])], log=True)
    assert svg.startswith("<svg ") and "one &amp; two" in svg and "prefers-color-scheme:dark" in svg
    assert svg.count("<polyline") == 1 and "≤ 0.01" in svg
