"""Settings of the matchmaker."""

from __future__ import annotations

from shardy_common.config import Settings


class MatchmakerSettings(Settings):
    """allow_same_address: let replicas of one task go to devices with one network address (one-machine meshes)."""

    allow_same_address: bool = False
