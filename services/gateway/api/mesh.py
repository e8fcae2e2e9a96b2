"""The mesh as a whole: health, devices, proven wrong results."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from shardy_common.errors import Refused
from shardy_gateway import jobs
from shardy_gateway.api.common import caller, state_of

router = APIRouter()


@router.get("/v1/workers", tags=["mesh"])
async def list_workers(request: Request) -> dict[str, Any]:
    caller(request)
    return {"workers": [jobs.show_worker(worker) for worker in state_of(request).views.workers.values()]}


@router.get("/v1/workers/{worker_id}", tags=["mesh"])
async def get_worker(request: Request, worker_id: str) -> dict[str, Any]:
    """A device with its trust, its reliability, and the evidence for each penalty."""
    caller(request)
    views = state_of(request).views
    worker = views.workers.get(worker_id)
    if worker is None:
        raise Refused("no device of this id ever joined", status=404, title="No such worker")
    frauds = [jobs.show_fraud(fraud) for fraud in views.frauds_of(worker_id)]
    return {**jobs.show_worker(worker), **jobs.show_reputation(views.reputations.of(worker_id)), "frauds": frauds}


@router.get("/v1/frauds", tags=["mesh"])
async def list_frauds(request: Request, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> dict[str, Any]:
    caller(request)
    return {"frauds": [jobs.show_fraud(fraud) for fraud in state_of(request).views.frauds(None, limit)]}


@router.get("/healthz", tags=["mesh"])
async def health(request: Request) -> JSONResponse:
    state = state_of(request)
    live = state.loop.live.is_set() and state.log.client.is_connected
    body = {
        "status": "ok" if live else "starting",
        "gateway": state.name,
        "checkpoint": state.loop.projection.checkpoint,
        "workers": len(state.hub.sessions),
        "limits": jobs.limits_shown(),
    }
    return JSONResponse(body, status_code=200 if live else 503)
