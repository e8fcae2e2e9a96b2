"""What stands before every call: the size of its head, its key, and the key's rate. No call of the API can forget it.

Without a key answer: /healthz, the pages and their files, the worker socket, and /problems/…, texts that explain
refusals to whoever was refused. /v1/worker/… takes the token of a joined worker's session in place of a key.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shardy_common.errors import Refused
from shardy_gateway import problems
from shardy_gateway.gates import too_many
from shardy_gateway.keyring import Key
from shardy_gateway.rates import limit_item
from shardy_gateway.state import GatewayState
from shardy_gateway.visitors import admitted

URL_BYTES_MAX = 8 * 1024
HEAD_BYTES_MAX = 32 * 1024
HEADERS_MAX = 100
_KEYED, _WORKER = "/v1/", "/v1/worker/"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made a request. key: the API key's id; owner: whose jobs it sees, which stays through rotations."""

    key: str
    owner: str
    scopes: frozenset[str]


class Guard:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            _check_head(scope)
            path: str = scope["path"]
            if path.startswith(_KEYED):
                state: GatewayState = scope["app"].state.gateway
                if path.startswith(_WORKER):
                    scope["shardy.session"] = await _session(state, scope)
                else:
                    send = _admit(state, scope, send)
        except Refused as error:
            await problems.answer(error)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def bearer(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else ""
    return ""


def address_of(scope: Scope) -> str:
    """The connection's, or the one that a trusted proxy names (the server has put it in its place by now)."""
    return scope["client"][0] if scope.get("client") else "unknown"


def _check_head(scope: Scope) -> None:
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > URL_BYTES_MAX:
        raise Refused(
            f"path and query are over {URL_BYTES_MAX} bytes",
            status=414,
            title="URL too long",
            limit=f"{URL_BYTES_MAX} bytes",
        )
    headers = scope["headers"]
    if len(headers) > HEADERS_MAX or sum(len(name) + len(value) for name, value in headers) > HEAD_BYTES_MAX:
        raise Refused(
            f"a request has at most {HEADERS_MAX} headers of {HEAD_BYTES_MAX} bytes in all",
            status=431,
            title="Head too large",
            limit=f"{HEADERS_MAX} headers, {HEAD_BYTES_MAX} bytes",
        )


async def _session(state: GatewayState, scope: Scope) -> Any:
    session = await admitted(state, bearer(scope))
    if session is None:
        raise Refused("the session token is not known: join again", status=401, title="No valid session token")
    return session


def _admit(state: GatewayState, scope: Scope, send: Send) -> Send:
    """Put the caller into the scope; `send` with the fields that tell what is left of its rate."""
    token = bearer(scope)
    found = state.keys.find(token, time.time_ns() // 1_000_000) if token else "send your API key as Bearer KEY"
    now = time.monotonic()
    if not isinstance(found, Key):
        state.gates.failed_auth(address_of(scope), now)
        raise Refused(found, status=401, title="No valid API key")
    scope["shardy.caller"] = Caller(found.id, found.owner, frozenset(found.scopes))
    taken = state.gates.call(found.id, now)
    fields = [
        (b"ratelimit-policy", state.gates.policy),
        (b"ratelimit", limit_item("requests", taken).encode()),
    ]

    async def with_limits(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *fields]
        await send(message)

    if not taken.ok:
        error = too_many("too many calls with this API key", f"{state.settings.requests_per_s:g} calls a second", taken)
        error.headers = {name.decode(): value.decode() for name, value in fields}
        raise error
    return with_limits
