"""Which tasks of a job are real: the rule that every fold applies, so that no two of them can disagree.

A job's result is covered by tiles in one fixed order: down a column band, then the next band. A `task.created` is real
if, where it stands in the log, it starts exactly where the job's previous real task ended. All others (of a decider
that had not read on, of a pipeline whose first append was lost) are void and change nothing. So tiles never overlap
and leave no gap, whoever carves, and no decider needs to own a job for that to hold.
"""

from __future__ import annotations

import msgspec

from shardy_common.wire.job import Tile


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where the next task must start. band_cols: width of the band in progress, 0 between two bands."""

    row0: int = 0
    col0: int = 0
    band_cols: int = 0

    def accepts(self, tile: Tile, shape: tuple[int, int]) -> bool:
        """Whether the tile is the job's next task. shape: rows and columns of the job's result."""
        return (
            tile.row0 == self.row0
            and tile.col0 == self.col0
            and self.band_cols in (0, tile.cols)
            and tile.rows > 0
            and tile.cols > 0
            and tile.row0 + tile.rows <= shape[0]
            and tile.col0 + tile.cols <= shape[1]
        )

    def after(self, tile: Tile, shape: tuple[int, int]) -> Cursor:
        """The cursor once the tile is taken."""
        if tile.row0 + tile.rows >= shape[0]:
            return Cursor(0, tile.col0 + tile.cols, 0)
        return Cursor(tile.row0 + tile.rows, tile.col0, tile.cols)

    def done(self, shape: tuple[int, int]) -> bool:
        return self.col0 >= shape[1]
