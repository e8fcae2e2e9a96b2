"""The dead letter queue, for operators."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request

from shardy_common import ids
from shardy_common.errors import Refused
from shardy_gateway import closing
from shardy_gateway.api.common import Caller, operator, read_json, state_of
from shardy_gateway.letters import Letter

router = APIRouter()
REASON_CHARS_MAX = 500
BODY_BYTES_MAX = 8 * 1024
Causes = Literal["", "fraud", "unresolved", "poison", "handler", "max-deliveries"]
States = Literal["", "open", "replayed", "discarded"]


@router.get("/v1/dlq", tags=["dlq"])
async def list_letters(
    request: Request,
    _who: Annotated[Caller, Depends(operator)],
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    cause: Annotated[Causes, Query(description="letters of this cause only")] = "",
    state: Annotated[States, Query(description="letters in this state only")] = "",
) -> dict[str, Any]:
    """List dead letters, newest first (docs/dead-letters.md)."""
    page = state_of(request).views.letters.page(limit, before, cause, state)
    return {"entries": [letter.shown() for letter in page], "next": str(page[-1].at) if len(page) == limit else None}


@router.get("/v1/dlq/{entry}", tags=["dlq"])
async def get_letter(request: Request, entry: str, _who: Annotated[Caller, Depends(operator)]) -> dict[str, Any]:
    """A dead letter with its evidence."""
    return _letter(request, entry).shown()


@router.post("/v1/dlq/{entry}/replay", tags=["dlq"])
async def replay_letter(request: Request, entry: str, who: Annotated[Caller, Depends(operator)]) -> dict[str, Any]:
    """Try again what the letter is about, which closes it: 409 with the reason when that cannot be."""
    outcome, job = await closing.replay(state_of(request), _open(request, entry), who.key)
    return {"entry": entry, "outcome": outcome, **({"job": job} if job else {})}


@router.post("/v1/dlq/{entry}/discard", tags=["dlq"])
async def discard_letter(request: Request, entry: str, who: Annotated[Caller, Depends(operator)]) -> dict[str, Any]:
    """Close the letter with a reason: nothing is to be done about it."""
    letter = _open(request, entry)
    reason = (await read_json(request, BODY_BYTES_MAX)).get("reason")
    if not isinstance(reason, str) or not 1 <= len(reason.strip()) <= REASON_CHARS_MAX:
        raise Refused(
            f'say why in the body: {{"reason": "…"}}, 1 to {REASON_CHARS_MAX} characters',
            limit=f"reason ≤ {REASON_CHARS_MAX} characters",
        )
    closed = await closing.discard(state_of(request), letter, who.key, reason.strip())
    return {"entry": entry, "outcome": closed.outcome}


def _letter(request: Request, entry: str) -> Letter:
    letter = state_of(request).views.letters.get(entry) if ids.is_token(entry) else None
    if letter is None:
        raise Refused("there is no dead letter of this name", status=404, title="No such entry")
    return letter


def _open(request: Request, entry: str) -> Letter:
    letter = _letter(request, entry)
    if letter.state != "open":
        raise closing.already(letter)
    return letter
