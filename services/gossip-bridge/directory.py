"""What the mesh would tell its peers: verified digests and the gateways there are. A fold; nothing is sent yet.

Only what has a verdict is here: a digest known before its verdict could be copied by another replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shardy_common.log import Projection, Recorded, Table
from shardy_common.wire import events as ev

TABLES = [
    Table("digests", {"task": str, "digest": str, "method": str, "seq": int}, [["seq"]]),
    Table("gateways", {"name": str, "instance": str, "since_ms": int}),
]
VERSION = 1


class Directory:
    filters = ("task.verified.*", "gateway.started.*")

    def __init__(self) -> None:
        self._digests: dict[str, tuple[str, str, str, int]] = {}
        self._gateways: dict[str, tuple[str, str, int]] = {}

    def load(self, projection: Projection) -> None:
        """All of it lives in the projection; memory holds only what the current batch changes."""

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ev.TaskVerified):
            self._digests[event.task] = (event.task, event.digest, event.method, recorded.seq)
        elif isinstance(event, ev.GatewayStarted):
            self._gateways[event.gateway] = (event.gateway, event.instance, recorded.at_ms)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        out: dict[str, list[Sequence[Any]]] = {}
        if self._digests:
            out["digests"] = list(self._digests.values())
        if self._gateways:
            out["gateways"] = list(self._gateways.values())
        self._digests, self._gateways = {}, {}
        return out
