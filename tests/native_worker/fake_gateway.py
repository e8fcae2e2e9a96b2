"""A gateway for one test: it speaks docs/protocol.md strictly, checks every frame, and knows the right bytes.

Anything a worker does against the protocol is written to `violations`; a test ends by asserting that it is empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import uvicorn
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from shardy_common.wire import frame

CARRIED_MAX = 256 * 1024


class Session:
    """One connection: sends what a test asks for, keeps what the worker said."""

    def __init__(self, gateway: FakeGateway, socket: WebSocket, key: bytes, hello: dict[str, Any]) -> None:
        self.gateway, self.socket, self.key, self.hello = gateway, socket, key, hello
        self.id = os.urandom(6).hex()
        self.token = os.urandom(12).hex()
        self.probed: dict[str, Any] = {}
        self.heartbeats = 0
        self.frames = 0
        self.result_frames = 0
        self.left = False
        self.close_code: int | None = None  # with which the worker closed the socket
        self._budget, self._paid_at = 10_000.0, time.monotonic()
        self.closed = asyncio.Event()

    def pay(self, weight: int) -> None:
        """2,000 frames a second, averaged over 5 s (§1.2)."""
        now = time.monotonic()
        self._budget = min(10_000.0, self._budget + (now - self._paid_at) * 2_000) - weight
        self._paid_at = now
        if self._budget < 0:
            self.gateway.broken("too many frames")

    async def send(self, header: dict[str, Any], segments: tuple[bytes, ...] = ()) -> None:
        await self.socket.send_bytes(frame.encode(header, segments))

    async def lease(self, leases: list[dict[str, Any]], carried: list[tuple[str, int, bytes]] = []) -> None:  # noqa: B006
        """carried: digest, offset and bytes of operands that travel with the leases."""
        carry = [[digest, offset, len(data), i] for i, (digest, offset, data) in enumerate(carried)]
        for lease in leases:
            self.gateway.leases[lease["lease"]] = lease
        await self.send({"t": "lease", "leases": leases, "carry": carry}, tuple(c[2] for c in carried))

    async def prove(self, asked: dict[str, Any]) -> None:
        """asked: a `prove` frame without its type."""
        self.gateway.asked[asked["lease"]] = asked
        await self.send({"t": "prove", **asked})

    async def close(self, code: int, reason: str = "") -> None:
        await self.socket.close(code, reason)


class FakeGateway:
    """Use as `async with FakeGateway() as gateway:`; `gateway.url` is its address."""

    def __init__(self, *, ack: bool = True, check: bool = True, heartbeat_s: float = 15, memory_mib: int = 256) -> None:
        self.ack, self.check = ack, check
        self.heartbeat_s, self.memory_mib = heartbeat_s, memory_mib
        self.blobs: dict[str, bytes] = {}
        self.leases: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, bytes] = {}
        self.results: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, Any]] = {}
        self.times_seen: dict[str, int] = {}
        self.failed: dict[str, dict[str, Any]] = {}
        self.asked: dict[str, dict[str, Any]] = {}  # what is to be proved, by lease
        self.proofs: dict[str, list[bytes]] = {}  # each time that they came
        self.violations: list[str] = []
        self.fetches: list[tuple[str, str]] = []
        self.sessions: list[Session] = []
        self.on_joined: Callable[[Session], Any] | None = None
        self.before_challenge: Callable[[WebSocket], Any] | None = None
        self.fetch_faults = 0
        self.credit: dict[str, int] | None = None
        self.changed = asyncio.Condition()

    async def __aenter__(self) -> FakeGateway:
        app = Starlette(
            routes=[
                WebSocketRoute("/ws/worker-join", self._join),
                Route("/v1/worker/blobs/{digest}", self._blob, methods=["GET"]),
                Route("/v1/worker/results/{lease}", self._upload, methods=["PUT"]),
            ]
        )
        config = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            log_level="error",
            ws="websockets-sansio",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        config.ws_per_message_deflate = False
        config.ws_ping_interval = None  # type: ignore[assignment]
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined, method-assign]
        self._task = asyncio.create_task(self._server._serve())
        while not self._server.started:
            await asyncio.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self.sessions:
            with contextlib.suppress(Exception):
                await session.close(1001)
        self._server.should_exit = True
        await self._task

    def put(self, array: np.ndarray) -> str:
        """Store an array's bytes; their digest."""
        data = array.tobytes()
        digest = blake3(data).hexdigest()
        self.blobs[digest] = data
        return digest

    async def until(self, true: Callable[[], bool], seconds: float = 20) -> None:
        """Wait until something came that makes `true` true."""

        async def wait() -> None:
            async with self.changed:
                await self.changed.wait_for(true)

        await asyncio.wait_for(wait(), seconds)

    async def notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def broken(self, rule: str) -> None:
        self.violations.append(rule)

    # --- the socket -----------------------------------------------------------------------------------------

    async def _join(self, socket: WebSocket) -> None:
        await socket.accept()
        if self.before_challenge is not None:
            await self.before_challenge(socket)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            hello, _ = await self._recv(socket)
            key = hello.get("key")
            if hello.get("t") != "hello" or not isinstance(key, bytes) or len(key) != 32 or hello["versions"] != [2]:
                self.broken(f"hello: {hello}")
                return
            session = Session(self, socket, key, hello)
            self.sessions.append(session)
            try:
                await self._session(session)
            except WebSocketDisconnect as gone:
                session.close_code = gone.code
            finally:
                session.closed.set()
                await self.notify()

    async def _recv(self, socket: WebSocket) -> tuple[dict[str, Any], list[memoryview]]:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        if message.get("bytes") is None:
            self.broken("a text message")
            raise WebSocketDisconnect
        return frame.decode(message["bytes"])

    async def _session(self, session: Session) -> None:
        nonce, seed = os.urandom(32), os.urandom(32)
        await session.send({"t": "challenge", "version": 2, "nonce": nonce, "session": session.id, "mesh": "test"})
        auth, _ = await self._recv(session.socket)
        signed = b"shardy-join-v1\x00" + nonce + session.key + session.id.encode()
        try:
            Ed25519PublicKey.from_public_bytes(session.key).verify(auth["sig"], signed)
        except InvalidSignature:
            self.broken("signature")
            await session.close(4401, "signature")
            return
        sizes = {"m": 33, "n": 17, "k": 100, "rounds": 3}
        await session.send({"t": "probe", "seed": seed, "memory_mib_max": self.memory_mib, **sizes})
        session.probed, _ = await self._recv(session.socket)
        if session.probed.get("t") != "probed" or session.probed["digest"] != oracle.probe(seed, **sizes):
            self.broken(f"probe: {session.probed}")
            await session.close(4401, "probe")
            return
        if not 0 <= session.probed.get("proves_mib", 0) <= session.probed["memory_mib"]:
            self.broken(f"probed.proves_mib is {session.probed['proves_mib']!r}")
        for name, kind in (("ms", float), ("gops", float), ("memory_mib", int), ("backend", str), ("engine", str)):
            if not isinstance(session.probed.get(name), kind):
                self.broken(f"probed.{name} is {session.probed.get(name)!r}")
        tier = {"tier": "test", "max_leases": 64, "token": session.token, "session": session.id}
        await session.send({"t": "tier", **tier, "heartbeat_s": self.heartbeat_s})
        if self.on_joined is not None:
            asyncio.get_running_loop().create_task(self.on_joined(session))
        await self.notify()
        while True:
            header, segments = await self._recv(session.socket)
            session.frames += 1
            name = header.get("t")
            session.pay(4 if name == "result" else 1)
            if name == "result":
                if not self._signed(session, header):
                    self.broken(f"a signature of {len(header['results'])} results")
                    await session.close(4401, "signature of results")
                    return
                await self._take(session, header["results"], segments)
            elif name == "proof":
                await self._take_proofs(session, header, segments)
            elif name == "failed":
                self.failed[header["lease"]] = header
            elif name == "heartbeat":
                session.heartbeats += 1
                credit = {} if self.credit is None else {"credit": self.credit}
                # Where the worker is closing, what it says with that comes next.
                with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                    await session.send({"t": "heartbeat", **credit})
            elif name == "leave":
                session.left = True
                await session.send({"t": "bye", "code": 1000, "reason": "as you wish", "retry_ms": 0})
            else:
                self.broken(f"frame type {name!r}")
            await self.notify()

    def _signed(self, session: Session, header: dict[str, Any]) -> bool:
        """Whether the worker answers for this frame's results with its key (§5.1)."""
        signature = header.get("sig")
        if not isinstance(signature, bytes) or len(signature) != 64:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(session.key).verify(signature, oracle.signed(header["results"]))
        except InvalidSignature:
            return False
        return True

    async def _take(self, session: Session, results: list[dict[str, Any]], segments: list[memoryview]) -> None:
        session.result_frames += 1
        if len(results) > 512:
            self.broken(f"{len(results)} results in a frame")
        acks = []
        for result in results:
            lease = result["lease"]
            self.times_seen[lease] = self.times_seen.get(lease, 0) + 1
            index = result["s"]
            if index is None:
                data = self.uploads.get(lease, b"")
            else:
                data = bytes(segments[index])
                if len(data) > CARRIED_MAX:
                    self.broken(f"{len(data)} bytes carried")
            if lease not in self.leases:
                acks.append([lease, "unknown"])
                continue
            if self.check and (len(data) != result["len"] or blake3(data).digest() != result["digest"]):
                self.broken(f"{lease}: bytes, length and digest do not fit")
            self.results[lease], self.headers[lease] = data, result
            acks.append([lease, "accepted"])
        if self.ack:
            await session.send({"t": "ack", "acks": acks})

    async def _take_proofs(self, session: Session, header: dict[str, Any], segments: list[memoryview]) -> None:
        """256 bytes for each tile that was asked for (§8)."""
        lease = header["lease"]
        data = bytes(segments[header["s"]])
        if lease not in self.asked or len(data) != 256 * len(self.asked[lease]["tiles"]):
            self.broken(f"{len(data)} bytes of proofs for {lease}")
        if not isinstance(header["ms"], float) or not isinstance(header["backend"], str):
            self.broken(f"proof: {header}")
        self.proofs.setdefault(lease, []).append(data)
        if self.ack:
            await session.send({"t": "ack", "acks": [[lease, "accepted"]]})

    # --- HTTP -----------------------------------------------------------------------------------------------

    def _authorised(self, request: Request) -> bool:
        known = {f"Bearer {session.token}" for session in self.sessions}
        return request.headers.get("authorization") in known

    async def _blob(self, request: Request) -> Response:
        if not self._authorised(request):
            self.broken("fetch without a token")
            return Response(status_code=401)
        if self.fetch_faults > 0:
            self.fetch_faults -= 1
            return Response(status_code=503)
        data = self.blobs.get(request.path_params["digest"])
        if data is None:
            return Response(status_code=404)
        wanted = request.headers.get("range", "")
        if not wanted:
            self.fetches.append((request.path_params["digest"], "whole"))
            return Response(data, media_type="application/octet-stream")
        self.fetches.append((request.path_params["digest"], wanted))
        first, last = (int(x) for x in wanted.removeprefix("bytes=").split("-"))
        headers = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return Response(data[first : last + 1], 206, headers, media_type="application/octet-stream")

    async def _upload(self, request: Request) -> Response:
        if not self._authorised(request):
            self.broken("upload without a token")
            return Response(status_code=401)
        lease = request.path_params["lease"]
        if lease not in self.leases:
            return Response(status_code=404)
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
        if len(data) <= CARRIED_MAX:
            self.broken(f"{len(data)} bytes uploaded that fit a frame")
        self.uploads[lease] = bytes(data)
        return JSONResponse({"digest": blake3(data).hexdigest(), "bytes": len(data)}, 201)


class ScriptGateway(FakeGateway):
    """For workers in JavaScript: a whole float may come as an integer (§1.1), which that language can't tell apart."""

    async def _recv(self, socket: WebSocket) -> tuple[dict[str, Any], list[memoryview]]:
        header, segments = await super()._recv(socket)
        for name in ("ms", "gops"):
            if type(header.get(name)) is int:
                header[name] = float(header[name])
        return header, segments


def operand(digest: str, offset: int, length: int, rows: int, cols: int) -> dict[str, Any]:
    """An operand map of §3."""
    return {"d": digest, "o": offset, "l": length, "r": rows, "c": cols}


def lease(
    name: str, p: dict[str, Any], kind: str = "matmul", job: str = "j1", deadline_ms: int = 60_000
) -> dict[str, Any]:
    """A lease map of §3."""
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    return {
        "lease": name,
        "task": f"t-{name}",
        "job": job,
        "kind": kind,
        "deadline_ms": deadline_ms,
        "p": p,
        "trace": trace,
    }
