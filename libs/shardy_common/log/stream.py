"""What the log's stream may hold, and how full it is. Pure.

The stream refuses what does not fit (`discard: new`) rather than drop what it has acknowledged: an event that was
acknowledged is there, or the log would be no truth. A full log stops nobody for good: appends are refused with a
reason of their own, deciders wait and try again, and all goes on when the limit is raised or the log is archived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BYTES_MAX = 16 << 30
BYTES_MIN = 64 << 20  # under this the server has no room for a log worth its name
CONSUMERS_MAX = 1_024  # readers of a mesh's services, a few each; what a crashed one left goes after a minute
MANAGED = ("discard", "max_bytes", "max_msgs", "max_consumers")  # of a stream that is there already
STORE_FAILED = 10077  # "maximum bytes exceeded", "maximum messages exceeded", or the server's disk is full
OUT_OF_STORAGE = (10047, 10023, 10002)  # the server's or the account's own limits


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """events_max 0: as many as fit into bytes_max."""

    bytes_max: int = BYTES_MAX
    events_max: int = 0


@dataclass(frozen=True, slots=True)
class LogRoom:
    """How full the stream is, as the server said last. A limit of 0 is none."""

    bytes: int = 0
    bytes_max: int = 0
    events: int = 0
    events_max: int = 0

    @property
    def filled(self) -> float:
        """The part of the limit that is nearest to being reached."""
        parts = ((self.bytes, self.bytes_max), (self.events, self.events_max))
        return max(have / most if most > 0 else 0.0 for have, most in parts)


def updated(have: dict[str, Any], want: dict[str, Any], managed: tuple[str, ...] = MANAGED) -> dict[str, Any] | None:
    """The configuration that a stream of an earlier version, or of other settings, should have; None: it has it.
    managed: which fields are changed, beside the number of its copies and subjects that are missing."""
    new = {**have, **{name: want[name] for name in (*managed, "num_replicas") if name in want}}
    missing = set(want["subjects"]) - set(have.get("subjects", ()))
    if missing:
        new["subjects"] = sorted({*have["subjects"], *missing})
    return new if new != have else None


def is_full(err_code: int) -> bool:
    """Whether this refusal of an append says that there is no room, and that nothing was written."""
    return err_code == STORE_FAILED or err_code in OUT_OF_STORAGE


def room_of(info: dict[str, Any]) -> LogRoom:
    """From the server's STREAM.INFO."""
    state, config = info.get("state", {}), info.get("config", {})
    return LogRoom(
        int(state.get("bytes", 0)),
        max(int(config.get("max_bytes", -1)), 0),
        int(state.get("messages", 0)),
        max(int(config.get("max_msgs", -1)), 0),
    )
