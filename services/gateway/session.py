"""One joined worker's socket: its limits, what was sent to it, and a bounded queue of frames on their way out.

Thousands of workers are idle at any moment, so an idle session holds little: no task of its own (one sends while there
is something to send), no queue object, and what it remembers of leases only once there were some.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Container
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from shardy_common.wire import frame

FRAMES_PER_S = 2_000
FRAMES_BURST_S = 5
OUT_FRAMES_MAX, OUT_BYTES_MAX = 1_024, 32 * 1024 * 1024  # that wait for a worker to read
GOODBYE_S = 3.0  # for a last word, before the connection is cut
CARRIED_MAX = 8_192
SIGNED_WEIGHT = 4  # a result frame counts for so many: checking its signature costs more than reading it


UNREAD = "frames are not being read; reconnect"
ABORT = "shardy.abort"  # in the scope's extensions: cuts the connection (socket_head.py)


class CloseSession(Exception):
    """Close the socket. code and reason as docs/protocol.md §1.2."""

    def __init__(self, code: int, reason: str, retry_ms: int = 0) -> None:
        super().__init__(reason)
        self.code, self.reason, self.retry_ms = code, reason, retry_ms


class Session:
    __slots__ = (
        "_budget", "_budget_at", "_carried", "_early", "_early_bytes", "_gone", "_operands", "_out", "_out_bytes",
        "_queued", "_sender", "_uploads", "address", "agent", "announced", "closing", "held_back", "id", "joined_seq",
        "key", "said_goodbye", "seen", "sending_since", "socket", "tiered", "token", "worker",
    )  # fmt: skip

    def __init__(self, socket: WebSocket, session_id: str, worker: str, address: str, agent: str, token: str) -> None:
        self.socket, self.id, self.worker, self.address, self.agent = socket, session_id, worker, address, agent
        self.token = token
        self.key = b""  # the public key that it greeted with
        self.announced = False  # the log was told that it joined, so it must be told that it left
        self.tiered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.seen = time.monotonic()
        self.joined_seq = 0  # where its join stands in the log, once that has been read back
        self._carried: OrderedDict[tuple[str, int, int], None] | None = None
        self._operands: OrderedDict[str, None] | None = None
        self._uploads: dict[str, tuple[str, int]] | None = None
        self.closing: CloseSession | None = None
        self.said_goodbye = False  # the close is written: who reads it gets it
        self.held_back = False  # its frames are not being read: the log has to take its results first
        self.sending_since = 0.0  # when the frame was begun that is on its way out; 0: none is
        self._out_bytes = self._early_bytes = 0
        self._budget = float(FRAMES_PER_S * FRAMES_BURST_S)
        self._budget_at = time.monotonic()
        self._out: list[bytes] = []
        self._queued = 0  # frames in _out, and of those on their way
        self._sender: asyncio.Task[None] | None = None
        self._gone = False  # it was said goodbye to, or the socket broke
        self._early: list[tuple[dict[str, Any], list[bytes] | None]] | None = []

    @property
    def operands(self) -> Container[str]:
        """Blobs that its leases named: what it may fetch."""
        return self._operands or ()

    @property
    def uploads(self) -> dict[str, tuple[str, int]]:
        """Lease → (digest, size) of an uploaded result."""
        if self._uploads is None:
            self._uploads = {}
        return self._uploads

    def uploaded(self, lease: str) -> tuple[str, int] | None:
        return self._uploads.get(lease) if self._uploads else None

    def recorded(self, lease: str) -> None:
        """Its result is in the log: the upload need not be known any more."""
        if self._uploads:
            self._uploads.pop(lease, None)

    async def receive(self) -> tuple[dict[str, Any], list[memoryview]]:
        """The next frame. CloseSession when it breaks a rule."""
        message = await self.socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        data = message.get("bytes")
        if data is None:
            raise CloseSession(4400, "only binary frames are spoken here (docs/protocol.md §1.1)")
        now = time.monotonic()
        self.seen = now
        self._budget = min(FRAMES_PER_S * FRAMES_BURST_S, self._budget + (now - self._budget_at) * FRAMES_PER_S) - 1
        self._budget_at = now
        self._afford(0)
        try:
            header, segments = frame.decode(data)
        except frame.FrameError as error:
            raise CloseSession(4413 if "at most" in str(error) else 4400, str(error)) from None
        if not isinstance(header.get("t"), str):
            raise CloseSession(4400, "the header has no frame type t")
        if header["t"] == "result":
            self._afford(SIGNED_WEIGHT - 1)
        await asyncio.sleep(0)  # frames that wait already must not keep others from their turn
        return header, segments

    def _afford(self, weight: int) -> None:
        self._budget -= weight
        if self._budget < 0:
            raise CloseSession(
                4429,
                f"more than {FRAMES_PER_S} frames a second, result frames counted {SIGNED_WEIGHT} times; "
                "put more results in a frame",
                30_000,
            )

    def show(self, digest: str) -> None:
        """A lease names this blob."""
        if self._operands is None:
            self._operands = OrderedDict()
        self._operands[digest] = None
        self._operands.move_to_end(digest)
        while len(self._operands) > CARRIED_MAX:
            self._operands.popitem(last=False)

    def send(self, header: dict[str, Any], segments: list[bytes] | None = None) -> None:
        """Queue a frame. A worker that does not read is closed rather than buffered for."""
        if self._gone:
            return
        data = frame.encode(header, segments or ())
        if self._queued >= OUT_FRAMES_MAX or self._out_bytes > OUT_BYTES_MAX:
            self.close(CloseSession(4408, UNREAD, 1_000))
            return
        self._out_bytes += len(data)
        self._out.append(data)
        self._queued += 1
        self._stir()

    def open(self, tier: dict[str, Any]) -> None:
        """Send the tier frame, and after it whatever was posted before: the log may lend work to a worker in the same
        batch that gives it its tier, and a worker takes a lease before its tier as a breach of the protocol."""
        self.send(tier)
        early, self._early, self._early_bytes = self._early or [], None, 0
        for header, segments in early:
            self.send(header, segments)

    def post(self, header: dict[str, Any], segments: list[bytes] | None = None) -> None:
        """Queue a frame for a joined worker; held back until the session is open."""
        if self._early is None:
            self.send(header, segments)
        elif len(self._early) >= OUT_FRAMES_MAX or self._early_bytes > OUT_BYTES_MAX:
            self.close(CloseSession(1012, "the mesh was too fast; reconnect", 1_000))
        else:
            self._early_bytes += sum(map(len, segments or ()))
            self._early.append((header, segments))

    def close(self, why: CloseSession) -> None:
        """Say goodbye once what is queued has been sent, and close the socket. The first reason counts."""
        if self.closing is None:
            self.closing = why
            self._stir()

    def _stir(self) -> None:
        if self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send_queued())

    async def _send_queued(self) -> None:
        """Send what there is, then end: an idle session keeps no task."""
        try:
            while self._out and not self._gone:
                frames, self._out = self._out, []
                for data in frames:
                    await self._write(data)
                    self._queued -= 1
            why = self.closing
            if why is not None and not self._gone:
                self._gone = True
                bye = {"t": "bye", "code": why.code, "reason": why.reason, "retry_ms": why.retry_ms}
                await self.socket.send_bytes(frame.encode(bye))
                await self.socket.close(why.code, why.reason[:120])
                self.said_goodbye = True
        except Exception:  # the socket broke: whoever reads from it hears of that too, and ends the session
            self._gone = True
            self._out.clear()
        finally:
            self._sender = None

    async def sent(self, patience_s: float) -> None:
        """Until everything is sent, the goodbye too, at most so long."""
        if self._sender is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._sender, patience_s)

    async def _write(self, data: bytes) -> None:
        self.sending_since = time.monotonic()
        await self.socket.send_bytes(data)
        self.sending_since = 0.0
        self._out_bytes -= len(data)

    def abort(self) -> None:
        """Cut the connection if the goodbye got nowhere: a peer that does not read would hold it, and what was written
        for it, for ever. One that was said goodbye to would lose that, if it were cut before it reads on."""
        if self.said_goodbye:
            return
        cut = self.socket.scope.get("extensions", {}).get(ABORT)
        if cut is not None:
            cut()

    def end(self, why: CloseSession) -> None:
        """Close, and cut the connection if the goodbye gets nowhere."""
        self.close(why)
        asyncio.get_running_loop().call_later(GOODBYE_S, self.abort)

    def carry(self, key: tuple[str, int, int]) -> bool:
        """Whether these operand bytes must travel with the lease: True the first time, then the worker has them."""
        if self._carried is None:
            self._carried = OrderedDict()
        if key in self._carried:
            self._carried.move_to_end(key)
            return False
        self._carried[key] = None
        if len(self._carried) > CARRIED_MAX:
            self._carried.popitem(last=False)
        return True
