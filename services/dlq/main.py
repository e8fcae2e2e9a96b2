"""Entry point of the dead letter queue: folds frauds and unresolved tasks, records each once with its evidence."""

from __future__ import annotations

from shardy_common import run
from shardy_common.config import Settings
from shardy_common.log import Append, JetStreamLog, Projection
from shardy_common.service import FoldLoop
from shardy_dlq.letters import TABLES, VERSION, Letters


async def build(settings: Settings, event_log: JetStreamLog) -> FoldLoop:
    projection = Projection(settings.projection_path("dlq"), TABLES, version=VERSION)
    proposed: set[str] = set()

    async def react() -> None:
        wanted: dict[str, Append] = loop.core.wanted  # type: ignore[attr-defined]
        proposed.intersection_update(wanted)
        fresh = [item for entry, item in wanted.items() if entry not in proposed]
        proposed.update(item.event.entity_id for item in fresh)
        loop.propose(fresh)

    def settled(item: Append, accepted: bool) -> None:
        if not accepted:
            proposed.discard(item.event.entity_id)

    loop = FoldLoop("dlq", event_log, projection, Letters, react=react, settled=settled, tick_s=0.5)
    return loop


def main() -> None:
    run.main("dlq", Settings(), build)


if __name__ == "__main__":
    main()
