"""Suite `trust`: what liars get through under each policy, what honest devices suffer, and what checking costs.

Meshes of 40 devices with 5 to 40 % liars, who give wrong bytes each for himself or all the same ones, and who lie at
once, after they are trusted, rarely, or only where they were asked alone; banned ones come back with new keys
(bench/trust_mesh.py). The rules are the services' own, seeds are fixed, so a run repeats to the digit. Beside the
figures it writes docs/img/trust-wrong.svg, docs/img/trust-overhead.svg and the table in docs/threat-model.md.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bench.curves import Line, chart
from bench.trust_mesh import LiarsMesh, Outcome, job

DOCS = Path(__file__).resolve().parent.parent / "docs"
DEVICES = 40
SHARES = (0.05, 0.10, 0.20, 0.40)
SEEDS = {"quorum2": (1, 2), "quorum3": (1, 2), "audit": (1,), "adaptive": (1,)}
POLICIES = {"quorum2": ("quorum", 2), "quorum3": ("quorum", 3), "audit": ("audit", 2), "adaptive": ("adaptive", 2)}
TASKS = {"quorum2": 3_000, "quorum3": 3_000, "audit": 2_000, "adaptive": 16_000}
WAYS = {False: ("always", "sleeper", "rarely"), True: ("always", "sleeper", "rarely", "cunning")}
LONG_DEVICES, LONG_TASKS = 20, 80_000  # of an honest mesh: 4,000 tasks a device
MARKS = ("<!-- table: make bench SUITE=trust -->\n", "<!-- end of table -->")
Worst = dict[tuple[str, bool, float], float]  # policy, colluding, share → the most that any way of lying gets through


def run() -> list[dict[str, Any]]:
    outcomes = {
        (policy, colluding, share, way, seed): LiarsMesh(
            seed, job(*POLICIES[policy], TASKS[policy]), DEVICES, share, colluding, way
        ).run()
        for policy in POLICIES
        for colluding, ways in WAYS.items()
        for share in SHARES
        for way in ways
        for seed in SEEDS[policy]
    }
    long = LiarsMesh(1, job("adaptive", 2, LONG_TASKS), LONG_DEVICES, 0.0, False, "always").run()
    worst = _worst(outcomes)
    overhead = _overhead(long)
    _write_curves(worst, overhead)
    _write_table(outcomes, worst)
    branded = sum(outcome.branded for outcome in [*outcomes.values(), long])
    answers = sum(outcome.answers for outcome in outcomes.values())
    gain = max(outcome.gain for outcome in outcomes.values())
    replicas = {name: _answers_each(outcomes, name) - 1 for name in ("quorum2", "quorum3", "audit")}
    figures = [
        _figure("audit_wrong_accepted", max(v for k, v in worst.items() if k[0] == "audit"), "share", aim="0"),
        _figure("honest_branded", branded, f"of {answers:,} answers", aim="0"),
        _figure("adaptive_wrong_accepted", max(v for k, v in worst.items() if k[0] == "adaptive" and k[2] <= 0.2),
                "share, 20% liars or fewer", "quorum2", worst["quorum2", True, 0.2], "< 0.01"),
        _figure("adaptive_gain_max", gain, "of its checked operations, in a key's whole life", aim="< 0.1"),
        _figure("adaptive_overhead_pct", 100 * overhead[-1][1], "% after 4,000 tasks a device", "quorum2",
                100 * replicas["quorum2"], "< 10"),
        _figure("adaptive_overhead_first_400_pct", 100 * _share_of(overhead, 400), "% over a device's first 400 tasks",
                "quorum2", 100 * replicas["quorum2"]),
        _figure("quorum2_overhead_pct", 100 * replicas["quorum2"], "%"),
        _figure("quorum3_overhead_pct", 100 * replicas["quorum3"], "%"),
        _figure("audit_overhead_pct", 100 * replicas["audit"], "%"),
    ]  # fmt: skip
    for policy in ("quorum2", "quorum3", "adaptive"):
        for colluding, word in ((False, "independent"), (True, "colluding")):
            for share in SHARES:
                name = f"{policy}_wrong_accepted_{word}_{share * 100:.0f}pct"
                figures.append(_figure(name, worst[policy, colluding, share], "share, the worst way of lying"))
    return figures


def _figure(
    name: str, value: float, unit: str, other: str = "", compared: float | None = None, aim: str = ""
) -> dict[str, Any]:
    ratio = value / compared if compared else None
    return {"name": name, "value": value, "unit": unit, "compared_with": other, "ratio": ratio, "aim": aim}


def _worst(outcomes: dict[tuple[str, bool, float, str, int], Outcome]) -> Worst:
    shares: dict[tuple[str, bool, float, str], list[float]] = {}
    for (policy, colluding, share, way, _), outcome in outcomes.items():
        shares.setdefault((policy, colluding, share, way), []).append(outcome.wrong / outcome.tasks)
    worst: Worst = {}
    for (policy, colluding, share, _), found in shares.items():
        key = (policy, colluding, share)
        worst[key] = max(worst.get(key, 0.0), sum(found) / len(found))
    return worst


def _answers_each(outcomes: dict[tuple[str, bool, float, str, int], Outcome], policy: str) -> float:
    """Answers for each verified task, with the fewest liars."""
    some = [outcome for key, outcome in outcomes.items() if key[0] == policy and key[2] == SHARES[0]]
    return sum(outcome.answers for outcome in some) / sum(outcome.tasks for outcome in some)


def _overhead(outcome: Outcome) -> list[tuple[float, float]]:
    """(tasks a device so far, extra computations of the last tenth of these)."""
    seen = outcome.answers_by_round
    points = []
    for i in range(1, 41):
        end = len(seen) * i // 40 - 1
        start = max(end - max(end // 10, 4), 0)
        tasks, answers = (seen[end][0] - seen[start][0], seen[end][1] - seen[start][1])
        points.append((seen[end][0] / LONG_DEVICES, answers / max(tasks, 1) - 1))
    return points


def _share_of(points: list[tuple[float, float]], tasks: float) -> float:
    first = [extra for at, extra in points if at <= tasks]
    return sum(first) / len(first)


def _write_curves(worst: Worst, overhead: list[tuple[float, float]]) -> None:
    names = {
        ("quorum2", True): "quorum, 2 replicas, colluding",
        ("quorum3", True): "quorum, 3 replicas, colluding",
        ("adaptive", True): "adaptive, colluding",
        ("adaptive", False): "adaptive, independent",
        ("quorum2", False): "quorum, independent; audit",
    }
    lines = [
        Line(name, [(100 * share, 100 * worst[policy, colluding, share]) for share in SHARES])
        for (policy, colluding), name in names.items()
    ]
    (DOCS / "img").mkdir(exist_ok=True)
    svg = chart(
        "Wrong results accepted, in the worst case", "liars among the devices, %", "% of results", lines, log=True
    )
    (DOCS / "img" / "trust-wrong.svg").write_text(svg, encoding="utf-8")
    extra = [Line("adaptive", [(at, 100 * share) for at, share in overhead])]
    extra.append(Line("quorum, 2 replicas", [(0, 100), (overhead[-1][0], 100)]))
    extra.append(Line("floor of checks", [(0, 5), (overhead[-1][0], 5)]))
    svg = chart("Extra computation of an honest mesh", "tasks that each device has done", "%", extra)
    (DOCS / "img" / "trust-overhead.svg").write_text(svg, encoding="utf-8")


def _write_table(outcomes: dict[tuple[str, bool, float, str, int], Outcome], worst: Worst) -> None:
    page = DOCS / "threat-model.md"
    rows = ["| policy | liars | 5 % | 10 % | 20 % | 40 % | extra work |", "|---|---|---|---|---|---|---|"]
    for policy in POLICIES:
        extra = f"{100 * (_answers_each(outcomes, policy) - 1):.0f} %"
        for colluding, word in ((False, "each for himself"), (True, "colluding")):
            cells = [_percent(worst[policy, colluding, share]) for share in SHARES]
            rows.append(f"| {policy.replace('quorum', 'quorum ')} | {word} | {' | '.join(cells)} | {extra} |")
    text = page.read_text(encoding="utf-8")
    inside = f"{MARKS[0]}{chr(10).join(rows)}\n{MARKS[1]}"
    page.write_text(
        re.sub(f"{re.escape(MARKS[0])}.*?{re.escape(MARKS[1])}", inside, text, flags=re.S), encoding="utf-8"
    )


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{100 * share:.2g} %"
