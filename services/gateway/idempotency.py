"""Idempotency keys: which job a requester's key named, so that a repeated submission gives the same job.

Kept for KEPT_MS. Two submissions at once, even at two gateways, have the same message id in the log, which takes one
of them and tells the other where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3

from shardy_common.errors import Refused
from shardy_common.log import Recorded, Table
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec
from shardy_gateway.side import SideFold

KEPT_MS = 24 * 3600 * 1000
CHARS_MAX = 128
_VISIBLE = re.compile(rf"[\x21-\x7e]{{1,{CHARS_MAX}}}\Z")
_encode = msgspec.json.Encoder(order="deterministic").encode


class Named(NamedTuple):
    """job and body: of the submission that had the key first."""

    job: str
    body: str


def idem_of(owner: str, key: str) -> str:
    """What stands in the log in place of the key, which may say more than others should read."""
    if not _VISIBLE.match(key):
        raise Refused(
            f"Idempotency-Key has 1 to {CHARS_MAX} visible ASCII characters",
            title="Bad idempotency key",
            limit=f"{CHARS_MAX} characters",
        )
    return blake3(b"shardy-idempotency-v1\0" + owner.encode() + b"\0" + key.encode()).hexdigest()


def body_of(spec: JobSpec) -> str:
    """Fingerprint of what was asked, after it was checked: a frame and JSON that mean the same have the same."""
    whole = {name: getattr(spec, name) for name in spec.__struct_fields__}  # a default that was spelled out is none
    return blake3(_encode(whole)).hexdigest()


def check_same(known: Named, body: str) -> None:
    if known.body != body:
        raise Refused(
            f"this Idempotency-Key named another job before ({known.job}): take a new key for another job",
            title="Idempotency key reused",
        )


class Idempotency(SideFold):
    tables = [Table("idem", {"idem": str, "job": str, "body": str, "at_ms": int})]
    filters = ("job.submitted.*",)

    def __init__(self) -> None:
        super().__init__()
        self._fresh: dict[str, tuple[str, str, str, int]] = {}

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ev.JobSubmitted) and event.idem:
            self._fresh[event.idem] = (event.idem, event.job, event.body, recorded.at_ms)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        fresh, self._fresh = self._fresh, {}
        return {"idem": list(fresh.values())} if fresh else {}

    def find(self, idem: str, now_ms: int) -> Named | None:
        """The job that had the key within KEPT_MS."""
        rows = self.read("SELECT job, body, at_ms FROM idem WHERE idem = ?", (idem,))
        return Named(*rows[0][:2]) if rows and rows[0][2] > now_ms - KEPT_MS else None
