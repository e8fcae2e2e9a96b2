"""The two streams of a mesh, and who makes them.

Where each role has a key of its own, only the operator's may make or change a stream: make_streams.py does, and
services wait until it has. Where all share a password, or there is none, whoever comes first makes them.
"""

from __future__ import annotations

from typing import Any

from shardy_common.log.stream import CONSUMERS_MAX, StreamLimits
from shardy_common.wire import subjects

# What the server says of messages that a consumer gets no more. It says it once, to whoever listens just then; a small
# stream of their own listens always, so nothing is lost while the dead letter queue is down.
ADVISORY_SUBJECTS = (
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>",
    "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>",
)
ADVISORY_AGE_S_MAX = 7 * 24 * 3600
ADVISORIES_MAX = 10_000
ADVISORY_BYTES_MAX = 16 * 1024 * 1024
EVENT_BYTES_MAX = 1024 * 1024


def events(replicas: int, name: str = subjects.STREAM, limits: StreamLimits | None = None) -> dict[str, Any]:
    """Of the log itself: nothing in it can be deleted by itself, and what does not fit is refused."""
    limits = limits or StreamLimits()
    return {
        "name": name,
        "subjects": subjects.STREAM_SUBJECTS,
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "duplicate_window": int(120e9),
        "num_replicas": replicas,
        "allow_direct": True,
        "deny_delete": True,
        "max_msg_size": EVENT_BYTES_MAX,
        "max_consumers": CONSUMERS_MAX,
        "max_bytes": limits.bytes_max,
        "max_msgs": limits.events_max or -1,
    }


def advisories(replicas: int) -> dict[str, Any]:
    """Of the bounded stream of advisories; what it holds becomes letters in the log."""
    return {
        "name": subjects.ADVISORIES,
        "subjects": list(ADVISORY_SUBJECTS),
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": replicas,
        "max_age": ADVISORY_AGE_S_MAX * 1_000_000_000,
        "max_msgs": ADVISORIES_MAX,
        "max_bytes": ADVISORY_BYTES_MAX,
    }
