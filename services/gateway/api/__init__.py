"""The HTTP API under /v1 (docs/api.md), and the worker's blob and result endpoints."""

from __future__ import annotations

from fastapi import APIRouter

from shardy_gateway.api import blobs, credit, jobs, letters, mesh, receipts

router = APIRouter()
for part in (blobs, jobs, receipts, mesh, credit, letters):
    router.include_router(part.router)
