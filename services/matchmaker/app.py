"""The matchmaker as a service: fold, decide, propose."""

from __future__ import annotations

import logging
import random

from shardy_common.log import Append, JetStreamLog, Projection
from shardy_common.presence import Presence
from shardy_common.service import FoldLoop
from shardy_matchmaker.config import MatchmakerSettings
from shardy_matchmaker.core import TABLES, VERSION, MatchmakerCore
from shardy_matchmaker.decide import Matchmaker

log = logging.getLogger("shardy.matchmaker")


async def build(settings: MatchmakerSettings, event_log: JetStreamLog) -> FoldLoop:
    if settings.allow_same_address:
        log.warning(
            "SHARDY_ALLOW_SAME_ADDRESS is on: replicas of one task may go to devices behind one network address, so a "
            "person with several tabs can outvote others. For demonstrations on one machine only."
        )
    projection = Projection(settings.projection_path("matchmaker"), TABLES, version=VERSION)
    rng = random.Random()

    def replicas_changed() -> None:
        loop.core.matchmaker.review()  # type: ignore[attr-defined]
        loop.wake()

    presence = Presence(event_log.client, "matchmaker", settings.instance, changed=replicas_changed)

    def make_core() -> MatchmakerCore:
        return MatchmakerCore(Matchmaker(allow_same_address=settings.allow_same_address, owns=presence.replicas.owns))

    async def react() -> None:
        loop.propose(loop.core.matchmaker.decide(event_log.now_ms(), rng))  # type: ignore[attr-defined]

    def settled(item: Append, accepted: bool) -> None:
        loop.core.matchmaker.settled(item, accepted)  # type: ignore[attr-defined]

    loop = FoldLoop(
        "matchmaker",
        event_log,
        projection,
        make_core,
        react=react,
        settled=settled,
        presence=presence,
        tick_s=0.2,
    )
    return loop
