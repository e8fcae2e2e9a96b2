"""The event log: append with optimistic concurrency, read in order, fold into projections."""

from shardy_common.log.jetstream import JetStreamLog
from shardy_common.log.memory import MemoryLog
from shardy_common.log.projection import Projection, Table
from shardy_common.log.stream import LogRoom, StreamLimits
from shardy_common.log.types import (
    Append,
    Appended,
    Conflict,
    EventLog,
    Full,
    Outcome,
    Reader,
    Recorded,
    Unknown,
    read_all,
)

__all__ = [
    "Append",
    "Appended",
    "Conflict",
    "EventLog",
    "Full",
    "JetStreamLog",
    "LogRoom",
    "MemoryLog",
    "Outcome",
    "Projection",
    "Reader",
    "Recorded",
    "StreamLimits",
    "Table",
    "Unknown",
    "read_all",
]
