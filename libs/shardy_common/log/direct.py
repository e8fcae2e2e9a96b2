"""Look-ups in the stream without a consumer: JetStream's direct gets, messages by sequence, subject or time.

The server adds headers that tell where a message lay; they are taken off again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from shardy_common.errors import Transient
from shardy_common.log.archive_file import Message
from shardy_common.log.client import header_value
from shardy_common.log.jetstream import JetStreamLog
from shardy_common.log.types import ns_of

ANSWER_S = 5.0
BATCH_MAX = 1_000
_ADDED = b"Nats-Stream:"


async def direct(log: JetStreamLog, request: dict[str, Any]) -> list[Message]:
    """Messages for one request of $JS.API.DIRECT.GET, in order; none when nothing fits. Raises Transient when the
    server does not answer."""
    found: list[Message] = []
    done = asyncio.Event()
    failed = ""

    def take(_subject: bytes, _reply: bytes, data: bytes, headers: bytes | None) -> None:
        nonlocal failed
        status = headers[:12] if headers else b""
        if status.startswith(b"NATS/1.0 "):
            code = status[9:12]
            failed = "" if code in (b"204", b"404") else code.decode()
            done.set()
        elif headers is None:  # nobody serves the stream just now
            failed = "no leader"
            done.set()
        else:
            found.append(_message(data, headers))

    inbox = log.client.new_inbox()
    subscription = await log.client.subscribe_raw(inbox, take)
    try:
        payload = json.dumps({"batch": 1, **request}).encode()
        await log.client.publish(f"$JS.API.DIRECT.GET.{log.stream}", payload, reply=inbox)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), ANSWER_S)
    finally:
        await log.client.unsubscribe_raw(subscription)
    if not done.is_set() or failed:
        raise Transient(f"the event log does not answer ({failed or 'in time'}); try again")
    return found


def _message(data: bytes, headers: bytes) -> Message:
    subject = header_value(headers, b"Nats-Subject").encode()
    seq, at_ns = int(header_value(headers, b"Nats-Sequence")), ns_of(header_value(headers, b"Nats-Time-Stamp"))
    cut = headers.find(_ADDED)
    own: bytes | None = headers[:cut] + b"\r\n" if cut > 0 else headers
    if own is not None and own.strip() == b"NATS/1.0":
        own = None
    return Message(subject, seq, at_ns, data, own)
