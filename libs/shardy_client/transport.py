"""Requests to the gateways of one mesh, with its answers turned into the client's errors.

A gateway that breaks is left for the next one: what may be asked twice is asked again, and the caller sees one answer.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from shardy_client.errors import InvalidInput, MeshUnreachable, Refused, ShardyError
from shardy_client.retry import BUSY, HELD, Attempts, Outcome, Patience, retry_after_s

DEFAULT_URL = "http://127.0.0.1:8765"
KEY_FILE = Path(".data") / "api_key"
OPERATOR_KEY_FILE = Path(".data") / "operator_key"
WAIT_S_MAX = 60
ANSWER_S = 30.0  # until an answer begins, over what the request asks to wait
CONNECT_S = 5.0
STREAMS_MAX = 12  # connections that may be kept busy by following jobs
CONNECTIONS_MAX = 32
REPEATABLE = ("GET", "HEAD", "PUT", "DELETE")


OnHeld = Callable[[float, str], None]  # seconds until the next try, and the mesh's words


def not_told(_pause_s: float, _why: str) -> None:
    """Nobody wants to hear of pauses."""


def default_url() -> str:
    """SHARDY_URL (several gateways: with commas between), or the address of a mesh on this machine."""
    return os.environ.get("SHARDY_URL") or DEFAULT_URL


def default_key() -> str:
    """SHARDY_KEY, or what a mesh started in this folder wrote to `.data/api_key`; empty when there is neither."""
    return os.environ.get("SHARDY_KEY", "").strip() or read_key(KEY_FILE)


def operator_key() -> str:
    """SHARDY_OPERATOR_KEY, else SHARDY_KEY, else `.data/operator_key` of this folder; empty without any."""
    named = os.environ.get("SHARDY_OPERATOR_KEY", "").strip() or os.environ.get("SHARDY_KEY", "").strip()
    return named or read_key(OPERATOR_KEY_FILE)


def read_key(path: Path) -> str:
    """A key file's content, or nothing."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def gateways(url: str | Sequence[str]) -> tuple[str, ...]:
    """The addresses in `url`: one, several with commas between, or a list. InvalidInput naming one that is none."""
    texts = url.split(",") if isinstance(url, str) else list(url)
    found: dict[str, None] = {}
    for text in texts:
        parts = urlsplit(text.strip())
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InvalidInput(f"{text!r} is no address of a mesh; expected something like {DEFAULT_URL}")
        found[text.strip().rstrip("/")] = None
    if not found:
        raise InvalidInput(f"no address of a mesh was given; expected something like {DEFAULT_URL}")
    return tuple(found)


class Http:
    """Requests to one mesh. Every method raises MeshUnreachable, or Refused with the mesh's own message.

    moved: whether another gateway answers than at first; it may know a moment later what the first one knew.
    """

    def __init__(self, url: str | Sequence[str], key: str, patience: Patience | None = None) -> None:
        self.urls = gateways(url)
        if not key.isascii() or any(c.isspace() for c in key):
            raise InvalidInput("the API key holds characters that no key has; check SHARDY_KEY or --key")
        self.patience = patience or Patience()
        self.streams = asyncio.Semaphore(STREAMS_MAX)
        self.moved = False
        self._at = 0
        self._answered = False
        self._client = httpx.AsyncClient(
            # Reading the certificates that a system trusts takes longer than many a job: only where they are used.
            verify=any(url.startswith("https:") for url in self.urls),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX, keepalive_expiry=60
            ),
        )

    @property
    def url(self) -> str:
        """The gateway that answers at present."""
        return self.urls[self._at]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """The JSON map that the mesh answers with."""
        return self.answer(await self.send(method, path, **more))

    def answer(self, response: httpx.Response, empty: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON map of an answer. empty: what an answer without a body stands for."""
        if response.is_error:
            raise refusal(response)
        if empty is not None and not response.content:
            return empty
        try:
            value = response.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Refused(f"{self.url} answers, but not as a mesh does; is the address right?")
        return value

    async def exists(self, path: str) -> bool:
        """Whether HEAD finds something."""
        response = await self.send("HEAD", path)
        if response.status_code == 404:
            return False
        if response.is_error:
            raise refusal(response)
        return True

    async def send(
        self,
        method: str,
        path: str,
        *,
        repeat: bool | None = None,
        resend: bool = True,
        content: bytes | Callable[[], AsyncIterator[bytes]] | None = None,
        answer_s: float = ANSWER_S,
        stream: bool = False,
        on_held: OnHeld = not_told,
        **more: Any,
    ) -> httpx.Response:
        """The mesh's answer, whatever its status is, but for those that ask to come back later: these are followed.

        repeat: whether the call may be made twice, which reads and stored blobs may; resend: also blindly, when it
        broke on the way. content: bytes, or what makes their pieces anew for each attempt. answer_s: seconds until the
        answer must begin, over a `wait` in `params`.
        stream: leave the body to be read by the caller, who closes the answer. on_held: told before each pause that a
        mesh with too much to do asks for.
        """
        attempts = Attempts(
            self.patience,
            len(self.urls),
            self._at,
            random.random,
            repeat=method in REPEATABLE if repeat is None else repeat,
            known=self._answered,
            resend=resend,
        )
        wait_s = float((more.get("params") or {}).get("wait", 0))
        more["timeout"] = httpx.Timeout(answer_s + wait_s, connect=CONNECT_S, pool=None)
        started = time.monotonic()
        while True:
            gateway = attempts.gateway
            body = content() if callable(content) else content
            try:
                request = self._client.build_request(method, self.urls[gateway] + path, content=body, **more)
                response = await self._client.send(request, stream=True)
                if not stream or response.is_error:
                    try:
                        await response.aread()
                    finally:
                        await response.aclose()
            except httpx.TransportError as error:
                sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                outcome = Outcome(sent)
                failure: ShardyError = self.unreachable(error)
            else:
                response.extensions["tries"] = attempts.made
                asked_s = retry_after_s(response.headers.get("retry-after"))
                if response.status_code not in BUSY and (response.status_code != 429 or asked_s is None):
                    self.moved = self.moved or (self._answered and gateway != self._at)
                    self._at, self._answered = gateway, True
                    return response
                failure = refused = refusal(response)
                outcome = Outcome(True, response.status_code, asked_s, refused.problem in HELD)
            pause_s = attempts.after(outcome, time.monotonic() - started)
            if pause_s is None:
                raise failure from None
            if outcome.held:
                on_held(pause_s, str(failure))
            await asyncio.sleep(pause_s)

    @asynccontextmanager
    async def stream(self, path: str, **more: Any) -> AsyncIterator[httpx.Response]:
        """GET with the body still to be read; MeshUnreachable when it breaks on the way."""
        response = await self.send("GET", path, stream=True, **more)
        try:
            if response.is_error:
                raise refusal(response)
            yield response
        except httpx.TransportError as error:
            raise self.unreachable(error) from None
        finally:
            await response.aclose()

    async def download(self, path: str, begin: Callable[[int | None], Callable[[bytes], object]], **more: Any) -> None:
        """Hand the body over in pieces. begin: called with the length, if it is known, before the first piece, and
        again when the body broke and starts anew; gives what takes the pieces."""
        rounds = 0
        while True:
            try:
                async with self.stream(path, **more) as response:
                    length = response.headers.get("content-length", "")
                    take = begin(int(length) if length.isdigit() else None)
                    async for data in response.aiter_bytes():
                        take(data)
                return
            except MeshUnreachable:
                rounds += 1
                if rounds >= self.patience.rounds:
                    raise
                self.leave()

    def leave(self) -> None:
        """Ask the next gateway first from now on: this one breaks what it sends."""
        self.moved = self.moved or len(self.urls) > 1
        self._at = (self._at + 1) % len(self.urls)

    def unreachable(self, error: Exception) -> MeshUnreachable:
        """`error` as one line about the gateways asked."""
        names = " or ".join(self.urls)
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return MeshUnreachable(f"cannot reach a mesh at {names}: is it running? (start one with: shardy up)")
        return MeshUnreachable(f"the connection to {names} broke: {error or type(error).__name__}")


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
    asked_s = retry_after_s(response.headers.get("retry-after"))
    if status == 401:
        message += " (set SHARDY_KEY or --key; a mesh started here keeps its key in .data/api_key)"
    elif status == 403:
        message += " (operating needs the operator key: set SHARDY_OPERATOR_KEY, or use .data/operator_key)"
    elif asked_s is not None:
        message += f" (it asks to come back in {asked_s:g} s)"
    return Refused(
        message,
        status=status,
        limit=fields.get("limit"),
        problem=str(fields.get("type") or ""),
        retry_after_s=asked_s,
        repeated=response.extensions.get("tries", 1) > 1,
    )
