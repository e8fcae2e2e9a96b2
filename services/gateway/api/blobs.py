"""Blobs for requesters; operand slices and result bytes for workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from shardy_common import ids, kinds, limits
from shardy_common.errors import Refused, Transient
from shardy_gateway.api.common import SUBMIT, caller, state_of, too_large, worker_of
from shardy_gateway.assemble import BLOCK_BYTES
from shardy_gateway.visitors import seen_by

router = APIRouter()


@router.head("/v1/blobs/{digest}", tags=["blobs"])
async def head_blob(request: Request, digest: str) -> Response:
    caller(request, SUBMIT)
    size = state_of(request).blobs.size(_digest(digest))
    if size is None:
        return Response(status_code=404)
    return Response(headers={"Content-Length": str(size), "Accept-Ranges": "bytes"})


@router.put("/v1/blobs/{digest}", tags=["blobs"])
async def put_blob(request: Request, digest: str) -> JSONResponse:
    """Store the body under its BLAKE3. 201, or 200 when it was there already."""
    caller(request, SUBMIT)
    blobs = state_of(request).blobs
    size = blobs.size(_digest(digest))
    if size is not None:
        return JSONResponse({"digest": digest, "bytes": size})
    found, size = await _receive(request, limits.BLOB_BYTES_MAX, digest)
    return JSONResponse({"digest": found, "bytes": size}, status_code=201)


@router.get("/v1/blobs/{digest}", tags=["blobs"])
async def get_blob(request: Request, digest: str) -> Response:
    caller(request, SUBMIT)
    return _send_blob(request, _digest(digest))


@router.get("/v1/worker/blobs/{digest}", tags=["worker"])
async def worker_blob(request: Request, digest: str) -> Response:
    """Operand bytes for a joined worker; Range picks the slice that its lease names.

    Only blobs that its leases name: results of others, and what other jobs compute with, are none of its business.
    """
    session, named = await worker_of(request), _digest(digest)
    if not await seen_by(session, lambda: named in session.operands):
        raise Refused("none of your leases names this blob", status=404, title="Not found")
    return _send_blob(request, digest)


@router.put("/v1/worker/results/{lease}", tags=["worker"])
async def put_result(request: Request, lease: str) -> JSONResponse:
    """Result bytes too large for a frame; the result frame that follows names their digest."""
    session, state = await worker_of(request), state_of(request)
    task_id = lease.rpartition("-")[0]
    await seen_by(session, lambda: task_id in state.views.tasks and lease in state.views.tasks[task_id].leases)
    task = state.views.tasks.get(task_id)
    if task is None or task.leases.get(lease) != session.worker:
        raise Refused("this lease is not yours, or its task has been decided", status=409, title="No such lease")
    job = state.views.jobs[task.job]
    want = kinds.KINDS[job.spec.kind].result_bytes(job.spec, task.tile.rows, task.tile.cols)
    digest, size = await _receive(request, want, None)
    if size != want:
        raise Refused(f"the result of this lease has {want} bytes, the body had {size}", limit=f"{want} bytes")
    session.seen = time.monotonic()
    session.uploads[lease] = (digest, size)
    return JSONResponse({"digest": digest, "bytes": size}, status_code=201)


async def _receive(request: Request, bytes_max: int, expected: str | None) -> tuple[str, int]:
    """Stream the body into the store. The digest must be `expected`, if given."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > bytes_max:
        raise too_large(bytes_max)
    try:
        writer = state_of(request).blobs.writer()
    except OSError as error:
        raise Transient(f"the mesh could not store the bytes ({error.strerror}); try again later") from None
    try:
        async for chunk in request.stream():
            if writer.size + len(chunk) > bytes_max:
                raise too_large(bytes_max)
            writer.write(chunk)
        if expected is not None and writer.hexdigest() != expected:
            raise Refused(
                f"the body's BLAKE3 is {writer.hexdigest()}, the address says {expected}: it was damaged or cut short",
                title="Digest mismatch",
            )
        return writer.finish()
    except OSError as error:
        writer.abandon()
        raise Transient(f"the mesh could not store the bytes ({error.strerror}); try again later") from None
    except (Refused, ClientDisconnect, asyncio.CancelledError):
        writer.abandon()
        raise


def _send_blob(request: Request, digest: str) -> Response:
    blobs = state_of(request).blobs
    size = blobs.size(digest)
    if size is None:
        raise Refused("no such blob", status=404, title="Not found")
    start, end = _range(request.headers.get("range", ""), size)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "Cache-Control": "private, max-age=31536000, immutable",
        "ETag": f'"{digest}"',
    }
    status = 206 if "range" in request.headers else 200
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"

    def blocks() -> Iterator[bytes]:
        for at in range(start, end, BLOCK_BYTES):
            yield blobs.read(digest, at, min(BLOCK_BYTES, end - at))

    if end - start <= BLOCK_BYTES:
        body = blobs.read(digest, start, end - start)
        return Response(body, status, headers, media_type="application/octet-stream")
    return StreamingResponse(blocks(), status, headers, media_type="application/octet-stream")


def _range(header: str, size: int) -> tuple[int, int]:
    """One byte range as [start, end)."""
    if not header:
        return 0, size
    unit, _, spec = header.partition("=")
    first, dash, last = spec.partition("-")
    if unit.strip() != "bytes" or not dash or not _count(first) or (last.strip() and not _count(last)):
        raise Refused("Range is one range: bytes=FIRST-LAST", status=416, title="Bad range")
    start = int(first)
    end = int(last) + 1 if last.strip() else size
    if start >= end or end > size:
        raise Refused(f"the range is outside the blob's {size} bytes", status=416, title="Bad range")
    return start, end


def _count(text: str) -> bool:
    """Whether int() takes it: ASCII digits only, and not thousands of them."""
    return text.isascii() and text.strip().isdigit() and len(text) < 20


def _digest(text: str) -> str:
    if not ids.is_digest(text):
        raise Refused("a digest is 64 lower-case hex digits (BLAKE3)", status=400, title="Bad digest")
    return text
