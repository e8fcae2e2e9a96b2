"""What a problem means, for whoever follows its type."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from shardy_gateway import problems

router = APIRouter()


@router.get("/problems/{slug}", tags=["problems"])
async def explain_problem(slug: str) -> PlainTextResponse:
    """What the `type` of a problem means, and what to do about it. Needs no key."""
    return PlainTextResponse(problems.explain(slug))
