"""The log on NATS JetStream: one stream, made if it is missing, read and appended through one connection."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from nats.errors import Error as NatsError

from shardy_common.errors import Refused
from shardy_common.log.appender import Appender
from shardy_common.log.client import LogClient, connect, header_value
from shardy_common.log.clock import LogClock
from shardy_common.log.reader import JetStreamReader, recorded
from shardy_common.log.types import Append, Outcome, Recorded
from shardy_common.wire import subjects

FOUND_MAX = 10_000


class JetStreamLog:
    """Open with `await JetStreamLog.open(url, name=…)`; one per process."""

    def __init__(self, client: LogClient, stream: str) -> None:
        self.client = client
        self.stream = stream
        self.appender = Appender(client)
        self.clock = LogClock()

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
    ) -> JetStreamLog:
        """Connect (waiting for the server as long as it takes) and make sure that the stream exists."""
        while True:
            try:
                client = await connect(url, name=name, user=user, password=password)
                break
            except (NatsError, OSError):
                await asyncio.sleep(0.2)
        log = cls(client, stream)
        await log.appender.start()
        await log._ensure_stream(replicas)
        return log

    async def append(self, items: Sequence[Append]) -> list[Outcome]:
        return await self.appender.append(items)

    def read(self, filters: Sequence[str], after: int) -> JetStreamReader:
        return JetStreamReader(self.client, self.stream, filters, after, self.clock)

    def now_ms(self) -> int:
        """The time by the log's clock (log/clock.py), as far as this process has read; its own before that."""
        now_ms = self.clock.now_ms(time.monotonic())
        return time.time_ns() // 1_000_000 if now_ms is None else now_ms

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

    async def _ensure_stream(self, replicas: int) -> None:
        config = {
            "name": self.stream,
            "subjects": subjects.STREAM_SUBJECTS,
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "duplicate_window": int(120e9),
            "num_replicas": replicas,
            "allow_direct": True,
            "deny_delete": True,
            "max_msg_size": 1024 * 1024,
        }
        await self.make_stream(config)

    async def make_stream(self, config: dict[str, Any]) -> None:
        """Make a stream if it is missing, however long that takes; one that is there takes missing subjects."""
        while True:
            try:
                reply = await self.client.request(
                    f"$JS.API.STREAM.CREATE.{config['name']}", json.dumps(config).encode(), timeout=5
                )
            except (NatsError, TimeoutError, OSError):
                await asyncio.sleep(0.2)
                continue
            error = json.loads(reply.data).get("error")
            if error is None:
                return
            if error.get("err_code") == 10058:  # the name is in use: it is there already, perhaps of an earlier version
                if await self._widen(config):
                    return
                continue
            if error.get("code") == 503:
                await asyncio.sleep(0.2)
                continue
            raise RuntimeError(f"the log refused to make its stream: {error.get('description')}")

    async def _widen(self, config: dict[str, Any]) -> bool:
        """Let a stream that an earlier version made take the subjects that came since. False: ask again."""
        try:
            info = await self.client.request(f"$JS.API.STREAM.INFO.{config['name']}", b"", timeout=5)
            have = json.loads(info.data).get("config", {})
            if not set(config["subjects"]) - set(have.get("subjects", ())):
                return bool(have)
            wanted = {**have, "subjects": sorted({*have["subjects"], *config["subjects"]})}
            reply = await self.client.request(
                f"$JS.API.STREAM.UPDATE.{config['name']}", json.dumps(wanted).encode(), timeout=5
            )
        except (NatsError, TimeoutError, OSError):
            await asyncio.sleep(0.2)
            return False
        error = json.loads(reply.data).get("error")
        if error is not None and error.get("code") != 503:
            raise RuntimeError(f"the log refused new subjects in its stream: {error.get('description')}")
        return error is None
