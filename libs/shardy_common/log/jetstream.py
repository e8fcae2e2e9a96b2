"""The log on NATS JetStream: one stream, made if it is missing, read and appended through one connection."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nats.errors import Error as NatsError

from shardy_common.errors import Refused
from shardy_common.log import streams
from shardy_common.log.appender import Appender
from shardy_common.log.archive import Archive, Extent, extent_of
from shardy_common.log.archive_file import Message
from shardy_common.log.client import LogClient, connect, header_value
from shardy_common.log.clock import LogClock
from shardy_common.log.packs import pack, spread
from shardy_common.log.reader import JetStreamReader, recorded
from shardy_common.log.stream import BYTES_MIN, MANAGED, OUT_OF_STORAGE, LogRoom, StreamLimits, room_of, updated
from shardy_common.log.types import Append, LogState, Outcome, Recorded, ns_of
from shardy_common.permissions import OPERATOR
from shardy_common.wire import subjects

FOUND_MAX = 10_000
WAITING_WORDS_S = 30.0  # how often it is said that a stream is waited for
IN_USE = 10058  # a stream of this name is there
NOT_FOUND = 10059
_NO_PEERS = 10005  # the nodes of a cluster come one after another
log = logging.getLogger("shardy.log")


class JetStreamLog:
    """Open with `await JetStreamLog.open(url, name=…)`; one per process. archive: the folder of archived epochs."""

    def __init__(self, client: LogClient, stream: str, archive: Path | str | None = None) -> None:
        self.client = client
        self.stream = stream
        self.archive = Archive(archive, stream) if archive is not None else None
        self.appender = Appender(client)
        self.clock = LogClock()
        self.makes_streams = True

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        name: str,
        user: str = "",
        password: str = "",
        role: str = OPERATOR,
        seed_file: Path | None = None,
        ca_file: Path | None = None,
        stream: str = subjects.STREAM,
        replicas: int = 1,
        archive: Path | str | None = None,
        limits: StreamLimits | None = None,
    ) -> JetStreamLog:
        """Connect (waiting for the server as long as it takes) and make sure that the stream exists. For user, role and
        files see connect(); a role with a key that is not the operator's waits for the stream (streams.py).

        limits: what it may hold; None: as it is, or the default for a new one."""
        while True:
            try:
                client = await connect(
                    url, name=name, user=user, password=password, role=role, seed_file=seed_file, ca_file=ca_file
                )
                break
            except (NatsError, OSError) as error:
                log.debug("no connection yet: %s", error)
                await asyncio.sleep(0.2)
        opened = cls(client, stream, archive)
        opened.makes_streams = seed_file is None or role == OPERATOR
        await opened.appender.start()
        await opened.ensure_stream(streams.events(replicas, stream, limits), MANAGED if limits is not None else ())
        return opened

    async def append(self, items: Sequence[Append]) -> list[Outcome]:
        messages, which = pack(items)
        return spread(await self.appender.append(messages), which)

    def read(self, filters: Sequence[str], after: int) -> JetStreamReader:
        return JetStreamReader(self.client, self.stream, filters, after, self.clock, self.archive)

    def now_ms(self) -> int:
        """The time by the log's clock (log/clock.py), as far as this process has read; its own before that."""
        now_ms = self.clock.now_ms(time.monotonic())
        return time.time_ns() // 1_000_000 if now_ms is None else now_ms

    @property
    def on_break(self) -> list[Callable[[], None]]:
        return self.client.on_break

    async def info(self) -> dict[str, Any]:
        """Configuration and state of the stream, as the server tells them. NatsError when it cannot just now."""
        reply = await self.client.request(f"$JS.API.STREAM.INFO.{self.stream}", b"", timeout=5)
        info = dict(json.loads(reply.data))
        if "error" in info:
            raise NatsError(f"the stream {self.stream} cannot be asked: {info['error'].get('description')}")
        return info

    async def last_seq(self) -> int:
        """Sequence of the newest event in the whole stream."""
        return (await self.state()).last_seq

    async def state(self) -> LogState:
        """The identity is the time when the stream was made, to the nanosecond: the server keeps it with the stream's
        files, so it comes back with them. NatsError when the stream cannot be asked just now."""
        info = await self.info()
        state = info["state"]
        at_ms = ns_of(state["first_ts"]) // 1_000_000 if state["messages"] else 0
        return LogState(str(info["created"]), int(state["first_seq"]), int(state["last_seq"]), at_ms)

    async def extent(self) -> Extent:
        """How far the log was archived."""
        return extent_of(await self.info())

    async def get(self, seq: int) -> Recorded | None:
        """One event by its sequence, from stream or archive; None when there is none."""
        found = await self._message({"seq": seq})
        if found is not None:
            return recorded(message_of(found))
        extent = await self.extent()
        if self.archive is None or not 0 < seq <= extent.through:
            return None
        old = await asyncio.to_thread(self.archive.get, extent, seq)
        return recorded(old) if old is not None else None

    async def last(self, subject: str) -> Recorded | None:
        """See EventLog. The stream's leader is asked, so nothing that was acknowledged is missed."""
        found = await self._message({"last_by_subj": subject})
        return recorded(message_of(found)) if found is not None else None

    async def find(self, subject: str, after: int, msg_id: str) -> int | None:
        """See EventLog. A subject has few messages; past FOUND_MAX of them it is given up."""
        extent = await self.extent()
        if self.archive is not None and after < extent.through:
            seq = await asyncio.to_thread(self.archive.find, extent, subject, after, msg_id)
            if seq is not None:
                return seq
            after = extent.through
        for _ in range(FOUND_MAX):
            message = await self._message({"seq": after + 1, "next_by_subj": subject})
            if message is None:
                return None
            after = int(message["seq"])
            if header_value(base64.b64decode(message.get("hdrs", "")), b"Nats-Msg-Id") == msg_id:
                return after
        raise Refused(
            f"{subject} has over {FOUND_MAX} messages: they are not searched", status=409, title="Cannot be replayed"
        )

    async def _message(self, which: dict[str, Any]) -> dict[str, Any] | None:
        reply = await self.client.request(
            f"$JS.API.STREAM.MSG.GET.{self.stream}", json.dumps(which).encode(), timeout=5
        )
        return json.loads(reply.data).get("message")

    async def close(self) -> None:
        await self.appender.close()
        await self.client.close()

    async def room(self) -> LogRoom:
        """How full the stream is."""
        return room_of(await self.info())

    async def ensure_stream(self, config: dict[str, Any], managed: tuple[str, ...] = ()) -> None:
        """Make the stream if it is missing, or wait until it is there, if others make it."""
        if self.makes_streams:
            await self.make_stream(config, managed)
            return
        said = time.monotonic()
        while not await self._takes(config["name"], set(config["subjects"])):
            if time.monotonic() - said > WAITING_WORDS_S:
                said = time.monotonic()
                log.warning(
                    "waiting for the stream %s and all its subjects: the operator makes it "
                    "(python -m shardy_common.make_streams; with compose it is the service streams)",
                    config["name"],
                )
            await asyncio.sleep(0.1)

    async def limit(self, limits: StreamLimits) -> None:
        """Let the stream hold so much from now on; less than it holds drops nothing."""
        have = (await self._ask(f"STREAM.INFO.{self.stream}")).get("config", {})
        await self.make_stream(streams.events(have.get("num_replicas", 1), self.stream, limits), MANAGED)

    async def _takes(self, stream: str, wanted: set[str]) -> bool:
        have = (await self._ask(f"STREAM.INFO.{stream}")).get("config", {})
        return wanted <= set(have.get("subjects", ()))

    async def make_stream(self, config: dict[str, Any], managed: tuple[str, ...] = ()) -> None:
        """Make a stream if it is missing, however long that takes; one that is there takes the subjects that it lacks,
        as many copies as it should have, and the fields in `managed`."""
        said = -WAITING_WORDS_S
        while True:
            # asked first: a server whose disk is nearly full refuses to make even a stream that is there already
            reply = await self._ask(f"STREAM.INFO.{config['name']}")
            error = reply.get("error", {})
            if error.get("err_code") == NOT_FOUND:
                error = (await self._ask(f"STREAM.CREATE.{config['name']}", config)).get("error")
                if error is None:
                    return
            if not error:
                if await self._update(reply["config"], config, managed):
                    return
            elif error.get("err_code") == IN_USE:  # another has made it just now
                continue
            elif error.get("err_code") in OUT_OF_STORAGE and config.get("max_bytes", 0) > BYTES_MIN:
                config = {**config, "max_bytes": max(config["max_bytes"] // 2, BYTES_MIN)}
                log.warning("nats-server has no room for so large a log: trying %d bytes", config["max_bytes"])
            elif error.get("code") == 503 or error.get("err_code") in (_NO_PEERS, *OUT_OF_STORAGE):
                if error.get("err_code") in OUT_OF_STORAGE and time.monotonic() - said > WAITING_WORDS_S:
                    said = time.monotonic()
                    words = "nats-server has no room for a log of %d bytes: free some of its disk, or set %s lower"
                    log.warning(words, config.get("max_bytes", 0), "SHARDY_LOG_BYTES_MAX")
                await asyncio.sleep(0.2)
            else:
                raise RuntimeError(f"the log refused to make its stream: {error.get('description')}")

    async def _update(self, have: dict[str, Any], config: dict[str, Any], managed: tuple[str, ...]) -> bool:
        """Let a stream that an earlier version made, or other settings, be as this one. False: ask again."""
        wanted = updated(have, config, managed)
        if wanted is None:
            return True
        error = (await self._ask(f"STREAM.UPDATE.{config['name']}", wanted)).get("error")
        if error is None:
            return True
        if error.get("code") == 503 or error.get("err_code") == _NO_PEERS:
            await asyncio.sleep(0.2)
            return False
        if all(wanted.get(name) == have.get(name) for name in ("subjects", "num_replicas")):
            log.warning("the log keeps its limits, others were refused: %s", error.get("description"))
            return True
        raise RuntimeError(f"the log refused to change its stream: {error.get('description')}")

    async def _ask(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The server's answer; no answer is an error 503 too, after a moment."""
        try:
            payload = json.dumps(body).encode() if body else b""
            reply = await self.client.request(f"$JS.API.{what}", payload, timeout=5)
        except (NatsError, TimeoutError, OSError):
            await asyncio.sleep(0.2)
            return {"error": {"code": 503}}
        answer: dict[str, Any] = json.loads(reply.data)
        return answer


def message_of(found: dict[str, Any]) -> Message:
    """A message as STREAM.MSG.GET tells it."""
    headers = base64.b64decode(found.get("hdrs", "")) or None
    payload = base64.b64decode(found.get("data", ""))
    return Message(found["subject"].encode(), int(found["seq"]), ns_of(found["time"]), payload, headers)
