"""A session's queue towards its worker: bounded in frames and in bytes, before it is open and after."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from shardy_gateway import session as sessions
from shardy_gateway.session import ABORT, CloseSession, Session


class Unread:
    """A socket whose peer takes nothing."""

    def __init__(self) -> None:
        self.cut = 0
        self.scope = {"extensions": {ABORT: self._abort}}
        self.freed = asyncio.Event()

    def _abort(self) -> None:
        self.cut += 1
        self.freed.set()

    async def send_bytes(self, _data: bytes) -> None:
        await self.freed.wait()
        raise RuntimeError("the connection is gone")

    async def close(self, _code: int, _reason: str = "") -> None:
        await self.freed.wait()


def session_of(socket: Any) -> Session:
    return Session(socket, "s", "w", "address", "agent", "token")


async def test_frames_and_bytes_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    few, large = session_of(Unread()), session_of(Unread())
    for _ in range(sessions.OUT_FRAMES_MAX):
        few.send({"t": "x"})
    assert few.closing is None
    few.send({"t": "x"})
    assert few.closing is not None and few.closing.code == 4408 and few._queued == sessions.OUT_FRAMES_MAX
    monkeypatch.setattr(sessions, "OUT_BYTES_MAX", 10_000)
    for _ in range(3):
        assert large.closing is None
        large.send({"t": "lease"}, [bytes(6_000)])
    assert large.closing is not None and large.closing.code == 4408 and "not being read" in large.closing.reason
    assert large._queued == 2


async def test_what_is_held_back_until_the_session_is_open_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "OUT_BYTES_MAX", 10_000)
    session = session_of(Unread())
    for _ in range(3):
        assert session.closing is None
        session.post({"t": "lease"}, [bytes(6_000)])
    assert session.closing is not None and session.closing.code == 1012


async def test_a_connection_that_takes_no_goodbye_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "GOODBYE_S", 0.01)
    socket = Unread()
    session = session_of(socket)
    session.send({"t": "x"})
    async with asyncio.timeout(30):
        while not session.sending_since:
            await asyncio.sleep(0.001)
        session.end(CloseSession(4408, sessions.UNREAD))
        await session.sent(patience_s=20)
    assert socket.cut == 1 and session._sender is None
    assert session_of(SimpleNamespace(scope={})).abort() is None, "a server that cannot cut is no reason to fail"


class Read(Unread):
    async def send_bytes(self, _data: bytes) -> None:
        pass

    async def close(self, _code: int, _reason: str = "") -> None:
        pass


async def test_who_was_said_goodbye_to_is_not_cut_before_it_reads_that(monkeypatch: pytest.MonkeyPatch) -> None:
    socket = Read()
    session = session_of(socket)
    session.close(CloseSession(4429, "too many frames"))
    await session.sent(patience_s=20)
    session.abort()
    assert session.said_goodbye and socket.cut == 0
