"""A job's statuses as they change: by server-sent events where the mesh's answers come through, else by asking."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from shardy_client.errors import MeshUnreachable, Refused
from shardy_client.transport import Http

FIRST_EVENT_S = 5.0  # the mesh sends one at once; a proxy that holds answers back does not let it through
SILENCE_S = 45.0  # the mesh says something every 15 s
BREAKS_MAX = 3  # streams in a row that ended without any event
POLL_S = 0.5
POLL_S_MAX = 2.0
EVENT_CHARS_MAX = 4 << 20

Status = dict[str, Any]


class NoStream(Exception):
    """Events don't come through here; ask instead."""


class EventParser:
    """Lines of an event stream in, (event, data) out."""

    def __init__(self) -> None:
        self._event, self._data, self._chars = "message", list[str](), 0

    def line(self, text: str) -> tuple[str, str] | None:
        """The event that this line ends, if it ends one."""
        if not text:
            found = (self._event, "\n".join(self._data)) if self._data else None
            self._event, self._data, self._chars = "message", [], 0
            return found
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        self._chars += len(value)
        if self._chars > EVENT_CHARS_MAX:
            raise NoStream
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        return None


async def statuses(http: Http, job_id: str, ask: Callable[[float], Awaitable[Status]]) -> AsyncGenerator[Status, None]:
    """The job's status at each change, without end. ask: its status, by a call that waits up to so many seconds."""
    breaks, poll_s = 0, POLL_S
    while True:
        if breaks < BREAKS_MAX and not http.streams.locked():
            async with http.streams:
                try:
                    async with aclosing(_events(http, f"/v1/jobs/{job_id}/events")) as events:
                        async for status in events:
                            breaks = 0
                            yield status
                    breaks += 1
                except MeshUnreachable:
                    breaks += 1
                except NoStream:
                    breaks = BREAKS_MAX
        else:
            yield await ask(poll_s)
            poll_s = min(poll_s * 1.25, POLL_S_MAX)


async def _events(http: Http, path: str) -> AsyncGenerator[Status, None]:
    parser = EventParser()
    try:
        async with http.stream(path, answer_s=SILENCE_S, headers={"Accept": "text/event-stream"}) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise NoStream
            lines = response.aiter_lines()
            limit_s = FIRST_EVENT_S
            while True:
                try:
                    # not wait_for: before Python 3.12 it may lose the caller's own cancellation
                    async with asyncio.timeout(limit_s):
                        text = await anext(lines)
                except StopAsyncIteration:
                    return
                found = parser.line(text)
                if found is not None and found[0] in ("progress", "end"):
                    limit_s = SILENCE_S
                    yield _status(found[1])
    except (Refused, TimeoutError):
        # Not there, or not yet on the gateway that answers now: asking tells which.
        raise NoStream from None


def _status(data: str) -> Status:
    try:
        status = json.loads(data)
    except ValueError:
        raise NoStream from None
    if not isinstance(status, dict) or not isinstance(status.get("state"), str):
        raise NoStream
    return status


async def followed(
    http: Http, path: str, after: int | None, params: dict[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    """Events of a stream whose ids are sequences, without end: a stream that breaks goes on after what was heard."""
    breaks = 0
    while True:
        parser, headers = EventParser(), {"Accept": "text/event-stream"}
        more = {} if after is None else {"after": after}
        try:
            async with http.stream(path, answer_s=SILENCE_S, headers=headers, params={**params, **more}) as response:
                lines = response.aiter_lines()
                while True:
                    async with asyncio.timeout(SILENCE_S):
                        text = await anext(lines)
                    found = parser.line(text)
                    if found is None:
                        continue
                    value = json.loads(found[1])
                    if found[0] == "error":
                        raise Refused(str(value.get("detail")))
                    breaks, after = 0, int(value["seq"])
                    yield value
        except (StopAsyncIteration, TimeoutError, ValueError):
            breaks += 1
        except MeshUnreachable:
            breaks += 1
            if breaks > BREAKS_MAX * len(http.urls):
                raise
        http.leave()
        await asyncio.sleep(min(0.2 * 2**breaks, POLL_S_MAX))
