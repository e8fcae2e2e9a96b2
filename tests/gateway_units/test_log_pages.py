"""Pages of the log are bounded by bytes, too, and nothing is left out between them."""

from __future__ import annotations

from typing import Any

import pytest

from shardy_common.log.archive import Extent
from shardy_common.log.archive_file import Message
from shardy_gateway import looking

LAST = 50


@pytest.fixture(autouse=True)
def large_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    async def bounds(_: Any) -> tuple[Extent, int]:
        return Extent(), LAST

    async def span(_log: Any, _extent: Extent, first: int, last: int) -> list[Message]:
        return [Message(b"task.created.j1", seq, 1, b"x" * 100_000, None) for seq in range(max(first, 1), last + 1)]

    monkeypatch.setattr(looking, "bounds", bounds)
    monkeypatch.setattr(looking, "span", span)


async def pages(forward: bool) -> list[list[int]]:
    log: Any = None
    found, at = [], 0 if forward else None
    while True:
        if forward:
            page = await looking.forward(log, looking.Wanted(), at or 0, LAST, 1_000)
        else:
            page = await looking.backward(log, looking.Wanted(), at, 0, 1_000)
        found.append([message.seq for message in page.events])
        at = page.next
        if at is None:
            return found


@pytest.mark.parametrize("forward", [True, False])
async def test_a_page_ends_with_the_message_that_fills_it(forward: bool) -> None:
    found = await pages(forward)
    assert max(map(len, found)) <= looking.PAGE_BYTES // 100_000 + 1 and len(found) > 3
    seqs = [seq for page in found for seq in page]
    assert seqs == (list(range(1, LAST + 1)) if forward else list(range(LAST, 0, -1)))
