"""Ceremonies: started, contributed to, sealed, verified, finished (docs/ceremony.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from shardy_common import ids
from shardy_common.ceremony import Ceremonies
from shardy_common.errors import Refused, Transient
from shardy_common.log import Appended
from shardy_gateway.api.common import Caller, caller, only, operator, read_json, state_of, submitter
from shardy_gateway.ceremonies import Event, append_of, brief, shown
from shardy_gateway.ceremony_rules import (
    ITERATIONS_MIN,
    decide_contribute,
    decide_finish,
    decide_seal,
    decide_start,
    decide_verified,
    no_such,
)
from shardy_gateway.state import GatewayState

router = APIRouter()
BODY_BYTES_MAX = 16 * 1024
_TRIES = 20
_FOLD_S, _RACE_S = 10.0, 1.0  # until an event of one's own, or what won over it, is folded here
Decide = Callable[[Ceremonies], Event | None]


@router.get("/v1/ceremonies", tags=["ceremonies"])
async def list_ceremonies(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    after: Annotated[str, Query(max_length=128, description="`next` of the page before")] = "",
) -> dict[str, Any]:
    """The newest run of each circuit's ceremony, by the circuit's name."""
    caller(request)
    current = state_of(request).views.ceremonies.known.current
    names = [name for name in sorted(current) if name > after]
    page = names[:limit]
    return {
        "ceremonies": [brief(current[name]) for name in page],
        "next": page[-1] if len(names) > limit else None,
    }


@router.get("/v1/ceremonies/{circuit}", tags=["ceremonies"])
async def get_ceremony(
    request: Request,
    circuit: str,
    run: Annotated[int, Query(ge=0, le=1_000_000, description="a former run; 0 is the newest")] = 0,
) -> dict[str, Any]:
    """The transcript of a run: every contribution with its hash, what it began with and what it made."""
    caller(request)
    found = state_of(request).views.ceremonies.run(circuit, run) if ids.is_token(circuit) else None
    if found is None:
        raise no_such(circuit)
    return shown(found)


@router.post("/v1/ceremonies", tags=["ceremonies"], status_code=201)
async def start_ceremony(request: Request, who: Annotated[Caller, Depends(operator)]) -> JSONResponse:
    """Begin a circuit's ceremony, or with `again` a new run of it, from a key that nobody has contributed to."""
    body = await read_json(request, BODY_BYTES_MAX)
    only(body, "circuit", "r1cs", "ptau", "powers", "zkey", "again")
    circuit, r1cs, ptau, zkey = (_text(body, name) for name in ("circuit", "r1cs", "ptau", "zkey"))
    powers = "" if body.get("powers") is None else _text(body, "powers")
    again = False if body.get("again") is None else body["again"]
    if type(again) is not bool:
        raise Refused("again is true or false")
    _stored(request, r1cs=r1cs, zkey=zkey)

    def decide(known: Ceremonies) -> Event | None:
        return decide_start(known, circuit, r1cs, ptau, powers, zkey, again, who.key)

    return await _done(request, circuit, decide)


@router.post("/v1/ceremonies/{circuit}/contributions", tags=["ceremonies"], status_code=201)
async def contribute(request: Request, circuit: str, who: Annotated[Caller, Depends(submitter)]) -> JSONResponse:
    """Record a contribution, made from the newest key. Of two on the same key the first one counts; the other is 409,
    and begins again on the new one. What a key is worth is not looked at here: whoever verifies finds out."""
    body = await read_json(request, BODY_BYTES_MAX)
    only(body, "run", "name", "hash", "base", "zkey")
    run = _whole(body, "run")
    name, said, base, zkey = (_text(body, part) for part in ("name", "hash", "base", "zkey"))
    _stored(request, zkey=zkey)

    def decide(known: Ceremonies) -> Event | None:
        return decide_contribute(known, circuit, run, name, said, base, zkey, who.key)

    return await _done(request, circuit, decide)


@router.post("/v1/ceremonies/{circuit}/beacon", tags=["ceremonies"], status_code=201)
async def seal_ceremony(request: Request, circuit: str, who: Annotated[Caller, Depends(operator)]) -> JSONResponse:
    """Record the last step: public randomness that nobody knew before the last contribution."""
    body = await read_json(request, BODY_BYTES_MAX)
    only(body, "run", "value", "iterations", "hash", "base", "zkey")
    run = _whole(body, "run")
    iterations = ITERATIONS_MIN if body.get("iterations") is None else _whole(body, "iterations")
    value, said, base, zkey = (_text(body, part) for part in ("value", "hash", "base", "zkey"))
    _stored(request, zkey=zkey)

    def decide(known: Ceremonies) -> Event | None:
        return decide_seal(known, circuit, run, value, iterations, said, base, zkey, who.key)

    return await _done(request, circuit, decide)


@router.post("/v1/ceremonies/{circuit}/checks", tags=["ceremonies"], status_code=201)
async def report_check(request: Request, circuit: str) -> JSONResponse:
    """Say what you found of the newest key. It changes nothing but the transcript; of each API key the newest word
    stands there."""
    who = caller(request)
    body = await read_json(request, BODY_BYTES_MAX)
    only(body, "run", "zkey", "good", "fault", "why")
    run, zkey, good = _whole(body, "run"), _text(body, "zkey"), body.get("good")
    fault = 0 if body.get("fault") is None else _whole(body, "fault")
    why = "" if body.get("why") is None else _text(body, "why")
    if type(good) is not bool:
        raise Refused("good is true or false")

    def decide(known: Ceremonies) -> Event | None:
        return decide_verified(known, circuit, run, zkey, good, fault, why, who.key)

    return await _done(request, circuit, decide)


@router.post("/v1/ceremonies/{circuit}/finish", tags=["ceremonies"], status_code=201)
async def finish_ceremony(request: Request, circuit: str, who: Annotated[Caller, Depends(operator)]) -> JSONResponse:
    """Say that the sealed key is the one to prove with. The same API key has said before that it found it good."""
    body = await read_json(request, BODY_BYTES_MAX)
    only(body, "run", "zkey", "vk_hash")
    run, zkey, vk_hash = _whole(body, "run"), _text(body, "zkey"), _text(body, "vk_hash")

    def decide(known: Ceremonies) -> Event | None:
        return decide_finish(known, circuit, run, zkey, vk_hash, who.key)

    return await _done(request, circuit, decide)


async def _done(request: Request, circuit: str, decide: Decide) -> JSONResponse:
    """The transcript after the step: 201, or 200 where it stood there before.

    Steps of a circuit are decided one after the other: each names the last one that it has seen, and the loser of a
    race is decided again by what won.
    """
    state = state_of(request)
    for _ in range(_TRIES):
        known = state.views.ceremonies.known
        event = decide(known)
        if event is None:
            return JSONResponse(shown(known.current[circuit]), 200)
        seq = known.seqs.get(circuit, 0)
        outcome = await state.append(append_of(event, known))
        if not isinstance(outcome, Appended):
            await _folded(state, circuit, seq + 1, _RACE_S)
        elif not await _folded(state, circuit, outcome.seq, _FOLD_S):
            raise Transient("it is recorded, and not yet visible here: ask for the ceremony", retry_ms=1000)
        elif circuit in (current := state.views.ceremonies.known.current):  # else the last room for one is taken
            return JSONResponse(shown(current[circuit]), 201)
    raise Transient("others changed this ceremony all the while, and nothing was recorded: try again")


async def _folded(state: GatewayState, circuit: str, seq: int, wait_s: float) -> bool:
    """Wait until something of the circuit at seq or later was folded here."""
    for _ in range(int(wait_s * 100)):
        if state.views.ceremonies.known.seqs.get(circuit, 0) >= seq:
            return True
        await asyncio.sleep(0.01)
    return False


def _stored(request: Request, **digests: str) -> None:
    """Bytes first: nothing in the log points at what is not there."""
    for name, digest in digests.items():
        if ids.is_digest(digest) and state_of(request).blobs.size(digest) is None:
            raise Refused(f"{name} is no stored blob: PUT /v1/blobs/{digest} first")


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise Refused(f"{name} is text, and wanted here")
    return value


def _whole(body: dict[str, Any], name: str) -> int:
    value = body.get(name)
    if type(value) is not int:
        raise Refused(f"{name} is a whole number, and wanted here")
    return value
