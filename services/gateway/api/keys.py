"""API keys: listed, issued, rotated, revoked. A key's secret is told once, and kept nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from shardy_common import ids
from shardy_common.errors import Refused, Transient
from shardy_common.limits import LABEL_CHARS_MAX
from shardy_common.log import Append, Appended, Conflict
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_gateway.api.common import OPERATE, Caller, caller, now_ms, only, operator, read_json, state_of
from shardy_gateway.keybook import new_secret
from shardy_gateway.keyring import SCOPES, Key
from shardy_gateway.state import GatewayState

router = APIRouter()
BODY_BYTES_MAX = 4 * 1024
EXPIRES_S_MAX = 10 * 366 * 86_400
GRACE_S = 3_600
GRACE_S_MAX = 30 * 86_400
_TRIES = 10


@router.get("/v1/keys", tags=["keys"])
async def list_keys(
    request: Request,
    _who: Annotated[Caller, Depends(operator)],
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    after: Annotated[str, Query(max_length=128, description="`next` of the page before")] = "",
) -> dict[str, Any]:
    """API keys by id, with those of the key file: who may do what until when. Secrets are kept nowhere."""
    state, now = state_of(request), now_ms()
    ring = state.keys.ring
    found = [(key, end) for key, end in ring.page(after, limit)]
    found += [(key, ring.ends.get(key.id, 0)) for key in state.keys.file_keys() if key.id > after]
    page = sorted(found, key=lambda item: item[0].id)[:limit]
    shown = [_shown(key, ended, now) for key, ended in page]
    return {"keys": shown, "next": page[-1][0].id if len(page) == limit else None}


@router.post("/v1/keys", tags=["keys"], status_code=201)
async def issue_key(request: Request, who: Annotated[Caller, Depends(operator)]) -> JSONResponse:
    """Issue a key, of an owner of its own. The answer is the only place where the key is ever told."""
    state = state_of(request)
    body = await read_json(request, BODY_BYTES_MAX)
    only(body, "label", "scopes", "expires_s")
    label, scopes = body.get("label", ""), body.get("scopes")
    if not isinstance(label, str) or not label.strip() or len(label) > LABEL_CHARS_MAX:
        raise Refused(f"label is text of 1 to {LABEL_CHARS_MAX} characters: whose key it is, and what for")
    if not isinstance(scopes, list) or not scopes or any(scope not in SCOPES for scope in scopes):
        raise Refused(f"scopes is a list with one or both of {', '.join(SCOPES)}")
    expires_s = _seconds(body, "expires_s", 1, EXPIRES_S_MAX)
    expires_ms = now_ms() + expires_s * 1000 if expires_s else 0
    ordered = [scope for scope in SCOPES if scope in scopes]
    return await _issue(state, lambda key, digest: ev.KeyIssued(key, digest, key, ordered, label, who.key, expires_ms))


@router.post("/v1/keys/{key_id}/rotate", tags=["keys"], status_code=201)
async def rotate_key(request: Request, key_id: str) -> JSONResponse:
    """A new key of the same owner, scopes and expiry; the old one ends after `grace_s`. Anybody may rotate his own."""
    state, who = state_of(request), _over(request, key_id)
    old = _known(state, key_id)
    body = await read_json(request, BODY_BYTES_MAX, empty=True)
    only(body, "grace_s")
    grace_s = _seconds(body, "grace_s", 0, GRACE_S_MAX)
    if state.keys.ring.ends.get(key_id):  # one that was replaced and has no end yet may be rotated again
        raise Refused("this key was replaced or revoked, and ends by itself", status=409, title="Key is ending")

    def issued(key: str, digest: str) -> ev.KeyIssued:
        return ev.KeyIssued(key, digest, old.owner, old.scopes, old.label, who.key, old.expires_ms, key_id)

    answer = await _issue(state, issued)
    at_ms = now_ms() + (GRACE_S if grace_s is None else grace_s) * 1000
    # unconditional: the key that replaces it is there, so this takes nothing away
    outcome = await _append(state, ev.KeyRevoked(key_id, who.key, at_ms), f"key-replaced/{key_id}", None)
    await _folded(state, outcome)
    return answer


@router.delete("/v1/keys/{key_id}", tags=["keys"], status_code=204)
async def revoke_key(request: Request, key_id: str) -> Response:
    """Revoke a key at once, on every gateway of the mesh. Anybody may revoke his own; the last operator key stays."""
    state, who = state_of(request), _over(request, key_id)
    for _ in range(_TRIES):
        key = state.keys.known(key_id)
        if key is None and state.keys.ring.end_in_log(key_id):
            return Response(status_code=204)
        key, now, seq = _known(state, key_id), now_ms(), state.keys.ring.seq
        end = state.keys.ring.end_of(key)
        if end and end <= now:
            return Response(status_code=204)
        state.keys.check_may_end(key, now)
        outcome = await _append(state, ev.KeyRevoked(key_id, who.key, now), f"key-revoked/{key_id}/{seq}", seq)
        if isinstance(outcome, Appended):
            await _folded(state, outcome)
            return Response(status_code=204)
        await _news(state, seq)
    raise Transient("other keys changed all the while; nothing was revoked, try again")


async def _issue(state: GatewayState, event_of: Callable[[str, str], ev.KeyIssued]) -> JSONResponse:
    for _ in range(_TRIES):
        secret, digest = new_secret()
        event, seq = event_of(digest[:16], digest), state.keys.ring.seq
        state.keys.check_room(event.owner, now_ms())
        if state.keys.known(event.key) is None:
            outcome = await _append(state, event, f"key/{event.key}", seq)
            if isinstance(outcome, Appended):
                await _folded(state, outcome)
                shown = {"id": event.key, "key": secret, "owner": event.owner, "scopes": event.scopes}
                shown |= {"label": event.label, "expires_ms": event.expires_ms or None}
                return JSONResponse(shown, 201, {"Cache-Control": "no-store"})
            await _news(state, seq)
    raise Transient("other keys changed all the while; no key was made, try again")


async def _append(state: GatewayState, event: ev.Event, msg_id: str, seq: int | None) -> Appended | Conflict:
    """Changes of keys are decided one after the other: each names the last one that it has seen."""
    filter_ = subjects.of_entity("key", "*") if seq is not None else ""
    return await state.append(Append(event, msg_id, seq, filter_))


async def _folded(state: GatewayState, outcome: Appended | Conflict) -> None:
    """Until this gateway knows of it, so that the answer is true here; the others follow within a moment."""
    if isinstance(outcome, Appended):
        for _ in range(500):
            if state.keys.ring.seq >= outcome.seq:
                return
            await asyncio.sleep(0.01)


async def _news(state: GatewayState, seq: int) -> None:
    """Until something newer than seq was folded, or a second."""
    for _ in range(100):
        if state.keys.ring.seq > seq:
            return
        await asyncio.sleep(0.01)


def _over(request: Request, key_id: str) -> Caller:
    """The caller, if the key is its own or it may operate."""
    who = caller(request)
    return who if key_id == who.key else caller(request, OPERATE)


def _known(state: GatewayState, key_id: str) -> Key:
    key = state.keys.known(key_id) if ids.is_token(key_id) else None
    if key is None:
        raise Refused("no key that may be used has this id", status=404, title="No such key")
    return key


def _seconds(body: dict[str, Any], name: str, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise Refused(f"{name} is a whole number of seconds, {low} to {high}")
    return value


def _shown(key: Key, ended: int, now: int) -> dict[str, Any]:
    ends = min((at for at in (ended, key.expires_ms) if at), default=0)
    gone = "expired" if ends == key.expires_ms else "revoked"
    return {
        "id": key.id,
        "owner": key.owner,
        "scopes": key.scopes,
        "label": key.label,
        "state": gone if ends and ends <= now else "valid",
        "source": key.source,
        "by": key.by or None,
        "replaces": key.replaces or None,
        "created_ms": key.created_ms or None,
        "expires_ms": key.expires_ms or None,
        "ends_ms": ends or None,
    }
