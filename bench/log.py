"""Suite `log`: what the log costs, and that memory and cost stay flat however long it grows.

Parts: `rates`, `rebuild`, `tasks`, `sockets`. SHARDY_BENCH_PARTS names those to run, with commas (default: all);
SHARDY_BENCH_EVENTS: length of the story (1,000,000); SHARDY_BENCH_SOCKETS: idle workers (5,000). Profiles by processor
time are written beside the figures. docs/growth.md says what the figures mean.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from bench import log_rates, log_rebuild, log_sockets, log_tasks
from bench.log_store import OUT

EVENTS = int(os.environ.get("SHARDY_BENCH_EVENTS", "1000000"))
SOCKETS = int(os.environ.get("SHARDY_BENCH_SOCKETS", "5000"))
PARTS = {
    "rates": log_rates.run,
    "rebuild": lambda: log_rebuild.run(EVENTS),
    "tasks": lambda: log_tasks.run(EVENTS),
    "sockets": lambda: log_sockets.run(SOCKETS),
}


def run() -> list[dict[str, Any]]:
    names = os.environ.get("SHARDY_BENCH_PARTS", ",".join(PARTS)).split(",")
    figures: list[dict[str, Any]] = []
    for name in names:
        figures += asyncio.run(PARTS[name]())
    profiles = sorted(OUT.glob("log-profile-*.txt"))
    if profiles:
        print("profiles by processor time:", *profiles, sep="\n  ")
    return figures
