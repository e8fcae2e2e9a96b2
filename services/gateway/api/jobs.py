"""Jobs: submitted, watched, cancelled, and their results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from shardy_common import ids, kinds, limits
from shardy_common.blobs import MissingBlob
from shardy_common.engine import Engine
from shardy_common.errors import Refused, Transient
from shardy_common.log import Append, Appended
from shardy_common.tracing import child_traceparent
from shardy_common.wire import events as ev
from shardy_common.wire import frame, subjects
from shardy_gateway import jobs
from shardy_gateway.api.common import SUBMIT, append, caller, job_of, read_body, state_of
from shardy_gateway.assemble import Assembler
from shardy_gateway.state import GatewayState
from shardy_gateway.views import JobView

router = APIRouter()
WAIT_S_MAX = 60.0
WHOLE_BODY_BYTES_MAX = 1 << 20
Wait = Annotated[float, Query(ge=0, le=WAIT_S_MAX, description="seconds to wait for the job's end")]


@router.post("/v1/jobs", tags=["jobs"], status_code=201)
async def submit(request: Request, wait: Wait = 0, content_type: Annotated[str, Header()] = "") -> JSONResponse:
    """Submit a job: JSON naming stored blobs, or a frame with small operands inline."""
    state, key = state_of(request), caller(request, SUBMIT).owner
    if content_type.startswith(jobs.FRAME_TYPE):
        whole = await read_body(request, frame.FRAME_BYTES_MAX)
        try:
            body = jobs.read_frame(whole, state.blobs)
        except OSError as error:
            raise Transient(f"the mesh could not store the operands ({error.strerror}); try again later") from None
    else:
        body = jobs.read_json(await read_body(request, jobs.JSON_BYTES_MAX))
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
    await append(state, Append(event, f"job/{job_id}", 0, trace=trace))
    job = await state.appeared(job_id)
    return JSONResponse(await _status(state, job, wait), status_code=201)


@router.get("/v1/jobs", tags=["jobs"])
async def list_jobs(
    request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 50, before: str = ""
) -> dict[str, Any]:
    state, key = state_of(request), caller(request, SUBMIT).owner
    page = state.views.job_page(key, before, limit)
    shown = [_shown(state, job) for job in page]
    return {"jobs": shown, "next": page[-1].id if len(page) == limit else None}


@router.get("/v1/jobs/{job_id}", tags=["jobs"])
async def getjob_of(request: Request, job_id: str, wait: Wait = 0) -> dict[str, Any]:
    state = state_of(request)
    return await _status(state, job_of(request, job_id), wait)


@router.post("/v1/jobs/{job_id}/cancel", tags=["jobs"])
async def cancel(request: Request, job_id: str) -> dict[str, Any]:
    """Stop a job. Its running tasks are called back; a job that has ended stays as it is (409)."""
    state, key = state_of(request), caller(request, SUBMIT).owner
    job = job_of(request, job_id)
    for _ in range(3):
        if job.ended:
            raise Refused(f"the job has ended already: it is {job.state}", status=409, title="Job has ended")
        event = ev.JobCancelled(job_id, key)
        item = Append(event, f"cancel/{job_id}/{job.seq}", job.seq, subjects.of_entity("job", job_id), job.trace)
        outcome = (await state.log.append([item]))[0]
        if isinstance(outcome, Appended):
            await state.changed(job_id, 5, lambda j: j.ended)
            return await _status(state, job_of(request, job_id), 0)
        await state.changed(job_id, 1, lambda j: j.ended)
        job = job_of(request, job_id)
    raise Transient("the job changed while it was being cancelled; try again")


@router.get("/v1/jobs/{job_id}/tasks", tags=["jobs"])
async def list_tasks(
    request: Request, job_id: str, limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000
) -> dict[str, Any]:
    job = job_of(request, job_id)
    return {"tasks": [jobs.show_task(task) for task in state_of(request).views.tasks_in(job.id, limit)]}


@router.get("/v1/jobs/{job_id}/events", tags=["jobs"])
async def job_events(request: Request, job_id: str) -> StreamingResponse:
    """Server-sent events: `progress` on each change (at most ten a second), then `end`."""
    state, first = state_of(request), job_of(request, job_id)

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
    state, job = state_of(request), job_of(request, job_id)
    parts = {p.name: p for p in kinds.KINDS[job.spec.kind].parts(job.spec)}
    chosen = parts.get(part)
    if chosen is None:
        raise Refused(f"the job has the parts {', '.join(parts)}", status=404, title="No such part")
    if job.state != "completed":
        detail = job.error or "wait for it with GET /v1/jobs/{id}?wait=60"
        raise Refused(f"the job is {job.state}: {detail}", status=409, title="No result")
    tasks = [task for task in state.views.tasks_in(job.id) if task.digest]  # a reopened job left others behind
    assembler = Assembler(job, tasks, state.blobs, Engine)
    size, blocks = assembler.npy(chosen)
    headers = {"Content-Length": str(size)}
    try:
        if size <= WHOLE_BODY_BYTES_MAX:
            return Response(b"".join(blocks), headers=headers, media_type="application/x-npy")
    except MissingBlob:
        raise Refused("the result's bytes are no longer stored", status=410, title="Result gone") from None
    return StreamingResponse(blocks, headers=headers, media_type="application/x-npy")


async def _status(state: GatewayState, job: JobView, wait: float) -> dict[str, Any]:
    if wait > 0 and not job.ended:
        await state.changed(job.id, wait, lambda j: j.ended)
        job = state.views.job(job.id) or job
    return _shown(state, job)


def _shown(state: GatewayState, job: JobView) -> dict[str, Any]:
    frauds = state.views.frauds(job.id) if job.frauds else []
    return jobs.show_job(job, frauds, jobs.waiting_for(job, state.views.workers.values(), state.allow_same_address))
