"""The registry of verification keys: which versions exist and which is active. A fold over `verifier.*` events.

At most one version of a circuit is active: registering another as active moves the former to grace. Checking of
proofs is not part of this service yet; jobs with a policy that needs it are refused by the gateway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shardy_common.log import Projection, Recorded, Table
from shardy_common.wire import events as ev

TABLES = [Table("versions", {"version": str, "circuit": str, "vk_digest": str, "status": str, "since_ms": int})]
VERSION = 1
STATUSES = ("active", "grace", "revoked")


class Registry:
    filters = ("verifier.*.*",)

    def __init__(self) -> None:
        self.versions: dict[str, tuple[str, str, str, int]] = {}  # version → (circuit, vk digest, status, since)
        self._touched: set[str] = set()

    def load(self, projection: Projection) -> None:
        for version, *rest in projection.rows("SELECT * FROM versions"):
            self.versions[version] = (rest[0], rest[1], rest[2], rest[3])

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        if not isinstance(event, ev.VerifierRegistered):
            return
        if event.status == "active":
            for version, (circuit, digest, status, _) in list(self.versions.items()):
                if circuit == event.circuit and status == "active" and version != event.version:
                    self.versions[version] = (circuit, digest, "grace", recorded.at_ms)
                    self._touched.add(version)
        self.versions[event.version] = (event.circuit, event.vk_digest, event.status, recorded.at_ms)
        self._touched.add(event.version)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        out = {"versions": [(v, *self.versions[v]) for v in sorted(self._touched)]}
        self._touched.clear()
        return out if out["versions"] else {}

    def listing(self) -> list[dict[str, Any]]:
        return [
            {"version": v, "circuit": c, "vk_digest": d, "status": s, "since_ms": at}
            for v, (c, d, s, at) in sorted(self.versions.items())
        ]
