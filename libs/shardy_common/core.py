"""What the fold loop (service.py) asks of a service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from shardy_common.log import Projection, Recorded, Skipped


class Core(Protocol):
    """A service's folded state."""

    filters: Sequence[str]

    def load(self, projection: Projection) -> None:
        """Take over the active rows of the projection."""

    def evolve(self, recorded: Recorded) -> None: ...

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        """Rows that changed since the last call, by table."""
        ...


class Unwritten(NamedTuple):
    """What Projection.commit takes."""

    rows: dict[str, list[Sequence[Any]]]
    checkpoint: int
    anchor: str
    skipped: list[Skipped]
