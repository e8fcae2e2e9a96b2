"""The dead letter queue, for operators."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from shardy_gateway.api.common import OPERATE, caller, state_of

router = APIRouter()


@router.get("/v1/dlq", tags=["dlq"])
async def list_letters(request: Request, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> dict[str, Any]:
    caller(request, OPERATE)
    return {"entries": state_of(request).views.letters.page(limit)}
