"""Dead letters as operators see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shardy_common.log import Recorded, Table
from shardy_common.wire import events as ev
from shardy_gateway.side import SideFold


class Letters(SideFold):
    tables = [Table("dlq", {"entry": str, "body": bytes})]
    filters = ("dlq.*.*",)

    def __init__(self) -> None:
        super().__init__()
        self._letters: list[tuple[str, bytes]] = []

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        if not isinstance(event, ev.DlqRecorded):
            return
        body = msgspec.json.encode(
            {
                "entry": event.entry,
                "cause": event.cause,
                "subject": event.subject_of,
                "seq": event.seq_of,
                "evidence": event.evidence,
                "at_ms": recorded.at_ms,
            }
        )
        self._letters.append((event.entry, body))

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        rows, self._letters = self._letters, []
        return {"dlq": list(rows)} if rows else {}

    def page(self, limit: int = 100) -> list[dict[str, Any]]:
        rows = self.read("SELECT body FROM dlq ORDER BY rowid DESC LIMIT ?", (limit,))
        return [msgspec.json.decode(body) for (body,) in rows]
