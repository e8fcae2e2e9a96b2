"""Receipts: signed statements of what was verified, for those who were not there (docs/receipts.md)."""

from __future__ import annotations

from blake3 import blake3
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from shardy_gateway.api.common import job_of, state_of

router = APIRouter()
MEDIA_TYPE = "application/json"


@router.get("/v1/jobs/{job_id}/receipt", tags=["receipts"])
async def job_receipt(request: Request, job_id: str) -> Response:
    """A completed job's receipt, with the statements of all its tasks. 409 until it has completed."""
    job = await job_of(request, job_id, lambda job: job.state == "completed")
    head, blocks = await state_of(request).receipts.of_job(job)
    headers = _headers(head)
    if _known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return StreamingResponse(blocks, headers=headers, media_type=MEDIA_TYPE)


@router.get("/v1/jobs/{job_id}/tasks/{task_id}/receipt", tags=["receipts"])
async def task_receipt(request: Request, job_id: str, task_id: str) -> Response:
    """A verified task's receipt, as soon as the task is verified."""
    body = state_of(request).receipts.of_task(await job_of(request, job_id), task_id)
    headers = _headers(body)
    if _known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=MEDIA_TYPE)


def _headers(identity: bytes) -> dict[str, str]:
    return {"ETag": f'"{blake3(identity).hexdigest()[:32]}"', "Cache-Control": "private, no-cache"}


def _known(request: Request, etag: str) -> bool:
    """Whether the caller has this very receipt already."""
    given = request.headers.get("if-none-match", "")
    return given.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in given.split(","))
