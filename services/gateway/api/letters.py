"""The dead letter queue, for operators."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from shardy_common import ids
from shardy_common.errors import Refused
from shardy_gateway import closing, jobs
from shardy_gateway.api.common import OPERATE, caller, read_body, state_of
from shardy_gateway.letters import Letter

router = APIRouter()
REASON_CHARS_MAX = 500
BODY_BYTES_MAX = 8 * 1024


@router.get("/v1/dlq", tags=["dlq"])
async def list_letters(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    before: Annotated[str, Query(pattern="^[0-9]{0,18}$", description="`next` of the page before")] = "",
    cause: Annotated[
        Literal["", "fraud", "unresolved", "poison", "max-deliveries"], Query(description="only letters of this cause")
    ] = "",
    state: Annotated[
        Literal["", "open", "replayed", "discarded"], Query(description="only letters in this state")
    ] = "",
) -> dict[str, Any]:
    """Dead letters, newest first."""
    caller(request, OPERATE)
    page = state_of(request).views.letters.page(limit, int(before) if before else None, cause, state)
    return {"entries": [letter.shown() for letter in page], "next": str(page[-1].at) if len(page) == limit else None}


@router.get("/v1/dlq/{entry}", tags=["dlq"])
async def get_letter(request: Request, entry: str) -> dict[str, Any]:
    """One dead letter with its evidence."""
    caller(request, OPERATE)
    return _letter(request, entry).shown()


@router.post("/v1/dlq/{entry}/replay", tags=["dlq"])
async def replay_letter(request: Request, entry: str) -> dict[str, Any]:
    """Try again what the letter is about (docs/dead-letters.md). 409 with the reason when that cannot be."""
    who = caller(request, OPERATE)
    outcome, job = await closing.replay(state_of(request), _open(request, entry), who.key)
    return {"entry": entry, "outcome": outcome, **({"job": job} if job else {})}


@router.post("/v1/dlq/{entry}/discard", tags=["dlq"])
async def discard_letter(request: Request, entry: str) -> dict[str, Any]:
    """Close the letter with a reason: nothing is to be done about it."""
    who = caller(request, OPERATE)
    letter = _open(request, entry)
    reason = jobs.read_json(await read_body(request, BODY_BYTES_MAX)).get("reason")
    if not isinstance(reason, str) or not 1 <= len(reason.strip()) <= REASON_CHARS_MAX:
        raise Refused(
            f'say why in the body: {{"reason": "…"}}, 1 to {REASON_CHARS_MAX} characters',
            limit=f"reason ≤ {REASON_CHARS_MAX} characters",
        )
    return (await closing.discard(state_of(request), letter, who.key, reason.strip())).shown()


def _letter(request: Request, entry: str) -> Letter:
    letter = state_of(request).views.letters.get(entry) if ids.is_token(entry) else None
    if letter is None:
        raise Refused("there is no dead letter of this name", status=404, title="No such letter")
    return letter


def _open(request: Request, entry: str) -> Letter:
    letter = _letter(request, entry)
    if letter.state != "open":
        raise closing.already(letter)
    return letter
