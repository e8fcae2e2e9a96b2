"""What the log says of each key beside its sessions: how far it is trusted, and how reliable it is.

The two are kept apart. Trust comes from checked verdicts and ends with a proven wrong result; a lease that ran out, got
lost, was given back or was answered with a malformed frame only counts here, and costs nobody a reputation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from shardy_common import trust
from shardy_common.log import Projection, Recorded, Table
from shardy_common.shelf import Shelf
from shardy_common.wire import events as ev
from shardy_gateway.side import SideFold

MALFORMED = "malformed"  # code of a `result.failed` that the gateway appends itself


class Reliability(msgspec.Struct):
    """accepted: results that a verdict took; late, lost: leases that ran out, or whose worker went away with them;
    failed: given back; malformed: answered with something that is no result."""

    accepted: int = 0
    late: int = 0
    lost: int = 0
    failed: int = 0
    malformed: int = 0


class Reputation(msgspec.Struct):
    trust: trust.Record
    record: Reliability


NOBODY = Reputation(trust.Record(), Reliability())
_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_reputation = msgspec.msgpack.Decoder(Reputation).decode


class Reputations(SideFold):
    """holders: who has the leases of an active task, as the views know it."""

    tables = [Table("reputations", {"worker": str, "body": bytes})]
    filters = ("task.expired.*", "task.verified.*", "result.failed.*", "fraud.detected.*")

    def __init__(self, holders: Callable[[str], dict[str, str]]) -> None:
        super().__init__()
        self._holders = holders
        self._book = trust.Book()
        self._records: Shelf[Reliability] = Shelf()
        self._touched: set[str] = set()

    def load(self, projection: Projection) -> None:
        super().load(projection)
        self._book.records.recall = lambda worker: self._kept(worker).trust
        self._records.recall = lambda worker: self._kept(worker).record
        self._book.records.spilled = self._records.spilled = True

    def _kept(self, worker: str) -> Reputation:
        """As its row says; a fresh one where there is none."""
        rows = self.projection.rows("SELECT body FROM reputations WHERE worker = ?", (worker,))
        return _reputation(rows[0][0]) if rows else Reputation(trust.Record(), Reliability())

    def of(self, worker: str) -> Reputation:
        return Reputation(self._book.of(worker), self._records.find(worker) or NOBODY.record)

    def evolve(self, recorded: Recorded) -> None:
        handler = _HANDLERS.get(type(recorded.event))
        if handler is not None:
            handler(self, recorded.event, recorded)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        touched = self._touched | self._book.touched
        self._book.records.trim(touched)
        self._records.trim(touched)
        self._touched, self._book.touched = set(), set()
        return {"reputations": [(worker, _pack(self.of(worker))) for worker in touched]} if touched else {}

    def used(self, event: ev.TaskVerified) -> None:
        """A verdict on an active task: its result will be used (called by the views, which know)."""
        for worker in event.workers:
            record = self._records.find(worker) or self._count(worker)
            record.accepted += 1
        self._touched.update(event.workers)
        if event.method == trust.TRUST:
            self._book.accepted_alone(event.workers, event.ops)

    def _verified(self, event: ev.TaskVerified, recorded: Recorded) -> None:
        self._book.verified(event.task, event.workers, event.method, event.ops, recorded.at_ms)

    def _expired(self, event: ev.TaskExpired, _recorded: Recorded) -> None:
        holders = self._holders(event.task)
        for lease in event.leases:
            worker = holders.get(lease)
            if worker is None or event.cause == "banned":
                continue
            record = self._count(worker)
            if event.cause == "deadline":
                record.late += 1
            else:
                record.lost += 1

    def _failed(self, event: ev.ResultFailed, _recorded: Recorded) -> None:
        record = self._count(event.worker)
        if event.code == MALFORMED:
            record.malformed += 1
        else:
            record.failed += 1

    def _fraud(self, event: ev.FraudDetected, _recorded: Recorded) -> None:
        self._book.fraud(event.worker)

    def _count(self, worker: str) -> Reliability:
        record = self._records.find(worker)
        if record is None:
            record = self._records[worker] = Reliability()
        self._touched.add(worker)
        return record


_HANDLERS: dict[type | None, Callable[[Reputations, Any, Recorded], None]] = {
    ev.TaskVerified: Reputations._verified,
    ev.TaskExpired: Reputations._expired,
    ev.ResultFailed: Reputations._failed,
    ev.FraudDetected: Reputations._fraud,
}
