"""The event log: append with optimistic concurrency, read in order, fold into projections."""

from shardy_common.log.jetstream import JetStreamLog
from shardy_common.log.memory import MemoryLog
from shardy_common.log.projection import Projection, Table, gone
from shardy_common.log.types import Append, Appended, Conflict, EventLog, Outcome, Reader, Recorded, Unknown, read_all

__all__ = [
    "Append",
    "Appended",
    "Conflict",
    "EventLog",
    "JetStreamLog",
    "MemoryLog",
    "Outcome",
    "Projection",
    "Reader",
    "Recorded",
    "Table",
    "Unknown",
    "gone",
    "read_all",
]
