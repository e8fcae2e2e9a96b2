"""An ordered reader of the log: an ephemeral push consumer with server-side flow control.

No acknowledgements: a service's position is the checkpoint that it commits together with its projection, so there
is one truth about what it has seen (docs/adr/0002-checkpoints.md). A gap or a missed heartbeat makes a new consumer
from the last sequence read. The flow-control reply is withheld while the caller lags: memory stays bounded.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Sequence

from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from shardy_common.log.client import LogClient, header_value
from shardy_common.log.types import Recorded
from shardy_common.wire.events import UndecodableEvent, decode

RARE = ("fraud.", "task.unresolved.", "job.reopened.", "dlq.", "verifier.", "proof.", "gateway.")
_HEARTBEAT_S = 2.0
_BACKLOG_MAX = 20_000  # decoded later, so this bounds raw bytes: flow control stops the server well before


class JetStreamReader:
    def __init__(self, client: LogClient, stream: str, filters: Sequence[str], after: int) -> None:
        self._client, self._stream, self._filters = client, stream, list(filters)
        # Catching up, a consumer with several filters costs the server about 370 µs a message, one with one filter or
        # none 5 µs (nats-server 2.15). So several filters are applied here, unless nearly nothing passes them.
        self._filters_at_server = len(self._filters) == 1 or all(f.startswith(RARE) for f in self._filters)
        if not self._filters_at_server and not all(f.endswith((".*", ".>")) for f in self._filters):
            raise ValueError("several filters at once choose by entity and event only: end each in .* or .>")
        self._wanted: dict[bytes, bool] = {}  # `<entity>.<event>` seen so far → whether a filter matches it
        self._after = after  # last sequence taken into the backlog
        self._backlog: deque[tuple[bytes, int, int, bytes, bytes | None]] = deque()
        self._arrived = asyncio.Event()
        self._consumer_seq = 0
        self._server_pending = 1
        self._flow_replies: list[bytes] = []
        self._heard = 0.0
        self._broken = True
        self._sub: Subscription | None = None
        self._consumer = ""
        client.on_break.append(self._lost)

    @property
    def caught_up(self) -> bool:
        return not self._broken and self._server_pending == 0 and not self._backlog

    @property
    def lag(self) -> int:
        """Events that were in the log when last heard, and are unread."""
        return self._server_pending + len(self._backlog)

    async def batch(self, max_events: int, timeout_s: float) -> list[Recorded]:
        deadline = time.monotonic() + timeout_s
        while not self._backlog:
            if self._broken or time.monotonic() - self._heard > 3 * _HEARTBEAT_S:
                await self._restart()
            await self._release_flow()
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            self._arrived.clear()
            if self._backlog:
                break
            try:
                await asyncio.wait_for(self._arrived.wait(), min(left, _HEARTBEAT_S))
            except TimeoutError:
                continue
            if not self._backlog and self._server_pending == 0 and not self._broken:
                return []  # woken by the news that the end is reached
        out: list[Recorded] = []
        while self._backlog and len(out) < max_events:
            out.append(recorded(*self._backlog.popleft()))
        if len(self._backlog) < _BACKLOG_MAX // 2:
            await self._release_flow()
        return out

    def wake(self) -> None:
        """Return from a waiting batch() early."""
        self._arrived.set()

    def _lost(self) -> None:
        self._broken = True
        self._arrived.set()

    async def close(self) -> None:
        self._client.on_break.remove(self._lost)
        if self._sub is not None and not self._client.is_closed:
            await self._client.unsubscribe_raw(self._sub)
            if self._client.is_connected:
                await self._client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}", b"")
        self._sub = None

    async def _restart(self) -> None:
        """Make the consumer anew, from just after the last sequence that was taken in."""
        if not self._client.is_connected:
            await asyncio.sleep(0.05)
            return
        if self._sub is not None:
            await self._client.unsubscribe_raw(self._sub)
        self._consumer = f"r-{secrets.token_hex(6)}"
        deliver = f"_DELIVER.{self._consumer}"
        self._sub = await self._client.subscribe_raw(deliver, self._on_message)
        # The server may deliver before its answer to the request is read: what comes early must count, or it would be
        # missed until the next heartbeat shows the gap.
        self._consumer_seq, self._server_pending, self._broken = 0, 1, False
        config = {
            "stream_name": self._stream,
            "config": {
                "name": self._consumer,
                "deliver_subject": deliver,
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": self._after + 1,
                "ack_policy": "none",
                "max_deliver": 1,
                "flow_control": True,
                "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
                "inactive_threshold": int(60e9),
                "mem_storage": True,
                "num_replicas": 1,
                "filter_subjects": self._filters if self._filters_at_server else [],
            },
        }
        try:
            reply = await self._client.request(
                f"$JS.API.CONSUMER.CREATE.{self._stream}.{self._consumer}", json.dumps(config).encode(), timeout=3
            )
        except (NatsError, TimeoutError, OSError):
            self._broken = True
            await asyncio.sleep(0.1)
            return
        answer = json.loads(reply.data)
        if "error" in answer:
            self._broken = True
            await asyncio.sleep(0.2)  # no leader yet, or the stream is still being made
            return
        if self._consumer_seq == 0:  # messages that came already know better what is left
            self._server_pending = max(int(answer.get("num_pending", 0)), 0)
        self._heard = time.monotonic()

    def _on_message(self, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self._heard = time.monotonic()
        if headers and headers.startswith(b"NATS/1.0 100"):
            if reply:  # a flow-control request: answer only once the backlog is drained
                self._flow_replies.append(reply)
            else:
                stalled = header_value(headers, b"Nats-Consumer-Stalled")
                if stalled:
                    self._flow_replies.append(stalled.encode())
                last = header_value(headers, b"Nats-Last-Consumer")
                if last and int(last) != self._consumer_seq:
                    self._broken = True
                elif not stalled:
                    self._server_pending = 0
            self._arrived.set()
            return
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>
        token = reply.split(b".")
        consumer_seq = int(token[6])
        if self._broken or consumer_seq != self._consumer_seq + 1:
            self._broken = True
            self._arrived.set()
            return
        self._consumer_seq = consumer_seq
        self._after = int(token[5])
        self._server_pending = int(token[8])
        name = subject[: subject.rfind(b".")]
        wanted = self._wanted.get(name)
        if wanted is None:
            wanted = self._wanted[name] = not self._filters or any(_matches(f, name) for f in self._filters)
        if wanted:
            self._backlog.append((subject, self._after, int(token[7]) // 1_000_000, data, headers))
            self._arrived.set()
        elif self._server_pending == 0:
            self._arrived.set()

    async def _release_flow(self) -> None:
        if self._flow_replies and self._client.is_connected:
            replies, self._flow_replies = self._flow_replies, []
            for reply in replies:
                await self._client.publish(reply.decode(), b"")


def _matches(pattern: str, name: bytes) -> bool:
    """Whether a filter `<entity>.<event>.*` (either of both may be `*`) takes events named `<entity>.<event>`."""
    want = pattern.split(".")
    have = name.decode().split(".")
    return want[-1] == ">" or all(w in ("*", h) for w, h in zip(want, have, strict=False))


def recorded(subject: bytes, seq: int, at_ms: int, data: bytes, headers: bytes | None) -> Recorded:
    """One message of the stream as an event, or as bytes that no version explains."""
    trace = ""
    if headers:
        at = headers.find(b"traceparent: ")
        if at >= 0:
            trace = headers[at + 13 : at + 68].decode("ascii", "replace")
    try:
        event = decode(data)
    except UndecodableEvent as error:
        return Recorded(seq, subject.decode(), at_ms, None, trace, data, str(error))
    return Recorded(seq, subject.decode(), at_ms, event, trace)
