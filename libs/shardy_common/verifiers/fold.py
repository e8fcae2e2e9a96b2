"""The registry with its rows. Keys are kept in rows alone: 64 circuits of 256 keys of 8 KiB are more than memory
should hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from shardy_common.log import Projection, Recorded, Table
from shardy_common.verifiers.registry import Registry, Version
from shardy_common.wire import events as ev

TABLES = [
    Table("verifiers", {"version": str, "circuit": str, "seq": int, "body": bytes}, [["circuit", "seq"]]),
    Table("verifier_keys", {"version": str, "vk": str}),
    Table("verifier_circuits", {"circuit": str, "seq": int}),
]
FILTERS = ("verifier.*.*",)
_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_version = msgspec.msgpack.Decoder(Version).decode


class VerifierFold:
    """flush: writes pending rows before a key is read; set by the service."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.flush: Callable[[], None] = lambda: None
        self._touched: set[str] = set()
        self._circuits: set[str] = set()
        self._keys: dict[str, str] = {}

    def load(self, projection: Projection) -> None:
        self.projection = projection
        for (body,) in projection.rows("SELECT body FROM verifiers ORDER BY seq"):
            self.registry.keep(_version(body))
        self.registry.seqs = dict(projection.rows("SELECT circuit, seq FROM verifier_circuits"))

    def evolve(self, recorded: Recorded) -> set[str]:
        """The versions that changed."""
        event, registry = recorded.event, self.registry
        changed = registry.evolve(recorded)
        self._touched |= changed
        self._circuits.add(recorded.subject.rpartition(".")[2])
        if isinstance(event, ev.VerifierRegistered) and event.vk and changed:
            self._keys[event.version] = event.vk
        return changed

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        versions = [self.registry.versions[name] for name in sorted(self._touched)]
        out: dict[str, list[Sequence[Any]]] = {
            "verifiers": [(v.version, v.circuit, v.seq, _pack(v)) for v in versions],
            "verifier_keys": list(self._keys.items()),
            "verifier_circuits": [(circuit, self.registry.seqs[circuit]) for circuit in sorted(self._circuits)],
        }
        self._touched, self._circuits, self._keys = set(), set(), {}
        return {table: rows for table, rows in out.items() if rows}

    def key_of(self, version: str) -> str:
        """The canonical text of its verification key; empty where the log has none."""
        self.flush()
        found = self.projection.rows("SELECT vk FROM verifier_keys WHERE version = ?", (version,))
        return str(found[0][0]) if found else ""
