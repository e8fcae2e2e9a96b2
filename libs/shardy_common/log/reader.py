"""An ordered reader of the log: an ephemeral push consumer with server-side flow control.

No acknowledgements: a service's position is the checkpoint that it commits together with its projection, so there
is one truth about what it has seen (docs/adr/0002-checkpoints.md). A gap or a missed heartbeat makes a new consumer
from the last sequence read. The flow-control reply is withheld while the caller lags: memory stays bounded.

What was archived is read from its files first (archive.py): the stream says how far that is, and is asked after the
consumer was made, so that a purge meanwhile is either waited for by whoever purges, or seen here. A sequence that is
missing in the stream and not archived ends the reader with an ArchiveError: nothing is folded around a hole.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from shardy_common.log.archive import Archive, Extent, extent_of, missing, needed
from shardy_common.log.archive_file import Head, Message, records
from shardy_common.log.client import LogClient, header_value
from shardy_common.log.clock import LogClock
from shardy_common.log.packs import unpack
from shardy_common.log.types import Recorded, Taken, ns_of
from shardy_common.permissions import READERS_MAX, reader_name
from shardy_common.wire.events import UndecodableEvent, decode

RARE = ("fraud.", "task.unresolved.", "job.reopened.", "dlq.", "verifier.", "proof.", "gateway.")
_HEARTBEAT_S = 2.0
_UNKNOWN = 1 << 62
_LOOKED_MAX = 5_000  # archived events looked at before the event loop has its turn
EVENTS_EACH = 4  # of a message: two results, a creation and a verdict are little more than one where tasks are tiny
_INACTIVE_S = 15.0  # then the server forgets the consumer of a reader that is gone, and its name is free
_NAME_TAKEN = (10013, 10105, 10148)
_BACKLOG_MAX = 20_000  # decoded later, so this bounds raw bytes: flow control stops the server well before


class JetStreamReader:
    """archive: where the events lie that were archived; without one, a log that has such ends the reader. clock: told
    the times of what is news."""

    def __init__(
        self,
        client: LogClient,
        stream: str,
        filters: Sequence[str],
        after: int,
        clock: LogClock,
        archive: Archive | None = None,
    ) -> None:
        self._clock = clock
        self._client, self._stream, self._filters, self._archive = client, stream, list(filters), archive
        # Catching up, a consumer with several filters costs the server about 370 µs a message, one with one filter or
        # none 5 µs (nats-server 2.15). So several filters are applied here, unless nearly nothing passes them.
        self._filters_at_server = len(self._filters) == 1 or all(f.startswith(RARE) for f in self._filters)
        if not self._filters_at_server and not all(f.endswith((".*", ".>")) for f in self._filters):
            raise ValueError("several filters at once choose by entity and event only: end each in .* or .>")
        self._wanted: dict[bytes, bool] = {}  # `<entity>.<event>` seen so far → whether a filter matches it
        self._after = after  # last sequence taken into the backlog
        self._backlog: deque[Message] = deque()
        self._archived: _Archived | None = None  # where reading stands in the archive
        self._hole: tuple[int, int] | None = None  # sequences that the stream passed over
        # every sequence is seen, so one that is missing shows
        self._whole = not self._filters or not self._filters_at_server
        self._last: tuple[bytes, bytes] | None = None  # subject, and time in nanoseconds, of the message at _after
        self._arrived = asyncio.Event()
        # The end of the log when the consumer was made, 0 once it was reached: on a log whose end was damaged, the
        # server has been seen to count less as pending than it goes on to deliver.
        self._end = 0
        self._consumer_seq = 0
        self._news_after = _UNKNOWN  # of this consumer, later messages were appended after it was made
        self._server_pending = 1
        self._flow_replies: list[bytes] = []
        self._heard = 0.0
        self._broken = True
        self._sub: Subscription | None = None
        self._consumer, self._number = "", secrets.randbelow(READERS_MAX)
        client.on_break.append(self._lost)

    @property
    def caught_up(self) -> bool:
        if self._broken or self._server_pending or self._backlog or self._archived is not None:
            return False
        return not self._whole or self._after >= self._end

    @property
    def taken(self) -> Taken | None:
        """The last message that the stream gave; None before the first. Of what is in the archive none is told."""
        return Taken(self._after, self._last[0].decode(), int(self._last[1]) // 1_000_000) if self._last else None

    @property
    def behind(self) -> int | None:
        return None if self._broken else len(self._backlog) + self._server_pending

    @property
    def lag(self) -> int:
        """Events that were in the log when last heard, and are unread."""
        return self._server_pending + len(self._backlog)

    async def batch(self, max_events: int, timeout_s: float) -> list[Recorded]:
        messages = await self.messages(max(max_events // EVENTS_EACH, 1), timeout_s)
        return [event for message in messages for event in unpack(recorded(message))]

    async def messages(self, max_events: int, timeout_s: float) -> list[Message]:
        """As batch, but messages as they are, at most so many. Raises ArchiveError where events are missing."""
        deadline = time.monotonic() + timeout_s
        while not self._backlog:
            if self._hole is not None:
                await self._explain_hole(*self._hole)
            if self._archived is not None:
                found = await self._archived.take(max_events)
                if found:
                    return found
                self._after, self._archived = max(self._after, self._archived.through), None
            if self._broken or time.monotonic() - self._heard > 3 * _HEARTBEAT_S:
                await self._restart()
                if self._archived is not None:
                    continue
                if self._broken and time.monotonic() < deadline:
                    continue  # the restart has waited: nothing will arrive that could wake this
                if self.caught_up:
                    return []  # there is nothing more, and the caller waits to hear it
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
        out: list[Message] = []
        while self._backlog and len(out) < max_events:
            out.append(self._backlog.popleft())
        if len(self._backlog) < _BACKLOG_MAX // 2:
            await self._release_flow()
        return out

    def wake(self) -> None:
        """Return from a waiting batch() early."""
        self._arrived.set()

    def _lost(self) -> None:
        self._broken = True
        self._arrived.set()

    async def close(self, *, for_good: bool = True) -> None:
        if for_good:
            self._client.on_break.remove(self._lost)
        if self._sub is not None and not self._client.is_closed:
            await self._client.unsubscribe_raw(self._sub)
            if self._client.is_connected and not self._broken:  # else the name may be another's by now
                await self._client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}", b"")
        self._sub = None

    async def _restart(self) -> None:
        """Make the consumer anew, from just after the last sequence that was taken in."""
        if not self._client.is_connected:
            await asyncio.sleep(0.05)
            return
        if self._sub is not None:
            await self._client.unsubscribe_raw(self._sub)
        after, last = self._after, self._last
        self._number = (self._number + 1) % READERS_MAX
        self._consumer = reader_name(self._client.role, self._number)
        deliver = f"_DELIVER.{self._client.role}.{secrets.token_hex(8)}"
        self._sub = await self._client.subscribe_raw(deliver, self._on_message)
        # The server may deliver before its answer to the request is read: what comes early must count, or it would be
        # missed until the next heartbeat shows the gap.
        self._consumer_seq, self._server_pending, self._broken = 0, 1, False
        self._news_after = _UNKNOWN
        config = {
            "stream_name": self._stream,
            "action": "create",  # never another reader's consumer, should the name be taken
            "config": {
                "name": self._consumer,
                "deliver_subject": deliver,
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": self._after + 1,
                "ack_policy": "none",
                "max_deliver": 1,
                "flow_control": True,
                "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
                "inactive_threshold": int(_INACTIVE_S * 1e9),
                "mem_storage": True,
                "num_replicas": 1,
                "filter_subjects": self._filters if self._filters_at_server else [],
            },
        }
        try:
            reply = await self._client.request(
                f"$JS.API.CONSUMER.CREATE.{self._stream}.{self._consumer}", json.dumps(config).encode(), timeout=3
            )
            info = await self._info()
            state = info.get("state", {})
            extent, self._end = extent_of(info), int(state.get("last_seq", 0)) if state.get("messages") else 0
        except (NatsError, TimeoutError, OSError):
            self._backlog.clear()  # what came already may stand behind what was archived
            self._after, self._last, self._broken = after, last, True
            await asyncio.sleep(0.1)
            return
        answer = json.loads(reply.data)
        if "error" in answer:
            self._broken = True
            # the name is another reader's; or there is no leader yet, or the stream is still being made
            await asyncio.sleep(0.01 if answer["error"].get("err_code") in _NAME_TAKEN else 0.2)
            return
        self._news_after = int(answer["num_pending"]) + int(answer["delivered"]["consumer_seq"])
        self._clock.heard(
            ns_of(answer["created"]) // 1_000_000, time.monotonic()
        )  # the last event may be old: this is now
        if extent.through > after and needed(self._filters):
            self._last = last
            await self._turn_to_archive(after, extent)
            return
        if self._consumer_seq == 0:  # messages that came already know better what is left
            self._server_pending = max(int(answer.get("num_pending", 0)), 0)
        self._heard = time.monotonic()

    async def _info(self) -> dict[str, Any]:
        reply = await self._client.request(f"$JS.API.STREAM.INFO.{self._stream}", b"", timeout=3)
        return dict(json.loads(reply.data))

    async def _turn_to_archive(self, after: int, extent: Extent) -> None:
        """Read on in the archive, and leave the consumer: it was made to read what the stream may not have."""
        await self.close(for_good=False)
        self._backlog.clear()
        self._after, self._broken, self._hole = after, True, None
        if self._archive is None:
            raise missing(after + 1, extent.through, "(none is set)")
        self._archived = _Archived(self._archive, extent, after, self._filters)

    async def _explain_hole(self, first: int, last: int) -> None:
        """Sequences are missing. They were archived meanwhile; or the stream may drop messages; or it is damaged."""
        try:
            info = await self._info()
            found = await self._client.request(
                f"$JS.API.STREAM.MSG.GET.{self._stream}", json.dumps({"seq": first}).encode(), timeout=3
            )
        except (NatsError, TimeoutError, OSError):
            await asyncio.sleep(0.1)
            return
        config = info.get("config", {})
        names = ["max_age", "max_msgs_per_subject"]
        if config.get("discard") != "new":  # a full stream makes room by itself
            names += ["max_msgs", "max_bytes"]
        if any(config.get(name, 0) > 0 for name in names) or (config and not config.get("deny_delete")):
            self._whole = False  # this stream forgets by itself
        elif config and extent_of(info).through < last and "message" not in json.loads(found.data):
            raise missing(first, last, self._archive.folder if self._archive else "(none is set)")
        self._hole = None

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
                elif not stalled:  # it is idle, so it has delivered all it has, whatever it counted
                    self._server_pending = self._end = 0
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
        seq = int(token[5])
        if seq != self._after + 1 and self._whole:
            self._hole, self._broken = (self._after + 1, seq - 1), True
            self._arrived.set()
            return
        self._after = seq
        self._last = subject, token[7]
        self._server_pending = int(token[8])
        if consumer_seq > self._news_after:
            self._clock.heard(int(token[7]) // 1_000_000, self._heard)
        name = subject[: subject.rfind(b".")]
        wanted = self._wanted.get(name)
        if wanted is None:
            wanted = self._wanted[name] = not self._filters or any(_matches(f, name) for f in self._filters)
        if wanted:
            self._backlog.append(Message(subject, seq, int(token[7]), data, headers))
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


class _Archived:
    """Messages of the archive from one place on: an epoch is read and verified in a thread, and taken in pieces."""

    def __init__(self, archive: Archive, extent: Extent, after: int, filters: Sequence[str]) -> None:
        self.through = extent.through
        self._after, self._filters = after, filters
        self._by_name = all(f.endswith((".*", ".>")) for f in filters)
        self._epochs: Iterator[tuple[Head, bytes]] = archive.walk(extent, after, lambda n: self._named(n.encode()))
        self._messages: Iterator[Message] = iter(())
        self._known: dict[bytes, bool] = {}

    async def take(self, count: int) -> list[Message]:
        """The next messages that are wanted; none at the end."""
        found: list[Message] = []
        while not found:
            for looked, message in enumerate(self._messages, 1):
                if self._wanted(message.subject):
                    found.append(message)
                if len(found) >= count or looked >= _LOOKED_MAX:
                    break
            else:
                epoch = await asyncio.to_thread(next, self._epochs, None)
                if epoch is None:
                    return found
                self._messages = records(epoch[1], self._after)
                continue
            await asyncio.sleep(0)
        return found

    def _wanted(self, subject: bytes) -> bool:
        name = subject[: subject.rfind(b".")]
        wanted = self._known.get(name)
        if wanted is None:
            wanted = self._known[name] = self._named(name)
        return wanted and (self._by_name or any(takes(f, subject.decode("utf-8", "replace")) for f in self._filters))

    def _named(self, name: bytes) -> bool:
        return not self._filters or any(_matches(f, name) for f in self._filters)


def takes(pattern: str, subject: str) -> bool:
    """Whether a subject pattern, with `*` for a word and `>` for all that follow, takes a subject."""
    want, have = pattern.split("."), subject.split(".")
    for i, word in enumerate(want):
        if word == ">":
            return len(have) > i
        if i >= len(have) or word not in ("*", have[i]):
            return False
    return len(have) == len(want)


def recorded(message: Message) -> Recorded:
    """One message of the stream as an event, or as bytes that no version explains."""
    subject, seq, at_ns, data, headers = message
    at_ms = at_ns // 1_000_000
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
