"""A worker written from docs/protocol.md alone, so that it can also break every rule of it.

It shares no code with the native worker or with the mesh's own frame module: only a MessagePack codec is borrowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from types import TracebackType
from typing import Any

import httpx
import msgspec
import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from shardy_common.engine import reference
from shardy_common.stack import Stack

Header = dict[str, Any]
TAG = b"shardy-join-v1\x00"
RESULTS_TAG = b"shardy-results-v2\0"
ANSWER_S = 60.0


class Closed(Exception):
    """The mesh closed the socket."""

    def __init__(self, code: int, reason: str, bye: Header | None) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason, self.bye = code, reason, bye


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def frame(header: Header | bytes, segments: tuple[bytes, ...] = ()) -> bytes:
    """§1.1. A header given as bytes travels as it is."""
    if isinstance(header, dict):
        header = msgspec.msgpack.encode({**header, "seg": [len(s) for s in segments]} if segments else header)
    return pad(b"SHY1" + struct.pack("<I", len(header)) + header) + b"".join(pad(s) for s in segments)


def unframe(data: bytes) -> tuple[Header, list[bytes]]:
    assert data[:4] == b"SHY1"
    (size,) = struct.unpack_from("<I", data, 4)
    header = msgspec.msgpack.decode(data[8 : 8 + size])
    at, segments = -(-(8 + size) // 8) * 8, []
    for length in header.get("seg", []):
        segments.append(data[at : at + length])
        at += -(-length // 8) * 8
    assert at == len(data)
    return header, segments


def leaf_of(result: Header) -> bytes:
    """§5.1: lease, digest and length."""
    words = b"\0shardy-result-v2\0" + result["lease"].encode() + b"\0" + result["digest"]
    return blake3(words + struct.pack("<Q", result["len"])).digest()


def tree(leaves: list[bytes]) -> bytes:
    """RFC 9162 §2.1, as it is written there."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return blake3(b"\1" + tree(leaves[:half]) + tree(leaves[half:])).digest()


class RawWorker:
    """`async with RawWorker(stack) as raw: await raw.join()`."""

    def __init__(self, stack: Stack, name: str = "raw", key: Ed25519PrivateKey | None = None) -> None:
        self.stack, self.name = stack, name
        self.held: list[str] = []
        self.key = key or Ed25519PrivateKey.generate()
        self.public = self.key.public_key().public_bytes_raw()
        self.leases: dict[str, Header] = {}
        self.carried: dict[tuple[str, int, int], bytes] = {}
        self.token = ""
        self.bye: Header | None = None
        self.socket: ClientConnection

    async def __aenter__(self) -> RawWorker:
        url = self.stack.url.replace("http", "ws", 1) + "/ws/worker-join"
        self.socket = await connect(url, compression=None, max_size=None, open_timeout=ANSWER_S, ping_interval=None)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.socket.close()

    # -- frames -------------------------------------------------------------------------------------------------------

    async def send(self, header: Header | bytes, segments: tuple[bytes, ...] = ()) -> None:
        await self.raw(frame(header, segments))

    async def raw(self, message: bytes | str) -> None:
        """A message as it is. One that the mesh no longer takes is no matter: the close code tells."""
        with contextlib.suppress(ConnectionClosed):
            await self.socket.send(message)

    async def receive(self, *kinds: str) -> Header:
        """The next frame of one of these types (any, if none are named). Closed when there is none."""
        while True:
            try:
                async with asyncio.timeout(ANSWER_S):  # unlike wait_for, it never loses the caller's cancelling
                    message = await self.socket.recv(decode=False)
            except ConnectionClosed as closed:
                got = closed.rcvd
                raise Closed(got.code if got else 1006, got.reason if got else "", self.bye) from None
            header, segments = unframe(message)
            if header["t"] == "lease":
                for digest, offset, length, index in header["carry"]:
                    assert len(segments[index]) == length
                    self.carried[digest, offset, length] = segments[index]
                self.leases.update({lease["lease"]: lease for lease in header["leases"]})
            elif header["t"] == "bye":
                self.bye = header
            if not kinds or header["t"] in kinds:
                return header

    async def closed(self) -> Closed:
        """How the mesh closed the socket."""
        try:
            while True:
                await self.receive()
        except Closed as closed:
            return closed

    # -- joining ------------------------------------------------------------------------------------------------------

    async def hello(self, **tamper: Any) -> Header:
        await self.send(
            {"t": "hello", "versions": [2], "key": self.public, "agent": self.name, "held": self.held, **tamper}
        )
        return await self.receive()

    def sign(self, challenge: Header) -> bytes:
        return self.key.sign(TAG + challenge["nonce"] + self.public + challenge["session"].encode())

    async def challenged(self) -> Header:
        """Greet and sign; the probe."""
        await self.send({"t": "auth", "sig": self.sign(await self.hello())})
        return await self.receive()

    def answer(self, probe: Header) -> Header:
        """A right `probed` frame. Sums of 512 products of int8 are exact in float32, so a float product serves."""
        seed, m, n, k = probe["seed"], probe["m"], probe["n"], probe["k"]
        for _ in range(probe["rounds"]):
            a = np.frombuffer(blake3(seed + b"A").digest(m * k), np.int8).reshape(m, k).astype(np.float64)
            b = np.frombuffer(blake3(seed + b"B").digest(n * k), np.int8).reshape(n, k).astype(np.float64)
            seed = blake3((a @ b.T).astype("<i4").tobytes()).digest()
        measured = {"ms": 1.0, "gops": 10.0, "memory_mib": 512, "backend": "wasm", "gpu": None}
        return {"t": "probed", "digest": seed, **measured, "engine": "0" * 64, "kernels": ""}

    async def join(self, **tamper: Any) -> Header:
        """The whole handshake; the tier frame. tamper: other values in `probed`."""
        await self.send({**self.answer(await self.challenged()), **tamper})
        tier = await self.receive()
        assert tier["t"] == "tier", tier
        self.token = tier["token"]
        return tier

    async def leave(self) -> None:
        await self.send({"t": "leave"})
        assert (await self.closed()).code == 1000

    # -- work ---------------------------------------------------------------------------------------------------------

    async def lease_of(self, job: str) -> Header:
        """A lease of this job, once one is here."""
        while True:
            for lease in self.leases.values():
                if lease["job"] == job:
                    return lease
            await self.receive("lease")

    async def operand(self, named: Header) -> bytes:
        """Carried bytes, or fetched ones."""
        carried = self.carried.get((named["d"], named["o"], named["l"]))
        if carried is not None:
            return carried
        async with self.http() as http:
            end = named["o"] + named["l"] - 1
            answer = await http.get(f"/v1/worker/blobs/{named['d']}", headers={"Range": f"bytes={named['o']}-{end}"})
            assert answer.status_code == 206 and len(answer.content) == named["l"]
            return answer.content

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.stack.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=ANSWER_S
        )

    async def compute(self, lease: Header) -> bytes:
        """Right result bytes of an int8 `matmul` lease."""
        p = lease["p"]
        a = np.frombuffer(await self.operand(p["a"]), np.int8).reshape(p["a"]["r"], p["k"])
        b = np.frombuffer(await self.operand(p["b"]), np.int8).reshape(p["b"]["r"], p["k"])
        return reference.matmul_i8(a, b).astype("<i4").tobytes()

    def sign_results(self, results: list[Header]) -> bytes:
        """§5.1: over the root of the frame's results."""
        return self.key.sign(RESULTS_TAG + tree([leaf_of(result) for result in results]))

    async def result(self, lease: Header, data: bytes, **tamper: Any) -> str:
        """Hand in a result; the outcome in the ack."""
        entry = {
            "lease": lease["lease"],
            "task": lease["task"],
            "digest": blake3(data).digest(),
            "len": len(data),
            "s": 0,
            "ms": 1.0,
            "backend": "wasm",
            "spans": {"compute": 1.0},
            **tamper,
        }
        await self.send({"t": "result", "results": [entry], "sig": self.sign_results([entry])}, (data,))
        acks = (await self.receive("ack"))["acks"]
        assert [ack[0] for ack in acks] == [entry["lease"]]
        return acks[0][1]
