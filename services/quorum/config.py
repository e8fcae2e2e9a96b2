"""Settings of the quorum."""

from __future__ import annotations

from pydantic import Field

from shardy_common.config import Settings
from shardy_quorum.canary import EVERY, GAP_MS, Pacing


class QuorumSettings(Settings):
    """canary_every: verdicts on requesters' tasks for each canary, 0 for none; canary_gap_s: least seconds between
    two canaries."""

    canary_every: int = Field(default=EVERY, ge=0)
    canary_gap_s: float = Field(default=GAP_MS / 1e3, ge=0)

    @property
    def pacing(self) -> Pacing:
        return Pacing(self.canary_every, int(self.canary_gap_s * 1e3))
