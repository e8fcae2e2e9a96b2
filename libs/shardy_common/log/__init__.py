"""The event log: append with optimistic concurrency, read in order, fold into projections."""

from shardy_common.log.archive_file import ArchiveError
from shardy_common.log.jetstream import JetStreamLog
from shardy_common.log.memory import MemoryLog
from shardy_common.log.projection import Projection, Skipped, Table, gone
from shardy_common.log.stream import LogRoom, StreamLimits
from shardy_common.log.types import (
    Append,
    Appended,
    Conflict,
    EventLog,
    Full,
    LogState,
    Outcome,
    Reader,
    Recorded,
    Unknown,
    read_all,
)

__all__ = [
    "Append",
    "Appended",
    "ArchiveError",
    "Conflict",
    "EventLog",
    "Full",
    "JetStreamLog",
    "LogRoom",
    "LogState",
    "MemoryLog",
    "Outcome",
    "Projection",
    "Reader",
    "Recorded",
    "Skipped",
    "StreamLimits",
    "Table",
    "Unknown",
    "gone",
    "read_all",
]
