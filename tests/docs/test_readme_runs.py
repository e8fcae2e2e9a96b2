"""The README's Python runs as it stands against a real mesh, and gives NumPy's bytes."""

from __future__ import annotations

import asyncio
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardy_common.engine import reference
from shardy_common.stack import Stack

pytestmark = pytest.mark.connected
ROOT = Path(__file__).resolve().parents[2]


def snippets() -> list[str]:
    return re.findall(r"(?ms)^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"))


async def test_the_readme_runs(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDY_URL", stack.url)
    monkeypatch.setenv("SHARDY_KEY", stack.api_key)
    names: dict[str, Any] = {}
    assert snippets()
    for snippet in snippets():
        await asyncio.to_thread(exec, compile(snippet, "README.md", "exec"), names)
    product = (names["a"].astype(np.float64) @ names["b"].astype(np.float64)).astype(np.int32)
    for found in (names["c"], names["d"]):
        assert found.dtype == np.int32 and found.tobytes() == product.tobytes()
    x = names["x"]
    q, scale = reference.preexec(
        x,
        row0=0,
        rows=len(x),
        warm_rows=math.ceil(25 * math.log(2) / -math.log1p(-0.2)),
        segment_rows=4096,
        lo=-3.0,
        hi=3.0,
        ema_axis=0,
        alpha=0.2,
        scale="row",
    )
    assert names["quantised"].q.tobytes() == q.tobytes()
    assert names["quantised"].scale.tobytes() == scale.tobytes()
