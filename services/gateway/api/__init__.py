"""The HTTP API under /v1 (docs/api.md), and the worker's blob and result endpoints."""

from __future__ import annotations

from fastapi import APIRouter

from shardy_gateway.api import (
    blobs,
    ceremonies,
    credit,
    jobs,
    keys,
    letters,
    log,
    mesh,
    problems,
    receipts,
    uploads,
    verifiers,
)

router = APIRouter()
for part in (blobs, uploads, jobs, receipts, mesh, credit, keys, verifiers, ceremonies, letters, log, problems):
    router.include_router(part.router)
