"""Who was told to the log as joined is told as left, however the session ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shardy_common.log import MemoryLog
from shardy_common.wire import events as ev
from shardy_gateway import join
from shardy_gateway.session import CloseSession, Session

JOINED = ev.WorkerJoined("w1", "s1", "gateway", "g1", "10.0.0.1", "x", "00" * 32, ev.Probe(1.0, 0.0, 256, "wasm"))


class Socket:
    """A WebSocket whose other side takes everything."""

    async def send_bytes(self, _: bytes) -> None: ...

    async def close(self, code: int = 1000, reason: str = "") -> None: ...


def door(log: MemoryLog) -> join.Door:
    hub = SimpleNamespace(sessions={}, remember=lambda session, held: None)
    refusals = SimpleNamespace(socket=lambda *_: None)
    nobody: Any = None
    return join.Door(nobody, hub, log, nobody, nobody, nobody, refusals)  # type: ignore[arg-type]


async def test_a_worker_whose_tier_never_came_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "HANDSHAKE_S", 0.05)
    log = MemoryLog(lambda: 1_000)
    session = Session(Socket(), "s1", "w1", "10.0.0.1", "x", "")  # type: ignore[arg-type]
    at = door(log)
    with pytest.raises(CloseSession, match="no tier") as why:
        await at._admit(session, JOINED)
    session.close(why.value)
    await at._leave(session)
    assert [type(recorded.event) for recorded in log.events] == [ev.WorkerJoined, ev.WorkerLeft]
    assert not at.hub.sessions


async def test_who_never_joined_has_not_left() -> None:
    log = MemoryLog(lambda: 1_000)
    session = Session(Socket(), "s1", "", "10.0.0.1", "", "")  # type: ignore[arg-type]
    await door(log)._leave(session)
    assert log.events == []
