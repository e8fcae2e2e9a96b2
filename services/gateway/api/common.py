"""What the calls share: the gateway's state, who calls, a job of the caller, bodies within limits, and the log."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from fastapi import Request

from shardy_common import ids
from shardy_common.blobs import NoRoom
from shardy_common.errors import Refused
from shardy_gateway.guard import Caller
from shardy_gateway.keyring import OPERATE, SUBMIT
from shardy_gateway.session import Session
from shardy_gateway.shapes import JobView
from shardy_gateway.state import GatewayState
from shardy_gateway.visitors import Visitor

STORE_RETRY_S = 30
__all__ = ["OPERATE", "SUBMIT", "Caller"]


def state_of(request: Request) -> GatewayState:
    return request.app.state.gateway


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def caller(request: Request, scope: str = "") -> Caller:
    """Who calls; the guard has let it in by its key. 403 unless the key has this scope (any key, if none is named)."""
    who: Caller = request.scope["shardy.caller"]
    if scope and scope not in who.scopes:
        raise Refused(
            f"this API key may not do that: it needs the scope {scope} and has {', '.join(sorted(who.scopes))}",
            status=403,
            title="Scope missing",
        )
    return who


def submitter(request: Request) -> Caller:
    """As a dependency: the scope is looked at before anything else of the request is."""
    return caller(request, SUBMIT)


def anybody(request: Request) -> Caller:
    """Whoever has a key."""
    return caller(request)


def operator(request: Request) -> Caller:
    return caller(request, OPERATE)


def worker_session(request: Request) -> Session | Visitor:
    """The joined worker that calls, whose socket another gateway may hold; the guard has looked at its token."""
    session: Session | Visitor = request.scope["shardy.session"]
    return session


async def job_of(request: Request, job_id: str, ready: Callable[[JobView], bool] = lambda _job: True) -> JobView:
    """A job that the caller may see: its owner's, or any with the scope operate. If it is not there, or is not `ready`,
    it is looked at once more when all that the log tells of it is known here."""
    state, who = state_of(request), caller(request)
    job = state.views.job(job_id) if ids.is_token(job_id) else None
    if ids.is_token(job_id) and (job is None or not ready(job)):
        await state.up_to_now(job_id)
        job = state.views.job(job_id)
    if job is None or (job.requester != who.owner and OPERATE not in who.scopes):
        raise Refused("you have no job of this id", status=404, title="No such job")
    return job


async def read_body(request: Request, bytes_max: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > bytes_max:
        raise too_large(bytes_max)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bytes_max:
            raise too_large(bytes_max)
        chunks.append(chunk)
    return b"".join(chunks)


def charge_upload(request: Request, count: int) -> None:
    """Count bytes that the caller's key sends: 429 when its share of the hour is used up."""
    state_of(request).gates.upload(caller(request).key, count, time.monotonic())


def store_takes(request: Request, count: int) -> None:
    """503 unless the store has room for so many bytes more of a requester."""
    try:
        state_of(request).store_room.check(count)
    except NoRoom as full:
        raise Refused(
            f"{full}: try again later",
            status=503,
            title="Store full",
            retry_s=STORE_RETRY_S,
        ) from None


def announced(request: Request) -> int:
    """The body's length as its head says; 0 where it does not."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


async def read_json(request: Request, bytes_max: int, *, empty: bool = False) -> dict[str, object]:
    """The body as a JSON object. empty: no body means an empty object."""
    kind = content_type(request)
    if kind not in ("", "application/json"):
        raise wrong_type(kind, "application/json")
    body = await read_body(request, bytes_max)
    return {} if empty and not body.strip() else json_object(body)


def json_object(body: bytes) -> dict[str, object]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"the body is not JSON: {error}", status=400, title="Malformed body") from None
    if not isinstance(value, dict):
        raise Refused("the body is a JSON object (docs/api.md)", status=400, title="Malformed body")
    return value


def only(body: dict[str, object], *fields: str) -> None:
    """422 for a field that the call does not know."""
    strange = sorted(set(body) - set(fields))
    if strange:
        raise Refused(f"unknown fields {', '.join(strange)[:200]}: the call takes {', '.join(fields)}")


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def wrong_type(kind: str, *takes: str) -> Refused:
    return Refused(
        f"a body of type {kind[:80]!r} is not taken here: send {' or '.join(takes)}",
        status=415,
        title="Wrong content type",
        headers={"Accept-Post": ", ".join(takes)},
    )


def too_large(bytes_max: int) -> Refused:
    return Refused(
        f"the body is over the limit of {bytes_max} bytes: split it by rows",
        status=413,
        title="Body too large",
        limit=f"{bytes_max} bytes",
    )
