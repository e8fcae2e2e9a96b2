"""What a fold says of itself: how far it is, how far behind, and how long a build still takes."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

from shardy_common.log import LogState

if TYPE_CHECKING:
    from shardy_common.service import FoldLoop

SKIPPED_SHOWN_MAX = 100


class Building:
    """A fold up to the log's end: at a start, or a rebuild. Events are those of the log, whoever folds them."""

    def __init__(self, after: int, last: int) -> None:
        self.after, self.events = after, max(last - after, 0)
        self._started_s = time.monotonic()

    def shown(self, behind: int) -> dict[str, Any]:
        """done and of: events; seconds_left: null while that cannot be told."""
        done = min(max(self.events - behind, 0), self.events)
        per_s = done / max(time.monotonic() - self._started_s, 1e-3)
        left_s = round((self.events - done) / per_s, 1) if done else None
        return {"done": done, "of": self.events, "per_s": round(per_s), "seconds_left": left_s}


def lag(loop: FoldLoop, state: LogState, now_ms: int) -> tuple[int, int]:
    """Events that are in the log and not folded (those that this service does not fold count while they are unread),
    and the age of the last one folded in milliseconds; (0, 0) when it has caught up."""
    behind = loop.reader.behind if loop.reader is not None else None
    events = state.last_seq - loop.last_seq if behind is None else behind
    events = max(events, 0) + loop.mender.unread
    if not events:
        return 0, 0
    if loop.last is not None:
        since_ms = loop.last.at_ms
    else:
        since_ms = int(loop.projection.origin.anchor.partition(" ")[0] or state.at_ms)
    return events, max(now_ms - since_ms, 0)


async def status(loop: FoldLoop) -> dict[str, Any]:
    """The answer of `ctl.<service>.status`."""
    state: LogState = await loop.log.state()
    events, age_ms = lag(loop, state, time.time_ns() // 1_000_000)
    standing, building = loop.mender.standing, loop.building
    return {
        "service": loop.name,
        "instance": loop.presence.replicas.me if loop.presence else "",
        "replicas": list(loop.presence.replicas.names) if loop.presence else [],
        "host": socket.gethostname(),
        "live": loop.live.is_set(),
        "checkpoint": loop.projection.checkpoint,
        "log_last": state.last_seq,
        "lag_events": events,
        "lag_ms": age_ms,
        "snapshot_checkpoint": loop.snapshots.checkpoint,
        "build": building.shown(events) if building is not None else None,
        "skipped": [skipped._asdict() for skipped in loop.skipped()[:SKIPPED_SHOWN_MAX]],
        "standing": standing._asdict() if standing is not None else None,
        "folded": loop.folded,
        "appended": loop.appended,
        "conflicts": loop.conflicts,
        "poisoned": loop.poisoned,
        "in_flight": loop.in_flight,
        "log_full": loop.pace.fulls,
    }


async def built(loop: FoldLoop, events: int, seconds: float) -> dict[str, Any]:
    """The answer of `ctl.<service>.rebuild`."""
    return {
        "service": loop.name,
        "instance": loop.presence.replicas.me if loop.presence else "",
        "events": events,
        "seconds": round(seconds, 3),
        "checkpoint": loop.projection.checkpoint,
        "checksum": await asyncio.to_thread(loop.projection.checksum_beside),
        "skipped": [skipped._asdict() for skipped in loop.projection.skipped],
    }
