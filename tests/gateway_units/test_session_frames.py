"""A session's frames on their way out: in order, bounded, and nothing kept running while there is nothing to send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shardy_common.wire import frame
from shardy_gateway.session import OUT_FRAMES_MAX, CloseSession, Session


class Socket:
    """What a session needs of a WebSocket. A shut one takes nothing until it is opened; a broken one raises."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False

    async def send_bytes(self, data: bytes) -> None:
        await self.open.wait()
        if self.broken:
            raise RuntimeError("the socket is gone")
        self.sent.append(frame.decode(data)[0])

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


def made() -> tuple[Socket, Session]:
    socket = Socket()
    return socket, Session(socket, "s1", "w1", "here", "agent", "")  # type: ignore[arg-type]


async def test_frames_leave_in_order_and_then_nothing_runs() -> None:
    socket, session = made()
    for round_ in range(3):
        for i in range(5):
            session.send({"t": "x", "i": 5 * round_ + i})
        await session.sent(1)
    assert [header["i"] for header in socket.sent] == list(range(15))
    assert len(asyncio.all_tasks()) == 1  # this test


async def test_frames_are_held_back_until_the_session_is_open() -> None:
    """The log may lend work in the same batch that gives the tier: what is posted early leaves after that, in order."""
    socket, session = made()
    session.post({"t": "lease", "n": 1}, [b"operand"])
    session.post({"t": "cancel", "n": 2})
    await session.sent(1)
    assert socket.sent == []
    session.open({"t": "tier"})
    session.post({"t": "lease", "n": 3})
    await session.sent(1)
    assert [header["t"] for header in socket.sent] == ["tier", "lease", "cancel", "lease"]
    assert socket.sent[1]["seg"] == [len(b"operand")]


async def test_what_was_queued_comes_before_the_goodbye_and_nothing_after_it() -> None:
    socket, session = made()
    session.send({"t": "ack"})
    session.close(CloseSession(4403, "why", 7))
    session.close(CloseSession(1012, "a later reason"))
    await session.sent(1)
    session.send({"t": "late"})
    await session.sent(1)
    assert socket.sent == [{"t": "ack"}, {"t": "bye", "code": 4403, "reason": "why", "retry_ms": 7}]
    assert socket.closed == (4403, "why")


async def test_an_idle_session_that_is_closed_says_goodbye() -> None:
    socket, session = made()
    session.send({"t": "x"})
    await session.sent(1)
    session.close(CloseSession(1000, "goodbye"))
    await session.sent(1)
    assert [header["t"] for header in socket.sent] == ["x", "bye"]


@pytest.mark.parametrize("beyond", [0, 1])
async def test_a_worker_that_does_not_read_is_closed_at_the_limit(beyond: int) -> None:
    socket, session = made()
    socket.open.clear()
    for i in range(OUT_FRAMES_MAX):
        session.send({"t": "x", "i": i})
        if i == 10:
            await asyncio.sleep(0)  # some are on their way by now: they count too
    if beyond:
        session.send({"t": "x", "i": OUT_FRAMES_MAX})
    assert (session.closing.code if session.closing else 0) == (4408 if beyond else 0)
    socket.open.set()
    await session.sent(5)
    assert [header["i"] for header in socket.sent if header["t"] == "x"] == list(range(OUT_FRAMES_MAX))


async def test_frames_that_were_sent_make_room_again() -> None:
    socket, session = made()
    for i in range(3 * OUT_FRAMES_MAX):
        session.send({"t": "x", "i": i})
        if i % OUT_FRAMES_MAX == OUT_FRAMES_MAX - 1:
            await session.sent(5)
    assert session.closing is None and len(socket.sent) == 3 * OUT_FRAMES_MAX


async def test_a_broken_socket_ends_the_sending_and_takes_no_more() -> None:
    socket, session = made()
    socket.broken = True
    session.send({"t": "x"})
    await session.sent(1)
    for _ in range(2 * OUT_FRAMES_MAX):
        session.send({"t": "y"})
    session.close(CloseSession(1000, "closed"))
    await session.sent(1)
    assert socket.sent == [] and socket.closed is None and len(asyncio.all_tasks()) == 1


async def test_waiting_for_a_worker_that_does_not_read_has_an_end() -> None:
    socket, session = made()
    socket.open.clear()
    session.send({"t": "x"})
    session.close(CloseSession(1000, "goodbye"))
    await session.sent(0.01)
    assert socket.sent == [] and len(asyncio.all_tasks()) == 1


async def test_what_was_uploaded_and_lent_is_known_and_an_idle_session_knows_nothing() -> None:
    _, session = made()
    assert session.uploaded("l1") is None and "d1" not in session.operands
    session.recorded("l1")
    session.uploads["l1"] = ("d1", 4)
    session.show("d1")
    assert session.uploaded("l1") == ("d1", 4) and "d1" in session.operands and "d2" not in session.operands
    session.recorded("l1")
    assert session.uploaded("l1") is None
    key = ("d1", 0, 8)
    assert [session.carry(key), session.carry(key), session.carry(("d1", 8, 8))] == [True, False, True]
