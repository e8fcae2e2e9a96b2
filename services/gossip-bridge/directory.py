"""What the mesh may tell its peers: the verified digests. A fold; nothing is sent by this service yet.

Only what has a verdict is here: a digest known before its verdict could be copied by another replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shardy_common.log import Projection, Recorded, Table
from shardy_common.wire import events as ev

TABLES = [
    Table("digests", {"task": str, "digest": str, "method": str, "seq": int}, [["seq"]]),
]
VERSION = 1


class Directory:
    filters = ("task.verified.*",)

    def __init__(self) -> None:
        self._digests: dict[str, tuple[str, str, str, int]] = {}

    def load(self, projection: Projection) -> None:
        """All of it lives in the projection; memory holds only what the current batch changes."""

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ev.TaskVerified):
            self._digests[event.task] = (event.task, event.digest, event.method, recorded.seq)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        out: dict[str, list[Sequence[Any]]] = {}
        if self._digests:
            out["digests"] = list(self._digests.values())
        self._digests = {}
        return out
