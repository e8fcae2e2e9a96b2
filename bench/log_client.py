"""Many idle workers in one process: real keys, real handshakes, heartbeats, and next to nothing kept for each.

`python -m bench.log_client URL COUNT RATE` joins COUNT workers, at most RATE a second, prints a line when all are in,
keeps their heartbeats, and leaves at the end of its input. The WebSocket is spoken by hand (RFC 6455): a library's
connection costs more memory than what is to be measured.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import resource
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shardy_common.engine import Engine
from shardy_common.wire import frame

HEARTBEAT_S = 15.0
TAG = b"shardy-join-v1\x00"
_pack = msgspec.msgpack.encode
OPCODE_BINARY, OPCODE_CLOSE, OPCODE_PING, OPCODE_PONG = 2, 8, 9, 10


class Prober:
    """Answers of probes; one that was asked for again is known."""

    def __init__(self) -> None:
        self._engine = Engine()
        self._known: dict[bytes, bytes] = {}
        self.computed = 0

    def answer(self, probe: dict) -> bytes:
        seed = probe["seed"]
        known = self._known.get(seed)
        if known is None:
            self.computed += 1
            known = self._engine.probe(seed, probe["m"], probe["n"], probe["k"], probe["rounds"])
            self._known[seed] = known
            while len(self._known) > 64:
                self._known.pop(next(iter(self._known)))
        return known


class IdleWorker(asyncio.Protocol):
    """joined: called once with an empty string, or with why it did not come to that."""

    __slots__ = ("_data", "_host", "_joined", "_key", "_open", "_prober", "_transport")

    def __init__(self, host: str, prober: Prober, joined: Callable[[str], None]) -> None:
        self._host, self._prober, self._joined = host, prober, joined
        self._key: Ed25519PrivateKey | None = Ed25519PrivateKey.generate()
        self._data = b""
        self._open = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        nonce = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /ws/worker-join HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, _: Exception | None) -> None:
        self._end("the connection was lost")

    def data_received(self, data: bytes) -> None:
        data = self._data + data
        if not self._open:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._data = head
                return
            if b" 101 " not in head[:20]:
                self._end(head[:200].decode(errors="replace"))
                return
            self._open = True
            public = self._key.public_key().public_bytes_raw()  # type: ignore[union-attr]
            self.send({"t": "hello", "versions": [2], "key": public, "agent": "idle", "held": []})
        while len(data) >= 2:
            opcode, size, at = data[0] & 15, data[1] & 127, 2
            if size == 126:
                size, at = struct.unpack_from(">H", data, 2)[0], 4
            elif size == 127:
                size, at = struct.unpack_from(">Q", data, 2)[0], 10
            if len(data) < at + size:
                break
            payload, data = data[at : at + size], data[at + size :]
            if opcode == OPCODE_BINARY:
                self._frame(frame.decode(payload)[0])
            elif opcode == OPCODE_PING:
                self._write(OPCODE_PONG, payload)
            elif opcode == OPCODE_CLOSE:
                self._end(f"closed: {payload[2:].decode(errors='replace')}")
                self._transport.close()
        self._data = data

    def _frame(self, header: dict) -> None:
        kind = header["t"]
        if kind == "challenge":
            assert self._key is not None
            public = self._key.public_key().public_bytes_raw()
            signature = self._key.sign(TAG + header["nonce"] + public + header["session"].encode())
            self._key = None
            self.send({"t": "auth", "sig": signature})
        elif kind == "probe":
            measured = {"ms": 1.0, "gops": 10.0, "memory_mib": 512, "backend": "wasm", "gpu": None}
            digest = self._prober.answer(header)
            self.send({"t": "probed", "digest": digest, **measured, "engine": "0" * 64, "kernels": ""})
        elif kind in ("tier", "hello"):  # an echo of its own greeting counts as joined, for the peer
            self._end("")
        elif kind == "bye":
            self._end(header["reason"])

    def _end(self, why: str) -> None:
        joined, self._joined = self._joined, _nothing
        joined(why)

    def send(self, header: dict) -> None:
        self._write(OPCODE_BINARY, frame.encode(header, ()))

    def _write(self, opcode: int, payload: bytes) -> None:
        """One masked frame, with the mask that changes nothing."""
        size = len(payload)
        head = bytes((128 | opcode, 128 | size)) if size < 126 else struct.pack(">BBH", 128 | opcode, 254, size)
        if not self._transport.is_closing():
            self._transport.write(head + b"\0\0\0\0" + payload)


def _nothing(_: str) -> None:
    return None


async def idle(url: str, count: int, per_s: float) -> None:
    loop, prober = asyncio.get_running_loop(), Prober()
    where = urlsplit(url)
    workers: deque[IdleWorker] = deque()
    failed: dict[str, int] = {}
    slots = asyncio.Semaphore(200)

    async def join() -> None:
        async with slots:
            ended: asyncio.Future[str] = loop.create_future()

            def joined(why: str) -> None:
                if not ended.done():
                    ended.set_result(why)

            try:
                _, worker = await loop.create_connection(
                    lambda: IdleWorker(where.netloc, prober, joined), where.hostname, where.port
                )
            except OSError as error:
                failed[str(error)] = failed.get(str(error), 0) + 1
                return
            why = await ended
            if why:
                failed[why] = failed.get(why, 0) + 1
            else:
                workers.append(worker)

    async def beat() -> None:
        """All heartbeats, spread evenly, from one task."""
        at = 0.0
        while True:
            await asyncio.sleep(0.25)
            at += max(len(workers), 1) * 0.25 / HEARTBEAT_S
            some, at = int(at), at - int(at)
            for _ in range(min(some, len(workers))):
                worker = workers.popleft()
                worker.send({"t": "heartbeat"})
                workers.append(worker)

    started, beating = time.perf_counter(), asyncio.create_task(beat())
    tasks = []
    for i in range(count):
        tasks.append(asyncio.create_task(join()))
        ahead = i / per_s - (time.perf_counter() - started)
        if ahead > 0:
            await asyncio.sleep(ahead)
    await asyncio.gather(*tasks)
    seconds = time.perf_counter() - started
    print(json.dumps({"joined": len(workers), "failed": failed, "s": seconds, "probes": prober.computed}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    beating.cancel()
    for worker in workers:
        with contextlib.suppress(Exception):
            worker.send({"t": "leave"})
    await asyncio.sleep(0.2)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    import uvloop

    uvloop.run(idle(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
