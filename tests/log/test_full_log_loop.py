"""What the fold loop does at a full log: it proposes ever less often, and at once again when there is room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from shardy_common import pace
from shardy_common.log import Append, MemoryLog, Projection, Recorded, Table
from shardy_common.service import FoldLoop
from shardy_common.wire import events as ev


class Wants:
    """A core that wants one event in the log, and asks for it until it reads it."""

    filters: Sequence[str] = [">"]

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.asked = 0
        self.waiting = False

    def load(self, _projection: Projection) -> None:
        pass

    def evolve(self, recorded: Recorded) -> None:
        self.seen.append(recorded.seq)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        return {}


async def test_nothing_is_lost_and_a_full_log_is_not_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FULL_S", 0.05)
    log, core = MemoryLog(lambda: 1_000, events_max=1), Wants()
    await log.append([Append(ev.JobFailed("before", "x"), "before")])

    async def react() -> None:
        if len(core.seen) < 2 and not core.waiting:
            core.asked, core.waiting = core.asked + 1, True
            loop.propose([Append(ev.JobFailed("wanted", "x"), "wanted")])

    def settled(_item: Append, accepted: bool) -> None:
        core.waiting = False
        refused.append(not accepted)

    refused: list[bool] = []
    projection = Projection(":memory:", [Table("t", {"id": str})], version=1)
    loop = FoldLoop("wants", log, projection, lambda: core, react=react, settled=settled, tick_s=0.001)
    running = asyncio.create_task(loop.run())
    try:
        async with asyncio.timeout(30):
            while core.asked < 4:  # 0.05, 0.1 and 0.2 s apart, where a tick is a thousandth
                await asyncio.sleep(0.01)
        assert all(refused) and core.seen == [1] and loop.pace.fulls >= 3
        log.events_max = 0
        async with asyncio.timeout(30):
            while core.seen != [1, 2]:
                await asyncio.sleep(0.01)
        assert core.asked <= 7 and loop.pace.fulls == 0 and refused[-1] is False
    finally:
        loop.stop()
        await running
