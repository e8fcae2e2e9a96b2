"""JetStream's advisories about messages that a consumer gets no more: what they say, and the stream that keeps them.

The server tells once, to whoever listens just then. A small stream of their own listens always, so none is lost while
the dead letter queue is down; it is bounded by age, number and bytes, and what it holds becomes letters in the log.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from shardy_common.ids import is_token

SUBJECTS = ("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>")
AGE_S_MAX = 7 * 24 * 3600
MESSAGES_MAX = 10_000
BYTES_MAX = 16 * 1024 * 1024
REASON_CHARS_MAX = 300
_TERMINATED = "io.nats.jetstream.advisory.v1.terminated"


class Advisory(msgspec.Struct, frozen=True):
    """As the server writes it; fields that matter to nobody here are left out. id: unique for each advisory."""

    type: str
    id: str
    stream: str
    consumer: str
    stream_seq: int
    deliveries: int = 0
    reason: str = ""

    @property
    def about(self) -> str:
        """The consumer and the message: a server that starts anew may tell of the same again."""
        return f"{self.stream}/{self.consumer}/{self.stream_seq}"

    @property
    def entry(self) -> str:
        named = self.id if is_token(self.id) and len(self.id) <= 64 else blake2b(self.id.encode()).hexdigest()[:32]
        return f"max-{self.stream_seq}-{named}"

    @property
    def why(self) -> str:
        if self.type == _TERMINATED:
            return f"terminated by its handler: {self.reason[:REASON_CHARS_MAX] or 'no reason given'}"
        return f"given up after {self.deliveries} deliveries without an acknowledgement"


def advisory_of(payload: bytes) -> Advisory | None:
    """None for bytes that are no advisory about a message: nothing follows from them."""
    try:
        return msgspec.json.decode(payload, type=Advisory)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def stream_config(name: str, replicas: int) -> dict[str, Any]:
    """Of the bounded stream of advisories."""
    return {
        "name": name,
        "subjects": list(SUBJECTS),
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": replicas,
        "max_age": AGE_S_MAX * 1_000_000_000,
        "max_msgs": MESSAGES_MAX,
        "max_bytes": BYTES_MAX,
    }
