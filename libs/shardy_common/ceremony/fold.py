"""Ceremonies with their rows. Former runs are kept in rows alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from shardy_common.ceremony.transcript import Ceremonies, Run
from shardy_common.log import Projection, Recorded, Table

TABLES = [
    Table("ceremonies", {"id": str, "circuit": str, "run": int, "newest": int, "body": bytes}, [["newest"]]),
    Table("ceremony_circuits", {"circuit": str, "seq": int}),
]
FILTERS = ("ceremony.*.*",)
_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_run = msgspec.msgpack.Decoder(Run).decode


class CeremonyFold:
    """flush: writes pending rows before a run is read; set by the service."""

    def __init__(self) -> None:
        self.known = Ceremonies()
        self.flush: Callable[[], None] = lambda: None
        self._touched: dict[str, Run] = {}
        self._circuits: set[str] = set()

    def load(self, projection: Projection) -> None:
        self.projection = projection
        for (body,) in projection.rows("SELECT body FROM ceremonies WHERE newest = 1 ORDER BY circuit"):
            run = _run(body)
            self.known.current[run.circuit] = run
        self.known.seqs = dict(projection.rows("SELECT circuit, seq FROM ceremony_circuits"))

    def evolve(self, recorded: Recorded) -> None:
        for run in self.known.evolve(recorded):
            self._touched[row_id(run.circuit, run.run)] = run
        self._circuits.add(recorded.subject.rpartition(".")[2])

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        out: dict[str, list[Sequence[Any]]] = {
            "ceremonies": [(key, r.circuit, r.run, int(not r.replaced), _pack(r)) for key, r in self._touched.items()],
            "ceremony_circuits": [(circuit, self.known.seqs[circuit]) for circuit in sorted(self._circuits)],
        }
        self._touched, self._circuits = {}, set()
        return {table: rows for table, rows in out.items() if rows}

    def run(self, circuit: str, number: int = 0) -> Run | None:
        """A run of a circuit; the newest without a number."""
        newest = self.known.current.get(circuit)
        if newest is None or number in (0, newest.run):
            return newest
        self.flush()
        found = self.projection.rows("SELECT body FROM ceremonies WHERE id = ?", (row_id(circuit, number),))
        return _run(found[0][0]) if found else None


def row_id(circuit: str, run: int) -> str:
    """Circuits hold no dot (ids.is_token)."""
    return f"{circuit}.{run}"
