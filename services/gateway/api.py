"""The HTTP API under /v1 (docs/api.md), and the worker's blob and result endpoints."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from shardy_common import ids, kinds, limits
from shardy_common.blobs import MissingBlob
from shardy_common.engine import Engine
from shardy_common.errors import Refused, Transient
from shardy_common.log import Append, Appended, Conflict
from shardy_common.tracing import child_traceparent
from shardy_common.wire import events as ev
from shardy_common.wire import frame, subjects
from shardy_gateway import jobs
from shardy_gateway.assemble import BLOCK_BYTES, Assembler
from shardy_gateway.session import Session
from shardy_gateway.state import GatewayState
from shardy_gateway.views import JobView

router = APIRouter()
WAIT_S_MAX = 60.0
WHOLE_BODY_BYTES_MAX = 1 << 20


def _state(request: Request) -> GatewayState:
    return request.app.state.gateway


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def requester(request: Request) -> str:
    """Id of the API key that made the request. 401 without a known one."""
    token = _bearer(request)
    digest = hashlib.sha256(token.encode()).hexdigest()
    for known in _state(request).api_keys():
        if hmac.compare_digest(known, digest):
            return digest[:16]
    detail = "this API key is not known" if token else "send your API key as: Authorization: Bearer KEY"
    raise Refused(detail, status=401, title="No valid API key")


def worker_session(request: Request) -> Session:
    session = _state(request).door.tokens.get(_bearer(request))
    if session is None:
        raise Refused("the session token is not known: join again", status=401, title="No valid session token")
    return session


# -- blobs ------------------------------------------------------------------------------------------------------------


@router.head("/v1/blobs/{digest}", tags=["blobs"])
async def head_blob(request: Request, digest: str) -> Response:
    requester(request)
    size = _state(request).blobs.size(_digest(digest))
    if size is None:
        return Response(status_code=404)
    return Response(headers={"Content-Length": str(size), "Accept-Ranges": "bytes"})


@router.put("/v1/blobs/{digest}", tags=["blobs"])
async def put_blob(request: Request, digest: str) -> JSONResponse:
    """Store the body under its BLAKE3. 201, or 200 when it was there already."""
    requester(request)
    blobs = _state(request).blobs
    size = blobs.size(_digest(digest))
    if size is not None:
        return JSONResponse({"digest": digest, "bytes": size})
    found, size = await _receive(request, limits.BLOB_BYTES_MAX, digest)
    return JSONResponse({"digest": found, "bytes": size}, status_code=201)


@router.get("/v1/blobs/{digest}", tags=["blobs"])
async def get_blob(request: Request, digest: str) -> Response:
    requester(request)
    return _send_blob(request, _digest(digest))


@router.get("/v1/worker/blobs/{digest}", tags=["worker"])
async def worker_blob(request: Request, digest: str) -> Response:
    """Operand bytes for a joined worker; Range picks the slice that its lease names."""
    worker_session(request)
    return _send_blob(request, _digest(digest))


@router.put("/v1/worker/results/{lease}", tags=["worker"])
async def put_result(request: Request, lease: str) -> JSONResponse:
    """Result bytes too large for a frame; the result frame that follows names their digest."""
    session, state = worker_session(request), _state(request)
    task = state.views.tasks.get(lease.rpartition("-")[0])
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
        raise _too_large(bytes_max)
    try:
        writer = _state(request).blobs.writer()
    except OSError as error:
        raise Transient(f"the mesh could not store the bytes ({error.strerror}); try again later") from None
    try:
        async for chunk in request.stream():
            if writer.size + len(chunk) > bytes_max:
                raise _too_large(bytes_max)
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


def _too_large(bytes_max: int) -> Refused:
    return Refused(
        f"the body is over the limit of {bytes_max} bytes: split it by rows",
        status=413,
        title="Body too large",
        limit=f"{bytes_max} bytes",
    )


def _send_blob(request: Request, digest: str) -> Response:
    blobs = _state(request).blobs
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


# -- jobs -------------------------------------------------------------------------------------------------------------

Wait = Annotated[float, Query(ge=0, le=WAIT_S_MAX, description="seconds to wait for the job's end")]


@router.post("/v1/jobs", tags=["jobs"], status_code=201)
async def submit(request: Request, wait: Wait = 0, content_type: Annotated[str, Header()] = "") -> JSONResponse:
    """Submit a job: JSON naming stored blobs, or a frame with small operands inline."""
    state, key = _state(request), requester(request)
    if content_type.startswith(jobs.FRAME_TYPE):
        whole = await _body(request, frame.FRAME_BYTES_MAX)
        try:
            body = jobs.read_frame(whole, state.blobs)
        except OSError as error:
            raise Transient(f"the mesh could not store the operands ({error.strerror}); try again later") from None
    else:
        body = jobs.read_json(await _body(request, jobs.JSON_BYTES_MAX))
    spec = jobs.read_spec(body)
    jobs.check_blobs(spec, state.blobs)
    active = sum(job.requester == key for job in state.views.jobs.values())
    if active >= limits.JOBS_ACTIVE_PER_REQUESTER_MAX:
        raise Refused(
            f"{active} of your jobs are active: wait for some to end",
            status=429,
            title="Too many active jobs",
            limit=f"{limits.JOBS_ACTIVE_PER_REQUESTER_MAX} active jobs",
        )
    job_id = ids.new_job_id()
    trace = child_traceparent(request.headers.get("traceparent", ""))
    event = ev.JobSubmitted(job_id, spec, key)
    await _append(state, Append(event, f"job/{job_id}", 0, trace=trace))
    job = await state.appeared(job_id)
    return JSONResponse(await _status(state, job, wait), status_code=201)


@router.get("/v1/jobs", tags=["jobs"])
async def list_jobs(
    request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 50, before: str = ""
) -> dict[str, Any]:
    state, key = _state(request), requester(request)
    page = state.views.job_page(key, before, limit)
    shown = [_shown(state, job) for job in page]
    return {"jobs": shown, "next": page[-1].id if len(page) == limit else None}


@router.get("/v1/jobs/{job_id}", tags=["jobs"])
async def get_job(request: Request, job_id: str, wait: Wait = 0) -> dict[str, Any]:
    state = _state(request)
    return await _status(state, _job(request, job_id), wait)


@router.post("/v1/jobs/{job_id}/cancel", tags=["jobs"])
async def cancel(request: Request, job_id: str) -> dict[str, Any]:
    """Stop a job. Its running tasks are called back; a job that has ended stays as it is (409)."""
    state, key = _state(request), requester(request)
    job = _job(request, job_id)
    for _ in range(3):
        if job.ended:
            raise Refused(f"the job has ended already: it is {job.state}", status=409, title="Job has ended")
        event = ev.JobCancelled(job_id, key)
        item = Append(event, f"cancel/{job_id}/{job.seq}", job.seq, subjects.of_entity("job", job_id), job.trace)
        outcome = (await state.log.append([item]))[0]
        if isinstance(outcome, Appended):
            await state.changed(job_id, 5, lambda j: j.ended)
            return await _status(state, _job(request, job_id), 0)
        await state.changed(job_id, 1, lambda j: j.ended)
        job = _job(request, job_id)
    raise Transient("the job changed while it was being cancelled; try again")


@router.get("/v1/jobs/{job_id}/tasks", tags=["jobs"])
async def list_tasks(
    request: Request, job_id: str, limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000
) -> dict[str, Any]:
    job = _job(request, job_id)
    return {"tasks": [jobs.show_task(task) for task in _state(request).views.tasks_in(job.id, limit)]}


@router.get("/v1/jobs/{job_id}/events", tags=["jobs"])
async def job_events(request: Request, job_id: str) -> StreamingResponse:
    """Server-sent events: `progress` on each change (at most ten a second), then `end`."""
    state, first = _state(request), _job(request, job_id)

    async def events() -> AsyncIterator[bytes]:
        job = first
        while True:
            name = b"end" if job.ended else b"progress"
            data = msgspec.json.encode(_shown(state, job))
            yield b"event: " + name + b"\ndata: " + data + b"\n\n"
            if job.ended:
                return
            await asyncio.sleep(0.1)
            seen = (job.cells_done, job.tasks_active, job.frauds, job.state)
            changed = await state.changed(
                job_id, 15, lambda j, seen=seen: (j.cells_done, j.tasks_active, j.frauds, j.state) != seen
            )
            if not changed:
                yield b": still here\n\n"
            job = state.views.job(job_id) or job

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get("/v1/jobs/{job_id}/result/{part}", tags=["jobs"])
async def get_result(request: Request, job_id: str, part: str) -> Response:
    """A part of the result as an .npy file."""
    state, job = _state(request), _job(request, job_id)
    parts = {p.name: p for p in kinds.KINDS[job.spec.kind].parts(job.spec)}
    chosen = parts.get(part)
    if chosen is None:
        raise Refused(f"the job has the parts {', '.join(parts)}", status=404, title="No such part")
    if job.state != "completed":
        detail = job.error or "wait for it with GET /v1/jobs/{id}?wait=60"
        raise Refused(f"the job is {job.state}: {detail}", status=409, title="No result")
    assembler = Assembler(job, state.views.tasks_in(job.id), state.blobs, Engine)
    size, blocks = assembler.npy(chosen)
    headers = {"Content-Length": str(size)}
    try:
        if size <= WHOLE_BODY_BYTES_MAX:
            return Response(b"".join(blocks), headers=headers, media_type="application/x-npy")
    except MissingBlob:
        raise Refused("the result's bytes are no longer stored", status=410, title="Result gone") from None
    return StreamingResponse(blocks, headers=headers, media_type="application/x-npy")


@router.get("/v1/workers", tags=["mesh"])
async def list_workers(request: Request) -> dict[str, Any]:
    requester(request)
    return {"workers": [jobs.show_worker(worker) for worker in _state(request).views.workers.values()]}


@router.get("/v1/frauds", tags=["mesh"])
async def list_frauds(request: Request, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> dict[str, Any]:
    requester(request)
    return {"frauds": [jobs.show_fraud(fraud) for fraud in _state(request).views.frauds(None, limit)]}


@router.get("/v1/dlq", tags=["mesh"])
async def list_letters(request: Request, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> dict[str, Any]:
    requester(request)
    return {"entries": _state(request).views.letters(limit)}


@router.get("/healthz", tags=["mesh"])
async def health(request: Request) -> JSONResponse:
    state = _state(request)
    live = state.loop.live.is_set() and state.log.client.is_connected
    body = {
        "status": "ok" if live else "starting",
        "gateway": state.name,
        "checkpoint": state.loop.projection.checkpoint,
        "workers": len(state.hub.sessions),
        "limits": jobs.limits_shown(),
    }
    return JSONResponse(body, status_code=200 if live else 503)


def _job(request: Request, job_id: str) -> JobView:
    key = requester(request)
    job = _state(request).views.job(job_id) if ids.is_token(job_id) else None
    if job is None or job.requester != key:
        raise Refused("you have no job of this id", status=404, title="No such job")
    return job


async def _status(state: GatewayState, job: JobView, wait: float) -> dict[str, Any]:
    if wait > 0 and not job.ended:
        await state.changed(job.id, wait, lambda j: j.ended)
        job = state.views.job(job.id) or job
    return _shown(state, job)


def _shown(state: GatewayState, job: JobView) -> dict[str, Any]:
    frauds = state.views.frauds(job.id) if job.frauds else []
    return jobs.show_job(job, frauds, jobs.waiting_for(job, state.views.workers.values(), state.allow_same_address))


async def _append(state: GatewayState, item: Append) -> None:
    """Append, trying again while the log is away; Transient when it stays away."""
    for attempt in range(5):
        outcome = (await state.log.append([item]))[0]
        if isinstance(outcome, Appended):
            return
        if isinstance(outcome, Conflict):
            return  # an earlier try, thought lost, is there
        await asyncio.sleep(0.2 * 2**attempt)
    raise Transient("the event log does not answer; nothing was submitted, try again", retry_ms=5000)


async def _body(request: Request, bytes_max: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > bytes_max:
        raise _too_large(bytes_max)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(bytes_max)
        chunks.append(chunk)
    return b"".join(chunks)
