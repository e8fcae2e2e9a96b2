"""The log on NATS JetStream: one stream, made if it is missing, read and appended through one connection."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from nats.errors import Error as NatsError

from shardy_common.errors import Refused
from shardy_common.log.appender import Appender
from shardy_common.log.client import LogClient, connect, header_value
from shardy_common.log.reader import JetStreamReader, recorded
from shardy_common.log.stream import (
    BYTES_MIN,
    MANAGED,
    OUT_OF_STORAGE,
    LogRoom,
    StreamLimits,
    config_of,
    room_of,
    updated,
)
from shardy_common.log.types import Append, Outcome, Recorded
from shardy_common.wire import subjects

FOUND_MAX = 10_000
IN_USE = 10058  # a stream of this name is there
log = logging.getLogger("shardy.log")


class JetStreamLog:
    """Open with `await JetStreamLog.open(url, name=…)`; one per process."""

    def __init__(self, client: LogClient, stream: str) -> None:
        self.client = client
        self.stream = stream
        self.appender = Appender(client)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        name: str,
        user: str = "",
        password: str = "",
        stream: str = subjects.STREAM,
        replicas: int = 1,
        limits: StreamLimits | None = None,
    ) -> JetStreamLog:
        """Connect (waiting for the server as long as it takes) and make sure that the stream exists. limits: what it
        may hold; None: as it is, or the default for a new one."""
        while True:
            try:
                client = await connect(url, name=name, user=user, password=password)
                break
            except (NatsError, OSError):
                await asyncio.sleep(0.2)
        opened = cls(client, stream)
        await opened.appender.start()
        await opened._ensure_stream(replicas, limits)
        return opened

    async def append(self, items: Sequence[Append]) -> list[Outcome]:
        return await self.appender.append(items)

    def read(self, filters: Sequence[str], after: int) -> JetStreamReader:
        return JetStreamReader(self.client, self.stream, filters, after)

    async def last_seq(self) -> int:
        """Sequence of the newest event in the whole stream."""
        reply = await self.client.request(f"$JS.API.STREAM.INFO.{self.stream}", b"", timeout=5)
        return int(json.loads(reply.data)["state"]["last_seq"])

    async def get(self, seq: int) -> Recorded | None:
        """One event by its sequence; None when there is none."""
        message = await self._message({"seq": seq})
        if message is None:
            return None
        headers = base64.b64decode(message.get("hdrs", "")) or None
        at_ms = int(datetime.fromisoformat(message["time"][:19] + "+00:00").timestamp() * 1000)
        return recorded(message["subject"].encode(), seq, at_ms, base64.b64decode(message.get("data", "")), headers)

    async def find(self, subject: str, after: int, msg_id: str) -> int | None:
        """See EventLog. A subject has few messages; past FOUND_MAX of them it is given up."""
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
        reply = await self.client.request(f"$JS.API.STREAM.INFO.{self.stream}", b"", timeout=5)
        return room_of(json.loads(reply.data))

    async def _ensure_stream(self, replicas: int, limits: StreamLimits | None = None) -> None:
        managed = MANAGED if limits is not None else ()
        await self.make_stream(config_of(self.stream, replicas, limits or StreamLimits()), managed)

    async def make_stream(self, config: dict[str, Any], managed: tuple[str, ...] = ()) -> None:
        """Make a stream if it is missing, however long that takes; one that is there takes missing subjects, and the
        fields in `managed`."""
        while True:
            reply = await self._ask(f"STREAM.CREATE.{config['name']}", config)
            error = reply.get("error")
            if error is None:
                return
            if error.get("err_code") == IN_USE:  # it is there already, perhaps of an earlier version
                if await self._update(config, managed):
                    return
            elif error.get("err_code") in OUT_OF_STORAGE and config.get("max_bytes", 0) > BYTES_MIN:
                config = {**config, "max_bytes": max(config["max_bytes"] // 2, BYTES_MIN)}
                log.warning("nats-server has no room for so large a log: trying %d bytes", config["max_bytes"])
            elif error.get("code") == 503:
                await asyncio.sleep(0.2)
            else:
                raise RuntimeError(f"the log refused to make its stream: {error.get('description')}")

    async def _update(self, config: dict[str, Any], managed: tuple[str, ...]) -> bool:
        """Let a stream that an earlier version made, or other settings, be as this one. False: ask again."""
        have = (await self._ask(f"STREAM.INFO.{config['name']}")).get("config")
        if not have:
            return False
        wanted = updated(have, config, managed)
        if wanted is None:
            return True
        error = (await self._ask(f"STREAM.UPDATE.{config['name']}", wanted)).get("error")
        if error is not None and error.get("code") != 503 and wanted.get("subjects") == have.get("subjects"):
            log.warning("the log keeps its limits, others were refused: %s", error.get("description"))
            return True
        if error is not None and error.get("code") != 503:
            raise RuntimeError(f"the log refused new subjects in its stream: {error.get('description')}")
        return error is None

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
