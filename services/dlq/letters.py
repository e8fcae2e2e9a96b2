"""The dead letter queue's rules: which events become a dead letter, with what evidence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shardy_common.log import Append, Projection, Recorded, Table
from shardy_common.wire import events as ev

TABLES = [
    Table("entries", {"id": str, "cause": str, "at_ms": int, "body": bytes}, [["cause"]]),
    Table("wanted", {"id": str, "open": int, "trace": str, "body": bytes}, [["open"]]),
]
VERSION = 2


class Letters:
    """Keeps the recorded entries, and what still has to be recorded: the checkpoint passes a fraud before its letter
    is in the log, so a restart must find it here."""

    filters = ("fraud.detected.*", "task.unresolved.*", "dlq.*.*")

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.wanted: dict[str, Append] = {}
        self._rows: list[Sequence[Any]] = []
        self._touched: set[str] = set()

    def load(self, projection: Projection) -> None:
        self.known = {entry for (entry,) in projection.rows("SELECT id FROM entries")}
        for entry, trace, body in projection.rows("SELECT id, trace, body FROM wanted WHERE open = 1 ORDER BY id"):
            self.wanted[entry] = _proposal(ev.decode(body), trace)

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ev.FraudDetected):
            evidence = {
                "task": event.task,
                "job": event.job,
                "worker": event.worker,
                "name": event.agent,
                "lease": event.lease,
                "digest": event.digest,
                "method": event.method,
                "row": str(event.row),
                "rounds": str(event.rounds),
                "trace": recorded.trace,
            }
            self._want(f"fraud-{event.lease}", "fraud", recorded, evidence)
        elif isinstance(event, ev.TaskUnresolved):
            evidence = {"task": event.task, "job": event.job, "why": event.cause, "trace": recorded.trace}
            self._want(f"task-{event.task}", "unresolved", recorded, evidence)
        elif isinstance(event, ev.DlqRecorded):
            self.known.add(event.entry)
            if self.wanted.pop(event.entry, None) is not None:
                self._touched.add(event.entry)
            body = msgspec.json.encode({"subject": event.subject_of, "seq": event.seq_of, "evidence": event.evidence})
            self._rows.append((event.entry, event.cause, recorded.at_ms, body))

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        rows, self._rows = self._rows, []
        touched, self._touched = self._touched, set()
        wanted = [
            (entry, 1, item.trace, ev.encode(item.event)) if item is not None else (entry, 0, "", b"")
            for entry, item in ((entry, self.wanted.get(entry)) for entry in sorted(touched))
        ]
        return {table: found for table, found in (("entries", rows), ("wanted", wanted)) if found}

    def _want(self, entry: str, cause: str, recorded: Recorded, evidence: dict[str, str]) -> None:
        if entry in self.known or entry in self.wanted:
            return
        event = ev.DlqRecorded(entry, cause, recorded.subject, recorded.seq, evidence)
        self.wanted[entry] = _proposal(event, recorded.trace)
        self._touched.add(entry)


def _proposal(event: ev.DlqRecorded, trace: str) -> Append:
    return Append(event, f"dlq/{event.entry}", 0, trace=trace)
