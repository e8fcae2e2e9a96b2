"""A NATS connection with two shortcuts for the hot path.

The stock client parses every message's headers into a dict, and copies each message through a queue and a task.
The log reads and appends tens of thousands of messages a second, needs no header of most, and has its own flow
control, so `subscribe_raw` hands a message's bytes to a plain function, and `send_raw` queues one already
encoded HPUB command. Both lean on internals of the pinned nats-py version; tests/log holds them to behaviour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.subscription import Subscription

RawHandler = Callable[[bytes, bytes, bytes, bytes | None], None]  # subject, reply, payload, header block


class LogClient(Client):
    def __init__(self) -> None:
        super().__init__()
        self._raw_handlers: dict[int, RawHandler] = {}
        self.on_break: list[Callable[[], None]] = []  # called when the connection is lost, and again when it is back

    async def broken(self) -> None:
        for call in self.on_break:
            call()

    async def subscribe_raw(self, subject: str, handler: RawHandler) -> Subscription:
        """handler runs in the event loop, in order, for each message; it must not block or raise."""

        async def never(_: Any) -> None:  # the stock path is bypassed in _process_msg
            raise AssertionError("raw subscriptions are dispatched by _process_msg")

        sub = await self.subscribe(subject, cb=never)
        self._raw_handlers[sub._id] = handler
        return sub

    async def unsubscribe_raw(self, sub: Subscription) -> None:
        self._raw_handlers.pop(sub._id, None)
        await sub.unsubscribe()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        handler = self._raw_handlers.get(sid)
        if handler is not None:
            self.stats["in_msgs"] += 1
            self.stats["in_bytes"] += len(data)
            handler(subject, reply, data, headers)
            return
        await super()._process_msg(sid, subject, reply, data, headers)

    async def send_raw(self, commands: list[bytes]) -> None:
        """Queue encoded commands and wake the flusher once."""
        size = 0
        self._pending.extend(commands)
        for command in commands:
            size += len(command)
        self._pending_data_size += size
        self.stats["out_msgs"] += len(commands)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()


def hpub(subject: str, reply: str, headers: str, payload: bytes) -> bytes:
    """One HPUB command. headers: lines `Name: value`, each ending in CRLF."""
    head = b"NATS/1.0\r\n" + headers.encode() + b"\r\n"
    n = len(head)
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject.encode(), reply.encode(), n, n + len(payload), head, payload)


def header_value(block: bytes | None, name: bytes) -> str:
    """One header's value out of a raw block; empty when absent. Found only when it is asked for."""
    if not block:
        return ""
    start = block.find(b"\r\n" + name + b":")
    if start < 0:
        return ""
    start += len(name) + 3
    return block[start : block.find(b"\r\n", start)].strip().decode("utf-8", "replace")


async def connect(url: str, *, name: str, user: str = "", password: str = "") -> LogClient:
    """Connect, and reconnect for ever: a service outlives its nats-server."""
    client = LogClient()
    await client.connect(
        url,
        disconnected_cb=client.broken,
        reconnected_cb=client.broken,
        name=name,
        user=user or None,
        password=password or None,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.2,
        ping_interval=5,
        max_outstanding_pings=2,
        connect_timeout=3,
        pending_size=64 * 1024 * 1024,
        error_cb=_quiet,
    )
    return client


async def _quiet(error: Exception) -> None:
    """Connection trouble shows as append time-outs and reader gaps, which are handled where they matter."""
