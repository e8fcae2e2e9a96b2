"""Folds beside the views: each has its own tables and look-ups, and reads the same events in the same order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from shardy_common.log import Projection, Recorded, Table
from shardy_common.wire import subjects
from shardy_common.wire.events import EVENT_TYPES


class SideFold:
    """tables and filters belong to the class; `flush` writes pending rows before they are read (set by the views)."""

    tables: ClassVar[list[Table]]
    filters: ClassVar[Sequence[str]]

    def __init__(self) -> None:
        self.flush: Callable[[], None] = lambda: None
        self.projection: Projection

    def load(self, projection: Projection) -> None:
        """Take over what is kept in memory."""
        self.projection = projection

    def evolve(self, recorded: Recorded) -> None:
        raise NotImplementedError

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        """Rows that changed since the last call, by table."""
        raise NotImplementedError

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the projection, with everything folded so far in them."""
        self.flush()
        return self.projection.rows(sql, parameters)


def by_event(sides: Sequence[type[SideFold]]) -> dict[type, list[int]]:
    """Places in `sides` by the event that they fold: no side is asked about events that its filters do not name."""
    return {
        event: [i for i, side in enumerate(sides) if subjects.taken(side.filters, event.name)] for event in EVENT_TYPES
    }
