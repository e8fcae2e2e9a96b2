"""The mesh as a whole: what it is, health, devices, proven wrong results."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from shardy_common import kinds
from shardy_common.errors import Refused
from shardy_common.replies import SERVICES, statuses
from shardy_gateway import jobs, lookups
from shardy_gateway.api.common import OPERATE, caller, state_of
from shardy_gateway.ledger import OPS_PER_CREDIT

router = APIRouter()
FRAUDS_SHOWN_MAX = 100


@router.get("/v1/mesh", tags=["mesh"])
async def show_mesh(request: Request) -> dict[str, Any]:
    """What this mesh is, speaks and allows. `mesh_key` signs receipts; `mesh_keys` are all that ever did."""
    caller(request)
    state = state_of(request)
    return {
        "name": "shardy",
        "version": version("shardy"),
        "gateway": state.name,
        "mesh_key": state.mesh_key,
        "mesh_keys": state.mesh_keys(),
        "policies": list(kinds.POLICIES),
        "kinds": list(kinds.KINDS),
        "limits": jobs.limits_shown() | state.gates.shown(),
        "pressure": state.pressure().shown() | state.stored(),
    }


@router.get("/v1/workers", tags=["mesh"])
async def list_workers(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=5_000)] = 1_000,
    after: Annotated[str, Query(max_length=128, description="`next` of the page before")] = "",
    present: Annotated[bool | None, Query(description="only those that are here (true), or are not (false)")] = None,
) -> dict[str, Any]:
    """Every device that ever joined, by id."""
    caller(request)
    page = state_of(request).views.worker_page(after, present, limit)
    return {"workers": [jobs.show_worker(w) for w in page], "next": page[-1].id if len(page) == limit else None}


@router.get("/v1/workers/{worker_id}", tags=["mesh"])
async def get_worker(request: Request, worker_id: str) -> dict[str, Any]:
    """One device with its trust, its reliability, and the evidence for each penalty."""
    caller(request)
    views = state_of(request).views
    worker = views.workers.find(worker_id)
    if worker is None:
        raise Refused("no worker with this id ever joined", status=404, title="No such worker")
    frauds = lookups.fraud_page(views, 0, FRAUDS_SHOWN_MAX, worker_id)
    shown = jobs.show_worker(worker) | jobs.show_reputation(views.reputations.of(worker_id))
    shown["credit"] = views.ledger.total_of(worker_id)[1] / OPS_PER_CREDIT
    return shown | {"frauds": [jobs.show_fraud(fraud) for fraud in frauds]}


@router.get("/v1/frauds", tags=["mesh"])
async def list_frauds(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    before: Annotated[str, Query(pattern="^[0-9]{0,18}$", description="`next` of the page before")] = "",
) -> dict[str, Any]:
    """Proven wrong results of the whole mesh, newest first."""
    caller(request)
    page = lookups.fraud_page(state_of(request).views, int(before or 0), limit)
    shown = [jobs.show_fraud(fraud) for fraud in page]
    return {"frauds": shown, "next": str(page[-1].seq) if len(page) == limit else None}


@router.get("/v1/refusals", tags=["mesh"])
async def list_refusals(request: Request) -> dict[str, Any]:
    """What this gateway refused since it started: calls by problem, worker sockets by close code."""
    caller(request, OPERATE)
    return state_of(request).refusals.shown()


@router.get("/v1/services", tags=["mesh"])
async def list_services(request: Request) -> dict[str, Any]:
    """Every service with its replicas: how far each has folded the log, and what it could not fold."""
    caller(request, OPERATE)
    client = state_of(request).log.client
    answers = await asyncio.gather(*(statuses(client, name) for name in SERVICES), return_exceptions=True)
    found = {name: [] if isinstance(a, BaseException) else a for name, a in zip(SERVICES, answers, strict=True)}
    return {
        "services": [
            {"name": name, "replicas": sorted(replicas, key=lambda r: str(r["instance"]))}
            for name, replicas in found.items()
        ]
    }


@router.get("/healthz", tags=["mesh"])
async def health(request: Request) -> JSONResponse:
    """Whether this gateway follows the log: 200, or 503 while it starts or has lost it."""
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
