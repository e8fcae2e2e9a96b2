"""One kept-alive HTTP client for the API, with its answers turned into the client's errors."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from shardy_client.arrays import chunks
from shardy_client.errors import InvalidInput, MeshUnreachable, Refused

DEFAULT_URL = "http://127.0.0.1:8765"
KEY_FILE = Path(".data") / "api_key"
WAIT_S_MAX = 60


def default_url() -> str:
    """SHARDY_URL, or the address of a mesh on this machine."""
    return os.environ.get("SHARDY_URL") or DEFAULT_URL


def default_key() -> str:
    """SHARDY_KEY, or what a mesh started in this folder wrote to `.data/api_key`; empty when there is neither."""
    key = os.environ.get("SHARDY_KEY", "")
    if not key:
        try:
            key = KEY_FILE.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""
    return key.strip()


class Http:
    """Requests to one mesh. Every method raises MeshUnreachable, or Refused with the mesh's own message."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InvalidInput(f"{url!r} is no address of a mesh; expected something like {DEFAULT_URL}")
        if not key.isascii() or any(c.isspace() for c in key):
            raise InvalidInput("the API key holds characters that no key has; check SHARDY_KEY or --key")
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(WAIT_S_MAX + 30, connect=5, pool=None),
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=16, keepalive_expiry=60),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """The JSON map that the mesh answers with."""
        response = await self._send(method, path, **more)
        if response.is_error:
            raise refusal(response)
        try:
            value = response.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Refused(f"{self.url} answers, but not as a mesh does; is the address right?")
        return value

    async def exists(self, path: str) -> bool:
        """Whether HEAD finds something."""
        response = await self._send("HEAD", path)
        if response.status_code == 404:
            return False
        if response.is_error:
            raise refusal(response)
        return True

    async def put(self, path: str, data: memoryview) -> None:
        """Stream `data` from where it lies."""

        async def body() -> AsyncIterator[bytes]:
            for chunk in chunks(data):
                yield chunk  # type: ignore[misc]

        response = await self._send("PUT", path, content=body(), headers={"Content-Length": str(len(data))})
        if response.is_error:
            raise refusal(response)

    @asynccontextmanager
    async def stream(self, path: str, params: dict[str, Any] | None = None) -> AsyncIterator[httpx.Response]:
        """GET with the body still to be read."""
        try:
            async with self._client.stream("GET", path, params=params) as response:
                if response.is_error:
                    await response.aread()
                    raise refusal(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    async def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return await self._client.request(method, path, **more)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> MeshUnreachable:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return MeshUnreachable(f"cannot reach a mesh at {self.url}: is it running? (start one with: shardy up)")
        return MeshUnreachable(f"the connection to {self.url} broke: {error or type(error).__name__}")


def refusal(response: httpx.Response) -> Refused:
    """The mesh's problem details as an error; its detail, else its title, is the message."""
    status = response.status_code
    try:
        problem = response.json()
    except ValueError:
        problem = None
    fields = problem if isinstance(problem, dict) else {}
    message = fields.get("detail") or fields.get("title") or f"the mesh answered {status} {response.reason_phrase}"
    if not isinstance(message, str):
        message = f"the mesh answered {status}: {message}"
    if status == 401:
        message += " (set SHARDY_KEY or --key; a mesh started here keeps its key in .data/api_key)"
    return Refused(message, status=status, limit=fields.get("limit"))
