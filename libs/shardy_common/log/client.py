"""A NATS connection with two shortcuts for the hot path.

The stock client parses every message's headers into a dict, and copies each message through a queue and a task.
The log reads and appends tens of thousands of messages a second, needs no header of most, and has its own flow
control, so `subscribe_raw` hands a message's bytes to a plain function, and `send_raw` queues one already
encoded HPUB command. Both lean on internals of the pinned nats-py version; tests/log holds them to behaviour.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.protocol.parser import Parser

from shardy_common.nkey import load_seed
from shardy_common.permissions import OPERATOR, inbox

log = logging.getLogger("shardy.log")
CLOSE_S = 5.0
FORBIDDEN_MAX = 100  # kinds of subjects that are remembered as refused, each told once
LOCKED_OUT_WORDS_S = 30.0  # how often it is said that the server refuses the connection itself
_FORBIDDEN = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')
RawHandler = Callable[[bytes, bytes, bytes, bytes | None], None]  # subject, reply, payload, header block


_MESSAGES = frozenset((b"HMSG", b"MSG"))


class FastParser(Parser):
    """The NATS protocol parser for a busy reader: one find and one split a message instead of regular expressions on a
    growing buffer, and raw handlers called in place. Everything but MSG and HMSG goes to the stock parser.
    """

    def __init__(self, client: LogClient) -> None:
        super().__init__(client)
        self._client = client
        self._rest = b""

    def reset(self) -> None:
        super().reset()
        self._rest = b""

    async def parse(self, data: bytes = b"") -> None:
        buffer = self._rest + data if self._rest else bytes(data)
        handlers = self._client.raw_handlers
        at, size = 0, len(buffer)
        while at < size:
            end = buffer.find(b"\r\n", at)
            if end < 0:
                break
            fields = buffer[at:end].split()
            if not fields or fields[0] not in _MESSAGES:
                await super().parse(buffer[at : end + 2])
                at = end + 2
                continue
            start = end + 2
            stop = start + int(fields[-1])
            if size < stop + 2:
                break
            # HMSG subject sid [reply] header-bytes total-bytes, MSG subject sid [reply] bytes
            if fields[0] == b"HMSG":
                body = start + int(fields[-2])
                headers = buffer[start:body]
                reply = fields[3] if len(fields) == 6 else b""
            else:
                body, headers = start, None
                reply = fields[3] if len(fields) == 5 else b""
            handler = handlers.get(fields[2])
            if handler is not None:
                handler(fields[1], reply, buffer[body:stop], headers)
            else:
                await self._client._process_msg(int(fields[2]), fields[1], reply, buffer[body:stop], headers)  # type: ignore[arg-type]
            at = stop + 2
        self._rest = buffer[at:]


class LogClient(Client):
    """role: whose inbox, consumers and control plane this connection uses. forbidden: what the server has refused to
    it, as `<entity>.<event>` or the like."""

    def __init__(self, role: str = OPERATOR) -> None:
        super().__init__()
        self.role = role
        self.forbidden: set[str] = set()
        self._locked_out_s = -LOCKED_OUT_WORDS_S
        self.on_end: list[Callable[[], None]] = []  # called when the connection is closed for good, by either side
        self.raw_handlers: dict[bytes, RawHandler] = {}  # by subscription id, as it stands in a message
        self._ps = FastParser(self)
        self.on_break: list[Callable[[], None]] = []  # called when the connection is lost, and again when it is back

    async def broken(self) -> None:
        for call in self.on_break:
            call()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """The stock client waits without a limit for the other side's farewell."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await super()._close(status, do_cbs)
        except TimeoutError:
            if do_cbs:
                await self.ended()

    async def ended(self) -> None:
        for call in self.on_end:
            call()

    async def trouble(self, error: Exception) -> None:
        """Connection trouble shows as append time-outs and reader gaps, which are handled where they matter. What is
        refused has no other answer than this: it is said once for each kind of subject."""
        if "authorization" in str(error).lower() or isinstance(error, ssl.SSLError):
            if time.monotonic() - self._locked_out_s > LOCKED_OUT_WORDS_S:
                self._locked_out_s = time.monotonic()
                log.error("the log's server does not let %s in: %s", self.role, error)
            return
        found = _FORBIDDEN.search(str(error).lower())
        if found is None:
            return
        verb, kind = found[1], ".".join(found[2].split(".")[:2])
        if kind in self.forbidden or len(self.forbidden) >= FORBIDDEN_MAX:
            return
        self.forbidden.add(kind)
        log.error(
            "the log's server refuses the %s %s to %s, for its permissions lack it: either this is not the program for "
            "that key, or the server's configuration is older than this version (deploy/README.md)",
            "subscription to" if verb == "subscription" else "publishing of", found[2], self.role,
        )  # fmt: skip

    async def subscribe_raw(self, subject: str, handler: RawHandler) -> Subscription:
        """handler runs in the event loop, in order, for each message; it must not block or raise."""

        async def never(_: Any) -> None:  # the stock path is bypassed by FastParser
            raise AssertionError("raw subscriptions are dispatched by FastParser")

        sub = await self.subscribe(subject, cb=never)
        self.raw_handlers[b"%d" % sub._id] = handler
        return sub

    async def unsubscribe_raw(self, sub: Subscription) -> None:
        self.raw_handlers.pop(b"%d" % sub._id, None)
        await sub.unsubscribe()

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


async def connect(
    url: str,
    *,
    name: str,
    user: str = "",
    password: str = "",
    role: str = OPERATOR,
    seed_file: Path | None = None,
    ca_file: Path | None = None,
    reconnect: bool = True,
) -> LogClient:
    """Connect, and reconnect for ever: a service outlives its nats-server.

    url: of one server, or of several with commas, of which any will do. role: whose names this connection uses
    (permissions.py). seed_file: the role's key, for servers that know it; otherwise user and password. ca_file: who
    must have signed the server's certificate, where the URL says tls.
    """
    client = LogClient(role)
    key = load_seed(seed_file) if seed_file is not None else None
    if key is not None:
        client._public_nkey, client._auth_configured = key.public, True
    await client.connect(
        url.split(","),
        disconnected_cb=client.broken,
        reconnected_cb=client.broken,
        closed_cb=client.ended,
        name=name,
        user=user or None,
        password=password or None,
        signature_cb=key.sign if key is not None else None,
        tls=ssl.create_default_context(cafile=ca_file) if ca_file is not None else None,
        inbox_prefix=inbox(role),
        allow_reconnect=reconnect,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.2,  # type: ignore[arg-type]  # seconds; nats-py sleeps for fractions too
        ping_interval=5,
        max_outstanding_pings=2,
        connect_timeout=3,
        pending_size=64 * 1024 * 1024,
        error_cb=client.trouble,
    )
    return client
