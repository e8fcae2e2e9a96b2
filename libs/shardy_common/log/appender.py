"""A pipelined appender over JetStream's publish API.

nats-py's publish_async never resolves when the server answers with an error, so an optimistic conflict would hang.
Here each append carries a reply subject under one inbox; the answer, good or bad, is its outcome, and one that never
comes is Unknown after `timeout_s`. A pipeline of appends has one future for all of its answers: one for each append
cost as much as encoding it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence

import msgspec
from nats.aio.subscription import Subscription

from shardy_common.log.client import LogClient, hpub
from shardy_common.log.stream import is_full
from shardy_common.log.types import Append, Appended, Conflict, Full, Outcome, Unknown
from shardy_common.permissions import inbox
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
_UNANSWERED = Unknown("no answer from the log in time")


class _Pipeline:
    """Appends that were sent together. outcomes: in their order; left: how many have no answer yet."""

    __slots__ = ("done", "left", "outcomes")

    def __init__(self, count: int, done: asyncio.Future[None]) -> None:
        self.outcomes: list[Outcome] = [_UNANSWERED] * count
        self.left = count
        self.done = done

    def answered(self, index: int, outcome: Outcome) -> None:
        if self.outcomes[index] is _UNANSWERED:
            self.outcomes[index] = outcome
            self.left -= 1
            if not self.left and not self.done.done():
                self.done.set_result(None)


class Appender:
    """append() may be called by many tasks at once. One call has at most IN_FLIGHT_MAX appends under way."""

    def __init__(self, client: LogClient, *, timeout_s: float = 5.0) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._inbox = f"{inbox(client.role)}.{secrets.token_hex(8)}."
        self._pipelines: dict[bytes, _Pipeline] = {}  # by number: a reply subject ends in `<number>-<index>`
        self._next = 0
        self._bytes = self._sent = 0  # under way: bytes, and appends without an answer
        self._room = asyncio.Event()
        self._subscription: Subscription | None = None
        self.conflicts = 0
        self.appended = 0
        self.full = 0

    @property
    def in_flight(self) -> int:
        """Appends that wait for an answer."""
        return self._sent

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
        if not items:
            return []
        while self._pipelines and (self._sent + len(items) > IN_FLIGHT_MAX or self._bytes > IN_FLIGHT_BYTES_MAX):
            self._room.clear()
            await self._room.wait()
        self._next += 1
        name = str(self._next)
        reply = f"{self._inbox}{name}-"
        pipeline = _Pipeline(len(items), asyncio.get_running_loop().create_future())
        self._pipelines[name.encode()] = pipeline
        commands = [_command(reply, index, item) for index, item in enumerate(items)]
        size = sum(map(len, commands))
        self._bytes += size
        self._sent += len(items)
        try:
            await self._client.send_raw(commands)
            if pipeline.left:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timeout_s):
                        await pipeline.done
        finally:
            del self._pipelines[name.encode()]
            self._bytes -= size
            self._sent -= len(items)
            self._room.set()
        for index, outcome in enumerate(pipeline.outcomes):
            if outcome is _UNANSWERED and items[index].event.name in self._client.forbidden:
                pipeline.outcomes[index] = self._forbidden(items[index])
        return pipeline.outcomes

    def _forbidden(self, item: Append) -> Unknown:
        """What the server forbids it does not answer; the client has said so in the service's log (LogClient.trouble).
        It is not resolved at once: whoever decides the same again would do so without a pause."""
        return Unknown(f"the log's server does not let {self._client.role} append {item.event.name}")

    def _lost(self) -> None:
        """The connection broke: nobody will answer what was sent over it."""
        for pipeline in self._pipelines.values():
            for index in range(len(pipeline.outcomes)):
                pipeline.answered(index, Unknown("the connection to the log was lost"))

    def _answered(self, subject: bytes, _reply: bytes, data: bytes, _headers: bytes | None) -> None:
        name, _, index = subject[len(self._inbox) :].partition(b"-")
        pipeline = self._pipelines.get(name)
        if pipeline is not None:
            pipeline.answered(int(index), self._outcome(data))

    def _outcome(self, data: bytes) -> Outcome:
        if not data:  # "no responders": the stream has no leader just now
            return Unknown("the log has no leader")
        ack = _decode_ack(data)
        if ack.error is None:
            self.appended += 1
            return Appended(ack.seq, ack.duplicate)
        if ack.error.err_code in _WRONG_LAST_SEQUENCE:
            self.conflicts += 1
            return Conflict(ack.error.description)
        if is_full(ack.error.err_code):
            self.full += 1
            return Full(ack.error.description)
        return Unknown(f"{ack.error.err_code}: {ack.error.description}")


def _command(reply: str, index: int, item: Append) -> bytes:
    event = item.event
    return hpub(event.subject, f"{reply}{index}", _headers(item), encode(event))


def _headers(item: Append) -> str:
    lines = f"Nats-Msg-Id: {item.msg_id}\r\ntraceparent: {item.trace or new_traceparent()}\r\n"
    if item.expect is not None:
        lines += f"Nats-Expected-Last-Subject-Sequence: {item.expect}\r\n"
        if item.expect_filter:
            lines += f"Nats-Expected-Last-Subject-Sequence-Subject: {item.expect_filter}\r\n"
    return lines
