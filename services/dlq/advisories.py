"""What JetStream's advisories say about messages that a consumer gets no more. A stream keeps them (log/streams.py)."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from shardy_common.ids import is_token

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
