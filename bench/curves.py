"""A line chart as SVG, readable on light and dark pages, without a plotting library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 30, 44, 52
COLOURS = ("c0", "c1", "c2", "c3", "c4")
STYLE = """
text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-size:15px;font-weight:600}
.grid{stroke:#d0d7de}.line{fill:none;stroke-width:2.2}.back{fill:#fff}
.c0{stroke:#cf222e}.c1{stroke:#bc4c00}.c2{stroke:#8250df}.c3{stroke:#0969da}.c4{stroke:#1a7f37}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}.back{fill:#0d1117}
.c0{stroke:#ff7b72}.c1{stroke:#ffa657}.c2{stroke:#d2a8ff}.c3{stroke:#79c0ff}.c4{stroke:#7ee787}}
"""


@dataclass(frozen=True)
class Line:
    name: str
    points: list[tuple[float, float]]


def chart(title: str, x_name: str, y_name: str, lines: list[Line], log: bool = False) -> str:
    """log: the y axis has a decade each, from 0.01 up; what is smaller, nought too, lies on the axis and says so."""
    x_max = max(x for line in lines for x, _ in line.points)
    y_max = max(y for line in lines for _, y in line.points)
    ticks = _decades(y_max) if log else _steps(y_max)

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * x / x_max

    def up(y: float) -> float:
        low, high = (math.log10(ticks[0]), math.log10(ticks[-1])) if log else (0.0, ticks[-1])
        at = math.log10(max(y, ticks[0])) if log else y
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (at - low) / (high - low)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="24">{escape(title)}, {escape(y_name)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_name)}</text>',
    ]
    for tick in ticks:
        label = "≤ 0.01" if log and tick == ticks[0] else f"{tick:g}"
        out.append(f'<path class="grid" d="M{LEFT} {up(tick):.1f}H{WIDTH - RIGHT}"/>')
        out.append(f'<text x="{LEFT - 8}" y="{up(tick) + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in _steps(x_max):
        if tick <= x_max:
            out.append(f'<text x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{tick:g}</text>')
    for i, line in enumerate(lines):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line.points)
        colour, at = COLOURS[i % len(COLOURS)], TOP + 16 + 20 * i
        out.append(f'<polyline class="line {colour}" points="{path}"/>')
        out.append(f'<path class="line {colour}" d="M{WIDTH - 250} {at - 4}h24"/>')
        out.append(f'<text x="{WIDTH - 220}" y="{at}">{escape(line.name)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def _steps(top: float) -> list[float]:
    """Nought and about five round steps up to the top or just past it."""
    rough = top / 5
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [step * i for i in range(math.ceil(top / step) + 1)]


def _decades(top: float) -> list[float]:
    return [10.0**power for power in range(-2, max(math.ceil(math.log10(max(top, 0.1))), 0) + 1)]
