"""Operands and large results over HTTP (protocol §3 and §5), streamed, with retries."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator

import httpx
from blake3 import blake3

from shardy_client.worker.cache import Key
from shardy_client.worker.kinds import Bytes

CHUNK_BYTES = 1 << 20
ATTEMPTS = 4
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class TransferError(Exception):
    """Given up. unwanted: the gateway does not know the lease (any more), so there is nothing to give back."""

    def __init__(self, message: str, *, unwanted: bool = False) -> None:
        super().__init__(message)
        self.unwanted = unwanted


class Transfers:
    """Fetches and uploads against one gateway. base_url: `http(s)://host:port`."""

    def __init__(self, base_url: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=base_url,
            timeout=httpx.Timeout(30.0, connect=10.0),
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=8),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def fetch(self, key: Key, token: str) -> bytearray:
        """The bytes that `key` names. TransferError when they cannot be had."""
        digest, offset, length = key
        headers = {"Authorization": f"Bearer {token}", "Range": f"bytes={offset}-{offset + length - 1}"}
        problem = ""
        for attempt in range(ATTEMPTS):
            await _pause(attempt)
            try:
                async with self._client.stream("GET", f"/v1/worker/blobs/{digest}", headers=headers) as response:
                    if response.status_code in (200, 206):
                        data, total = await _read(response, offset, length)
                        if total == length and blake3(data).hexdigest() != digest:
                            problem = "the bytes are not those that the digest names"
                            continue
                        return data
                    problem = f"the gateway answered {response.status_code}"
                    if response.status_code < 500 and response.status_code not in (408, 425, 429):
                        break
            except (httpx.HTTPError, ValueError) as error:
                problem = str(error) or type(error).__name__
        raise TransferError(f"operand {digest[:12]}… at {offset}: {problem}")

    async def upload(self, lease: str, data: Bytes, token: str) -> None:
        """PUT the result of `lease`. TransferError when the gateway does not take it."""
        headers = {"Authorization": f"Bearer {token}", "Content-Length": str(len(data))}
        problem = ""
        for attempt in range(ATTEMPTS):
            await _pause(attempt)
            try:
                response = await self._client.put(f"/v1/worker/results/{lease}", content=_chunks(data), headers=headers)
            except httpx.HTTPError as error:
                problem = str(error) or type(error).__name__
                continue
            if response.status_code in (200, 201):
                return
            problem = f"the gateway answered {response.status_code}"
            if response.status_code in (404, 409, 410):
                raise TransferError(problem, unwanted=True)
            if response.status_code < 500 and response.status_code not in (408, 425, 429):
                break
        raise TransferError(f"result of {lease}: {problem}")


async def _read(response: httpx.Response, offset: int, length: int) -> tuple[bytearray, int]:
    total = length
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if match is None or int(match[1]) != offset or int(match[2]) != offset + length - 1:
            raise ValueError(f"a range that was not asked for: {response.headers.get('content-range')!r}")
        total = -1 if match[3] == "*" else int(match[3])
    elif offset:
        raise ValueError("the gateway ignored the range")
    data = bytearray(length)
    at = 0
    async for chunk in response.aiter_raw():
        if at + len(chunk) > length:
            raise ValueError(f"more than the {length} bytes that were asked for")
        data[at : at + len(chunk)] = chunk
        at += len(chunk)
    if at != length:
        raise ValueError(f"{at} of {length} bytes came")
    return data, total


async def _chunks(data: Bytes) -> AsyncIterator[bytes]:
    view = memoryview(data)
    for at in range(0, len(view), CHUNK_BYTES):
        yield bytes(view[at : at + CHUNK_BYTES])


async def _pause(attempt: int) -> None:
    if attempt:
        await asyncio.sleep(0.2 * 2**attempt * random.uniform(0.5, 1.5))
