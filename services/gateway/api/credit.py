"""Credit: what was verified of whom (docs/credit.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from shardy_gateway.api.common import caller, state_of
from shardy_gateway.ledger import OPS_PER_CREDIT, Entry

router = APIRouter()
EXPORT_PAGE = 1_000
COLUMNS = ("seq", "at_ms", "worker", "task", "job", "ops", "method")


@router.get("/v1/credit", tags=["credit"])
async def list_credit(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    after: Annotated[str, Query(max_length=128, description="`next` of the page before")] = "",
) -> dict[str, Any]:
    """Totals by worker, in the order of their ids; `used`: of the caller's own jobs."""
    who, views = caller(request), state_of(request).views
    page = views.ledger.workers(after, limit)
    shown = []
    for worker in page:
        known = views.workers.find(worker)
        shown.append({"worker": worker, "name": known.agent if known else "", **_sum(*views.ledger.total_of(worker))})
    return {
        "workers": shown,
        "total": _sum(*views.ledger.total()),
        "used": _sum(*views.ledger.used_by(who.owner)),
        "next": page[-1] if len(page) == limit else None,
    }


@router.get("/v1/credit/ledger", tags=["credit"])
async def list_entries(
    request: Request,
    worker: Annotated[str, Query(max_length=128, description="entries of this worker only")] = "",
    job: Annotated[str, Query(max_length=128, description="entries of this job only")] = "",
    after: Annotated[int, Query(ge=0, lt=1 << 47, description="`next` of the page before")] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """The entries themselves, oldest first. next: `after` of the next page."""
    caller(request)
    page = state_of(request).views.ledger.page(after, limit, worker, job)
    return {"entries": [_entry(entry) for entry in page], "next": page[-1].id if len(page) == limit else None}


@router.get("/v1/credit/export", tags=["credit"], response_class=StreamingResponse)
async def export(request: Request) -> StreamingResponse:
    """The ledger as it stands, as CSV."""
    caller(request)
    state = state_of(request)

    async def lines() -> AsyncIterator[bytes]:
        yield ",".join(COLUMNS).encode() + b"\r\n"
        for page in state.views.ledger.pages(EXPORT_PAGE):
            # no field can hold a comma or a quote: they are numbers, ids and words of ours
            yield "".join(",".join(map(str, _entry(entry).values())) + "\r\n" for entry in page).encode()

    headers = {"Content-Disposition": 'attachment; filename="shardy-credit.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(lines(), headers=headers, media_type="text/csv; charset=utf-8")


def _sum(tasks: int, ops: int) -> dict[str, Any]:
    return {"tasks": tasks, "ops": ops, "credit": ops / OPS_PER_CREDIT}


def _entry(entry: Entry) -> dict[str, Any]:
    return {column: getattr(entry, column) for column in COLUMNS}
