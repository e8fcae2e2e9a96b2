"""What the calls share: the gateway's state, who calls, a job of the caller, bodies within limits, and the log."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import dataclass

from fastapi import Request

from shardy_common import ids
from shardy_common.errors import Refused, Transient
from shardy_common.log import Append, Appended, Conflict
from shardy_gateway.session import Session
from shardy_gateway.state import GatewayState
from shardy_gateway.views import JobView
from shardy_gateway.visitors import Visitor, admitted

SUBMIT, OPERATE = "submit", "operate"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made a request. key: the API key's id; owner: whose jobs it sees, which stays through rotations."""

    key: str
    owner: str
    scopes: frozenset[str]


def state_of(request: Request) -> GatewayState:
    return request.app.state.gateway


def bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def caller(request: Request, scope: str = "") -> Caller:
    """Who calls, with a valid key that has this scope (any key, if none is named). 401 and 403 otherwise."""
    token = bearer(request)
    digest = hashlib.sha256(token.encode()).hexdigest()
    for known, scopes in state_of(request).api_keys():
        if hmac.compare_digest(known, digest):
            if scope and scope not in scopes:
                raise Refused(
                    f"this API key may not do that: it needs the scope {scope} and has {', '.join(sorted(scopes))}",
                    status=403,
                    title="Scope missing",
                )
            return Caller(digest[:16], digest[:16], scopes)
    detail = "this API key is not known" if token else "send your API key as: Authorization: Bearer KEY"
    raise Refused(detail, status=401, title="No valid API key")


async def worker_of(request: Request) -> Session | Visitor:
    """The joined worker that calls; another gateway may hold its socket."""
    session = await admitted(state_of(request), bearer(request))
    if session is None:
        raise Refused("the session token is not known: join again", status=401, title="No valid session token")
    return session


def job_of(request: Request, job_id: str) -> JobView:
    """A job that the caller may see: its owner's, or any with the scope operate."""
    who = caller(request)
    job = state_of(request).views.job(job_id) if ids.is_token(job_id) else None
    if job is None or (job.requester != who.owner and OPERATE not in who.scopes):
        raise Refused("you have no job of this id", status=404, title="No such job")
    return job


async def append(state: GatewayState, item: Append) -> None:
    """Append, trying again while the log is away; Transient when it stays away."""
    for attempt in range(5):
        outcome = (await state.log.append([item]))[0]
        if isinstance(outcome, Appended):
            return
        if isinstance(outcome, Conflict):
            return  # an earlier try, thought lost, is there
        await asyncio.sleep(0.2 * 2**attempt)
    raise Transient("the event log does not answer; nothing was submitted, try again", retry_ms=5000)


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


def too_large(bytes_max: int) -> Refused:
    return Refused(
        f"the body is over the limit of {bytes_max} bytes: split it by rows",
        status=413,
        title="Body too large",
        limit=f"{bytes_max} bytes",
    )
