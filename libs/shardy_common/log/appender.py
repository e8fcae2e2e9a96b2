"""A pipelined appender over JetStream's publish API.

nats-py's publish_async never resolves when the server answers with an error, so an optimistic conflict would hang.
Here each append carries a reply subject under one inbox; the answer, good or bad, resolves its future, and one
that never comes resolves as Unknown after `timeout_s`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

import msgspec
from nats.aio.subscription import Subscription

from shardy_common.log.client import LogClient, hpub
from shardy_common.log.stream import is_full
from shardy_common.log.types import Append, Appended, Conflict, Full, Outcome, Unknown
from shardy_common.tracing import new_traceparent
from shardy_common.wire.events import encode

_WRONG_LAST_SEQUENCE = (10071, 10164)  # by subject; the second code is newer servers' constant of the same refusal
IN_FLIGHT_MAX = 20_000
IN_FLIGHT_BYTES_MAX = 64 * 1024 * 1024  # and one batch: what the connection may hold while the server is slow


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


_decode_ack = msgspec.json.Decoder(_PubAck).decode


class Appender:
    """append() may be called by many tasks at once; at most IN_FLIGHT_MAX appends wait for an answer."""

    def __init__(self, client: LogClient, *, timeout_s: float = 5.0) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._inbox = f"_INBOX.{secrets.token_hex(8)}."
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}
        self._next = 0
        self._bytes = 0
        self._room = asyncio.Event()
        self._subscription: Subscription | None = None
        self.conflicts = 0
        self.appended = 0
        self.full = 0

    @property
    def in_flight(self) -> int:
        """Appends that wait for an answer."""
        return len(self._waiting)

    async def start(self) -> None:
        self._subscription = await self._client.subscribe_raw(self._inbox + "*", self._answered)
        self._client.on_break.append(self._lost)

    async def close(self) -> None:
        if self._subscription is not None and not self._client.is_closed:
            await self._client.unsubscribe_raw(self._subscription)

    async def append(self, items: Sequence[Append]) -> list[Outcome]:
        """Append in order, in one pipeline; see EventLog.append."""
        outcomes: list[Outcome] = []
        for start in range(0, len(items), IN_FLIGHT_MAX):
            outcomes += await self._append_some(items[start : start + IN_FLIGHT_MAX])
        return outcomes

    async def _append_some(self, items: Sequence[Append]) -> list[Outcome]:
        while self._waiting and (len(self._waiting) + len(items) > IN_FLIGHT_MAX or self._bytes > IN_FLIGHT_BYTES_MAX):
            self._room.clear()
            await self._room.wait()
        loop = asyncio.get_running_loop()
        tokens: list[str] = []
        futures: list[asyncio.Future[Outcome]] = []
        commands: list[bytes] = []
        for item in items:
            self._next += 1
            token = str(self._next)
            future: asyncio.Future[Outcome] = loop.create_future()
            self._waiting[token] = future
            tokens.append(token)
            futures.append(future)
            commands.append(hpub(item.event.subject, self._inbox + token, _headers(item), encode(item.event)))
        size = sum(map(len, commands))
        self._bytes += size
        try:
            await self._client.send_raw(commands)
            pending = [f for f in futures if not f.done()]
            if pending:
                await asyncio.wait(pending, timeout=self._timeout_s)
        finally:
            for token in tokens:
                self._waiting.pop(token, None)
            self._bytes -= size
            self._room.set()
        return [f.result() if f.done() else Unknown("no answer from the log in time") for f in futures]

    def _lost(self) -> None:
        """The connection broke: nobody will answer what was sent over it."""
        for future in self._waiting.values():
            if not future.done():
                future.set_result(Unknown("the connection to the log was lost"))

    def _answered(self, subject: bytes, _reply: bytes, data: bytes, _headers: bytes | None) -> None:
        future = self._waiting.pop(subject[len(self._inbox) :].decode(), None)
        if future is None or future.done():
            return
        if not data:  # "no responders": the stream has no leader just now
            future.set_result(Unknown("the log has no leader"))
            return
        ack = _decode_ack(data)
        if ack.error is None:
            self.appended += 1
            future.set_result(Appended(ack.seq, ack.duplicate))
        elif ack.error.err_code in _WRONG_LAST_SEQUENCE:
            self.conflicts += 1
            future.set_result(Conflict(ack.error.description))
        elif is_full(ack.error.err_code):
            self.full += 1
            future.set_result(Full(ack.error.description))
        else:
            future.set_result(Unknown(f"{ack.error.err_code}: {ack.error.description}"))


def _headers(item: Append) -> str:
    lines = f"Nats-Msg-Id: {item.msg_id}\r\ntraceparent: {item.trace or new_traceparent()}\r\n"
    if item.expect is not None:
        lines += f"Nats-Expected-Last-Subject-Sequence: {item.expect}\r\n"
        if item.expect_filter:
            lines += f"Nats-Expected-Last-Subject-Sequence-Subject: {item.expect_filter}\r\n"
    return lines
