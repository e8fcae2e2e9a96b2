"""Entry point of the gossip-bridge: the registry of verified digests, folded from the log."""

from __future__ import annotations

from shardy_common import run
from shardy_common.config import Settings
from shardy_common.log import JetStreamLog, Projection
from shardy_common.service import FoldLoop
from shardy_gossip_bridge.directory import TABLES, VERSION, Directory


async def build(settings: Settings, event_log: JetStreamLog) -> FoldLoop:
    projection = Projection(settings.projection_path("gossip-bridge"), TABLES, version=VERSION)
    return FoldLoop("gossip-bridge", event_log, projection, Directory, tick_s=1.0, rest_s=0.25)


def main() -> None:
    run.main("gossip-bridge", Settings(), build)


if __name__ == "__main__":
    main()
