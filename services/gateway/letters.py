"""Dead letters as operators see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shardy_common.log import Recorded, Table
from shardy_common.wire import events as ev
from shardy_gateway.side import SideFold


class Letter(msgspec.Struct):
    """state: open | replayed | discarded. at: sequence of the letter itself, which its closing expects.

    subject, seq: of the event that it is about; trace: of that event.
    """

    entry: str
    cause: str
    state: str
    subject: str
    seq: int
    at_ms: int
    trace: str
    evidence: dict[str, str]
    closed_by: str | None
    closed_ms: int | None
    outcome: str | None
    at: int

    def shown(self) -> dict[str, Any]:
        """As the API has it."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "at"}


_SELECT = (
    "SELECT d.entry, d.cause, d.at, d.at_ms, d.body, c.state, c.by, c.at_ms, c.outcome"
    " FROM dlq d LEFT JOIN dlq_closed c ON c.entry = d.entry"
)


class Letters(SideFold):
    """A letter and its closing are rows of their own: folding one never needs to read the other."""

    tables = [
        Table("dlq", {"entry": str, "cause": str, "at": int, "at_ms": int, "body": bytes}, [["at"], ["cause"]]),
        Table("dlq_closed", {"entry": str, "state": str, "by": str, "at_ms": int, "outcome": str}),
    ]
    filters = ("dlq.*.*",)

    def __init__(self) -> None:
        super().__init__()
        self._letters: dict[str, tuple[Any, ...]] = {}
        self._closed: dict[str, tuple[Any, ...]] = {}

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ev.DlqRecorded):
            body = msgspec.json.encode({"subject": event.subject_of, "seq": event.seq_of, "evidence": event.evidence})
            self._letters[event.entry] = (event.entry, event.cause, recorded.seq, recorded.at_ms, body)
        elif isinstance(event, ev.DlqReplayed):
            self._close(event.entry, "replayed", event.by, event.outcome, recorded.at_ms)
        elif isinstance(event, ev.DlqDiscarded):
            self._close(event.entry, "discarded", event.by, event.reason, recorded.at_ms)

    def _close(self, entry: str, state: str, by: str, outcome: str, at_ms: int) -> None:
        """What each closing expects of `dlq.*.<entry>` lets only one of them into the log."""
        self._closed[entry] = (entry, state, by, at_ms, outcome)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        rows = {"dlq": list(self._letters.values()), "dlq_closed": list(self._closed.values())}
        self._letters, self._closed = {}, {}
        return {table: list(found) for table, found in rows.items() if found}

    def get(self, entry: str) -> Letter | None:
        found = self.read(f"{_SELECT} WHERE d.entry = ?", (entry,))
        return _letter(found[0]) if found else None

    def page(self, limit: int = 100, before: int | None = None, cause: str = "", state: str = "") -> list[Letter]:
        """Newest first. before: `at` of the last letter of the page before; letters keep their place for ever."""
        wanted, parameters = ["1"], []
        for clause, value in (
            ("d.at < ?", before),
            ("d.cause = ?", cause or None),
            ("COALESCE(c.state, 'open') = ?", state or None),
        ):
            if value is not None:
                wanted.append(clause)
                parameters.append(value)
        sql = f"{_SELECT} WHERE {' AND '.join(wanted)} ORDER BY d.at DESC LIMIT ?"
        return [_letter(row) for row in self.read(sql, (*parameters, limit))]


def _letter(row: tuple[Any, ...]) -> Letter:
    entry, cause, at, at_ms, body, state, by, closed_ms, outcome = row
    known = msgspec.json.decode(body)
    evidence = known["evidence"]
    return Letter(
        entry,
        cause,
        state or "open",
        known["subject"],
        known["seq"],
        at_ms,
        evidence.get("trace", ""),
        evidence,
        by,
        closed_ms,
        outcome,
        at,
    )
