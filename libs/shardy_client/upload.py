"""Operands on their way to the mesh: stored once, in pieces where they are large, going on where they broke off.

A piece may be sent twice: the mesh takes it only where its bytes end, and says where that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx

from shardy_client.arrays import chunks, digest
from shardy_client.errors import InvalidInput, MeshUnreachable, Refused, ShardyError
from shardy_client.transport import Http, refusal

WHOLE_BYTES_MAX = 8 << 20  # larger blobs go in pieces
PIECE_BYTES = 8 << 20
STORE_S = 120.0  # until the mesh has hashed and stored what it was sent
BREAKS_MAX = 20  # pieces in a row that broke off before anything more was stored
STALLS_MAX = 20  # pieces in a row after which no more of the blob was stored than before


@dataclass(slots=True, frozen=True)
class Transfer:
    """How far an upload or a download is. name: of the operand, or of the part of a result."""

    name: str
    bytes_done: int
    bytes_total: int


OnTransfer = Callable[[Transfer], None]


def silent(_: Transfer) -> None:
    """Tells nobody."""


async def store(http: Http, name: str, name_hex: str, data: memoryview, told: OnTransfer = silent) -> None:
    """Store `data`, whose digest is `name_hex`, unless the mesh has it. told: called as bytes go out."""
    total = len(data)
    if total <= WHOLE_BYTES_MAX:
        stored = await http.exists(f"/v1/blobs/{name_hex}")
        if not stored:
            await _put(http, name, name_hex, data, told)
    else:
        await _Pieces(http, name, name_hex, data, told).send()
    told(Transfer(name, total, total))


def _body(name: str, data: memoryview, at: int, end: int, told: OnTransfer) -> Callable[[], AsyncIterator[bytes]]:
    async def body() -> AsyncIterator[bytes]:
        sent = at
        for chunk in chunks(data[at:end]):
            told(Transfer(name, sent, len(data)))
            yield chunk  # type: ignore[misc]
            sent += len(chunk)

    return body


async def _put(http: Http, name: str, name_hex: str, data: memoryview, told: OnTransfer) -> None:
    headers = {"Content-Length": str(len(data))}
    body = _body(name, data, 0, len(data), told)
    response = await http.send("PUT", f"/v1/blobs/{name_hex}", content=body, headers=headers, answer_s=STORE_S)
    if response.is_error:
        raise refusal(response)


class _Pieces:
    """One large blob. at: where the mesh's bytes end."""

    def __init__(self, http: Http, name: str, name_hex: str, data: memoryview, told: OnTransfer) -> None:
        self.http, self.name, self.data, self.told = http, name, data, told
        self.name_hex = name_hex
        self.path = f"/v1/uploads/{name_hex}"
        self.at = 0
        self.furthest = 0
        self.stalls = 0
        self.breaks = 0
        self.resumed = False

    async def send(self) -> None:
        done = await self._find()
        while not done:
            done = await self._piece()

    async def _find(self) -> bool:
        """Learn how much is there already; True: all of it."""
        response = await self.http.send("HEAD", self.path)
        if response.status_code == 404:
            self.at = 0
            return False
        if response.is_error:
            raise refusal(response)
        if response.headers.get("upload-complete") == "?1":
            return True
        if response.headers.get("upload-length") != str(len(self.data)):
            # Whoever began this had other bytes in mind; they would never fit the digest.
            await self._drop()
            self.at = 0
            return False
        self._stand(response)
        self.resumed = self.at > 0
        return False

    async def _piece(self) -> bool:
        end = min(self.at + PIECE_BYTES, len(self.data))
        try:
            response = await self._patch(end)
        except MeshUnreachable:
            # Part of the piece may be there; ask, rather than send all of it for nothing.
            self.breaks += 1
            if self.breaks > BREAKS_MAX:
                raise
            await asyncio.sleep(self.http.patience.pause_s)
            self.http.leave()
            return await self._find()
        status = response.status_code
        if status in (200, 201):
            return True
        if status == 204 or (status == 409 and "upload-offset" in response.headers):
            self._stand(response)
            return self.at == len(self.data) and await self.http.exists(f"/v1/blobs/{self.name_hex}")
        if status == 422:
            await self._misfit(response)
            return False
        # The answer to the last piece may have been lost: a repeated one finds its upload gone, and the blob there.
        if await self.http.exists(f"/v1/blobs/{self.name_hex}"):
            return True
        raise refusal(response)

    async def _patch(self, end: int) -> httpx.Response:
        return await self.http.send(
            "PATCH",
            self.path,
            repeat=True,
            resend=False,
            content=_body(self.name, self.data, self.at, end, self.told),
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(end - self.at),
                "Upload-Offset": str(self.at),
                "Upload-Length": str(len(self.data)),
            },
            answer_s=STORE_S,
        )

    def _stand(self, response: httpx.Response) -> None:
        text = response.headers.get("upload-offset", "")
        if not text.isdigit() or int(text) > len(self.data):
            raise Refused(f"the mesh says that {text or 'nothing'!r} is where {self.name}'s upload stands")
        self.at = int(text)
        if self.at > self.furthest:
            self.stalls = self.breaks = 0
        else:
            self.stalls += 1
        self.furthest = max(self.furthest, self.at)
        self.told(Transfer(self.name, self.at, len(self.data)))
        if self.stalls > STALLS_MAX:
            raise ShardyError(f"the upload of {self.name} does not get past {self.furthest:,} bytes; try again later")

    async def _misfit(self, response: httpx.Response) -> None:
        """The mesh's bytes are not those of the digest, and it has thrown them away."""
        if digest(self.data) != self.name_hex:
            raise InvalidInput(f"{self.name} was changed while it was being sent; leave it as it is until it is stored")
        if not self.resumed:
            raise refusal(response)
        # What another process had sent before was wrong: send all of it ourselves, once.
        self.resumed, self.at, self.furthest = False, 0, 0

    async def _drop(self) -> None:
        response = await self.http.send("DELETE", self.path)
        if response.is_error and response.status_code != 404:
            raise refusal(response)
