"""Blobs for requesters; operand slices and result bytes for workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from shardy_common import ids, kinds, limits
from shardy_common.errors import Refused, Transient
from shardy_gateway.api.common import (
    Caller,
    announced,
    anybody,
    charge_upload,
    state_of,
    store_takes,
    submitter,
    too_large,
    worker_session,
)
from shardy_gateway.assemble import BLOCK_BYTES
from shardy_gateway.visitors import seen_by

router = APIRouter()
Submitter = Annotated[Caller, Depends(submitter)]
Storer = Annotated[Caller, Depends(anybody)]  # operators store files of circuits


@router.head("/v1/blobs/{digest}", tags=["blobs"])
async def head_blob(request: Request, digest: str, _who: Storer) -> Response:
    """Whether a blob is stored, and how long it is."""
    size = state_of(request).blobs.size(digest_of(digest))
    if size is None:
        raise Refused("no such blob", status=404, title="Not found")
    return Response(headers={"Content-Length": str(size), "Accept-Ranges": "bytes"})


@router.put("/v1/blobs/{digest}", tags=["blobs"])
async def put_blob(request: Request, digest: str, who: Storer) -> JSONResponse:
    """Store the body under its BLAKE3. 201, or 200 when it was there already."""
    blobs = state_of(request).blobs
    size = blobs.size(digest_of(digest))
    if size is not None:
        return JSONResponse({"digest": digest, "bytes": size})
    with state_of(request).gates.body(who.key):
        if announced(request) > limits.BLOB_BYTES_MAX:
            raise too_large(limits.BLOB_BYTES_MAX)
        store_takes(request, announced(request))
        found, size = await _receive(request, limits.BLOB_BYTES_MAX, digest, _charge)
    return JSONResponse({"digest": found, "bytes": size}, status_code=201)


@router.get("/v1/blobs/{digest}", tags=["blobs"])
async def get_blob(request: Request, digest: str, _who: Submitter) -> Response:
    """A blob's bytes; one range of them with `Range`."""
    return _send_blob(request, digest_of(digest))


@router.get("/v1/worker/blobs/{digest}", tags=["worker"])
async def worker_blob(request: Request, digest: str) -> Response:
    """Operand bytes for a joined worker; Range picks the slice that its lease names.

    Only blobs that its leases name: results of others, and what other jobs compute with, are none of its business.
    """
    session, named = worker_session(request), digest_of(digest)
    if not await seen_by(session, lambda: named in session.operands):
        raise Refused("none of your leases names this blob", status=404, title="Not found")
    return _send_blob(request, digest)


@router.put("/v1/worker/results/{lease}", tags=["worker"])
async def put_result(request: Request, lease: str) -> JSONResponse:
    """Result bytes too large for a frame; the result frame that follows names their digest."""
    session, state = worker_session(request), state_of(request)
    task_id = lease.rpartition("-")[0]
    await seen_by(session, lambda: task_id in state.views.tasks and lease in state.views.tasks[task_id].leases)
    task = state.views.tasks.get(task_id)
    if task is None or task.leases.get(lease) != session.worker:
        raise Refused("this lease is not yours, or its task has been decided", status=409, title="No such lease")
    job = state.views.jobs[task.job]
    want = kinds.KINDS[job.spec.kind].result_bytes(job.spec, task.tile.rows, task.tile.cols)
    with state.gates.body(session.worker):
        state.gates.result_upload(lease)
        digest, size = await _receive(request, want, None)
    if size != want:
        raise Refused(f"the result of this lease has {want} bytes, the body had {size}", limit=f"{want} bytes")
    session.seen = time.monotonic()
    session.uploads[lease] = (digest, size)
    return JSONResponse({"digest": digest, "bytes": size}, status_code=201)


def _charge(request: Request, count: int) -> None:
    store_takes(request, count)
    charge_upload(request, count)


async def _receive(
    request: Request,
    bytes_max: int,
    expected: str | None,
    charge: Callable[[Request, int], None] = lambda _request, _count: None,
) -> tuple[str, int]:
    """Stream the body into the store. The digest must be `expected`, if given; charge hears of each piece."""
    if announced(request) > bytes_max:
        raise too_large(bytes_max)
    try:
        writer = state_of(request).blobs.writer()
    except OSError as error:
        raise Transient(f"the mesh could not store the bytes ({error.strerror}); try again later") from None
    try:
        async for chunk in request.stream():
            if writer.size + len(chunk) > bytes_max:
                raise too_large(bytes_max)
            charge(request, len(chunk))
            writer.write(chunk)
            state_of(request).store_room.wrote(len(chunk))
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
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "ETag": f'"{digest}"',
    }
    unchanged = request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
    asked = range_of(request.headers.get("range", ""), size) if unchanged else None
    start, end = asked or (0, size)
    status = 206 if asked else 200
    headers["Content-Length"] = str(end - start)
    if asked:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"

    def blocks() -> Iterator[bytes]:
        for at in range(start, end, BLOCK_BYTES):
            yield blobs.read(digest, at, min(BLOCK_BYTES, end - at))

    if end - start <= BLOCK_BYTES:
        body = blobs.read(digest, start, end - start)
        return Response(body, status, headers, media_type="application/octet-stream")
    return StreamingResponse(blocks(), status, headers, media_type="application/octet-stream")


def range_of(header: str, size: int) -> tuple[int, int] | None:
    """One byte range as [start, end), cut where the bytes end (RFC 9110 §14). None: send the whole.

    Several ranges at once are answered by the whole, as the RFC allows; another unit than bytes has to be.
    """
    unit, equals, spec = header.partition("=")
    if not header or (equals and unit.strip().lower() != "bytes") or "," in spec:
        return None
    first, dash, last = (part.strip() for part in spec.partition("-"))
    if not equals or not dash or not (first or last) or not all(_count(part) for part in (first, last) if part):
        raise Refused("Range is bytes=FIRST-LAST, bytes=FIRST- or bytes=-LENGTH", status=400, title="Bad range")
    if not first:
        start, end = max(0, size - int(last)), size if int(last) else 0
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            raise Refused("the range ends before it begins", status=400, title="Bad range")
    if start >= size or start >= end:
        raise Refused(
            f"the range begins past the blob's {size} bytes",
            status=416,
            title="Bad range",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end


def _count(text: str) -> bool:
    """Whether int() takes it: ASCII digits only, and not thousands of them."""
    return text.isascii() and text.isdigit() and len(text) < 20


def digest_of(text: str) -> str:
    if not ids.is_digest(text):
        raise Refused("a digest is 64 lower-case hex digits (BLAKE3)", status=400, title="Bad digest")
    return text
