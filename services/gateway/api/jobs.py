"""Jobs: submitted, watched, cancelled, and their results."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from nats.errors import Error as NatsError
from starlette.types import Message, Receive, Scope, Send

from shardy_common import ids, kinds
from shardy_common.blobs import MissingBlob
from shardy_common.errors import Refused, Transient
from shardy_common.log import Append, Appended
from shardy_common.tracing import child_traceparent
from shardy_common.wire import events as ev
from shardy_common.wire import frame, subjects
from shardy_gateway import idempotency, jobs, lookups, proving
from shardy_gateway.api.common import (
    OPERATE,
    SUBMIT,
    Caller,
    caller,
    charge_upload,
    content_type,
    job_of,
    json_object,
    now_ms,
    read_body,
    state_of,
    store_takes,
    submitter,
    wrong_type,
)
from shardy_gateway.assemble import Assembler
from shardy_gateway.shapes import JobView
from shardy_gateway.state import GatewayState

router = APIRouter()
WAIT_S_MAX = 60.0
WHOLE_BODY_BYTES_MAX = 1 << 20
RETRY_MS = 2_000  # after which a client whose stream broke asks again
STILL_S = 15
UNREAD_S = 60  # how long a client may leave an event unread before its stream is dropped
States = Literal["", "waiting", "running", "completed", "failed", "cancelled"]
Submitter = Annotated[Caller, Depends(submitter)]
Wait = Annotated[float, Query(ge=0, le=WAIT_S_MAX, description="seconds to wait for the job's end")]


@router.post("/v1/jobs", tags=["jobs"], status_code=201)
async def submit(
    request: Request,
    who: Submitter,
    wait: Wait = 0,
    idempotency_key: Annotated[
        str | None, Header(description="1 to 128 visible ASCII characters: the same key gives the same job for 24 h")
    ] = None,
    traceparent: Annotated[str, Header(description="W3C trace context: the job's events and leases carry it on")] = "",
) -> JSONResponse:
    """Submit a job: JSON naming stored blobs, or a frame with small operands inline. 200 with
    `Idempotent-Replayed: true` if the `Idempotency-Key` named the same job before."""
    state = state_of(request)
    idem = idempotency.idem_of(who.owner, idempotency_key) if idempotency_key is not None else ""
    known = state.views.idempotency.find(idem, now_ms()) if idem else None
    if known is None:
        state.admit(who.owner)  # before anything of it is read or stored
    spec = jobs.read_spec(await _read(request, state))
    body = idempotency.body_of(spec) if idem else ""
    if known is None:
        jobs.check_blobs(spec, state.blobs)
        spec = proving.planned(spec, state.views.verifiers.registry)
        event = ev.JobSubmitted(ids.new_job_id(), spec, who.owner, idem, body)
        known = await _record(state, event, child_traceparent(traceparent))
        if known.job == event.job:
            return JSONResponse(await _waited(state, who.key, await state.appeared(event.job), wait), 201)
    idempotency.check_same(known, body)
    job = await state.appeared(known.job)
    return JSONResponse(await _waited(state, who.key, job, wait), 200, {"Idempotent-Replayed": "true"})


async def _read(request: Request, state: GatewayState) -> dict[str, Any]:
    """The body as the map that a job is."""
    kind = content_type(request)
    if kind == jobs.FRAME_TYPE:
        with state.gates.body(caller(request).key):
            whole = await read_body(request, frame.FRAME_BYTES_MAX)
        charge_upload(request, len(whole))
        store_takes(request, len(whole))
        try:
            return jobs.read_frame(whole, state.blobs)
        except OSError as error:
            raise Transient(f"the mesh could not store the operands ({error.strerror}); try again later") from None
    if kind not in ("", "application/json"):
        raise wrong_type(kind, "application/json", jobs.FRAME_TYPE)
    return json_object(await read_body(request, jobs.JSON_BYTES_MAX))


async def _record(state: GatewayState, event: ev.JobSubmitted, trace: str) -> idempotency.Named:
    """Append the job; which job it is: an earlier one if another request with the same key came first."""
    msg_id = f"idem/{event.idem}" if event.idem else f"job/{event.job}"
    outcome = await state.append(Append(event, msg_id, 0, trace=trace))
    if event.idem and isinstance(outcome, Appended) and outcome.duplicate:
        try:
            first = await state.log.get(outcome.seq)
        except (NatsError, TimeoutError, OSError):
            raise Transient("the event log does not answer; repeat with the same Idempotency-Key") from None
        if first is not None and isinstance(first.event, ev.JobSubmitted):
            return idempotency.Named(first.event.job, first.event.body)
    return idempotency.Named(event.job, event.body)


@router.get("/v1/jobs", tags=["jobs"])
async def list_jobs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[str, Query(max_length=128, description="`next` of the page before")] = "",
    state: Annotated[States, Query(description="only jobs in this state")] = "",
    all: Annotated[bool, Query(description="of everybody: needs the scope operate")] = False,
) -> dict[str, Any]:
    """Jobs of the key's owner, newest first."""
    who = caller(request, OPERATE if all else SUBMIT)
    gateway = state_of(request)
    page = lookups.job_page(gateway.views, None if all else who.owner, before, state, limit)
    shown = [_shown(gateway, job) for job in page]
    return {"jobs": shown, "next": page[-1].id if len(page) == limit else None}


@router.get("/v1/jobs/{job_id}", tags=["jobs"])
async def get_job(request: Request, job_id: str, wait: Wait = 0) -> dict[str, Any]:
    """A job's status; with `wait`, when it ends or the time is over."""
    state, job = state_of(request), await job_of(request, job_id)
    if wait > 0 and not job.ended and not state.gates.waits.take(key := caller(request).key):
        raise Refused(
            f"{state.gates.waits.why(key)} calls wait for jobs: come back later, or ask without wait",
            status=429,
            title="Too many waits",
            limit=f"{state.gates.waits.each} calls that wait",
            retry_s=1,
        )
    elif wait > 0 and not job.ended:
        try:
            return await _status(state, job, wait)
        finally:
            state.gates.waits.release(key)
    return await _status(state, job, 0)


@router.post("/v1/jobs/{job_id}/cancel", tags=["jobs"])
async def cancel(request: Request, job_id: str) -> dict[str, Any]:
    """Stop a job. Its running tasks are called back; a job that has ended stays as it is (409)."""
    state, key = state_of(request), caller(request).owner
    job = await job_of(request, job_id)
    for _ in range(3):
        if job.ended:
            raise Refused(f"the job has ended already: it is {job.state}", status=409, title="Job has ended")
        event = ev.JobCancelled(job_id, key)
        item = Append(event, f"cancel/{job_id}/{job.seq}", job.seq, subjects.of_entity("job", job_id), job.trace)
        outcome = (await state.log.append([item]))[0]
        if isinstance(outcome, Appended):
            await state.changed(job_id, 5, lambda j: j.ended)
            return await _status(state, await job_of(request, job_id), 0)
        await state.changed(job_id, 1, lambda j: j.ended)
        job = await job_of(request, job_id)
    raise Transient("the job changed while it was being cancelled; try again")


@router.get("/v1/jobs/{job_id}/tasks", tags=["jobs"])
async def list_tasks(
    request: Request,
    job_id: str,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    after: Annotated[str, Query(max_length=128, description="`next` of the page before")] = "",
) -> dict[str, Any]:
    """A job's tasks by their place in the result: tiles, leases, digests and verdicts."""
    job = await job_of(request, job_id)
    page = lookups.task_page(state_of(request).views, job.id, after, limit)
    return {"tasks": [jobs.show_task(t) for t in page], "next": page[-1].id if len(page) == limit else None}


@router.get("/v1/jobs/{job_id}/events", tags=["jobs"])
async def job_events(
    request: Request,
    job_id: str,
    last_event_id: Annotated[str, Header(description="id of the last event that was heard")] = "",
) -> Response:
    """Server-sent events: `progress` with the status on each change (at most ten a second), then `end`. An event's id
    counts the job's changes, the same on every gateway; with `Last-Event-ID` only what is newer is told, and 204 says
    that there is nothing more to come."""
    state, job = state_of(request), await job_of(request, job_id)
    heard = (
        int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 16 else -1
    )
    if job.ended and heard >= job.changes:
        return Response(status_code=204)
    return EventStream(state, caller(request).key, job, heard)


@router.get("/v1/jobs/{job_id}/result/{part}", tags=["jobs"])
async def get_result(request: Request, job_id: str, part: str) -> Response:
    """A part of the result as an .npy file."""
    state, job = state_of(request), await job_of(request, job_id, lambda job: job.state == "completed")
    parts = {p.name: p for p in kinds.KINDS[job.spec.kind].parts(job.spec)}
    chosen = parts.get(part)
    if chosen is None:
        raise Refused(f"the job has the parts {', '.join(parts)}", status=404, title="No such part")
    if job.state != "completed":
        detail = job.error or "wait for it with GET /v1/jobs/{id}?wait=60"
        raise Refused(f"the job is {job.state}: {detail}", status=409, title="No result")
    tasks = [task for task in state.views.tasks_in(job.id) if task.digest]  # a reopened job left others behind
    assembler = Assembler(job, tasks, state.blobs)
    size, blocks = assembler.npy(chosen)
    headers = {"Content-Length": str(size)}
    try:
        if size <= WHOLE_BODY_BYTES_MAX:
            return Response(b"".join(blocks), headers=headers, media_type="application/x-npy")
    except MissingBlob:
        raise Refused("the result's bytes are no longer stored", status=410, title="Result gone") from None
    return StreamingResponse(blocks, headers=headers, media_type="application/x-npy")


class EventStream(StreamingResponse):
    """Counted among the key's streams until the connection is closed, however that happens."""

    def __init__(self, state: GatewayState, key: str, job: JobView, heard: int) -> None:
        self._gates, self._key = state.gates, key
        self._gates.open_stream(key)
        super().__init__(_events(state, job, heard), 200, {"Cache-Control": "no-store"}, "text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(UNREAD_S):  # nothing is gathered meanwhile: the next event is the latest state
                await send(message)

        try:
            with contextlib.suppress(TimeoutError):
                await super().__call__(scope, receive, in_time)
        finally:
            self._gates.close_stream(self._key)


async def _events(state: GatewayState, job: JobView, heard: int) -> AsyncIterator[bytes]:
    yield b"retry: %d\n\n" % RETRY_MS
    while True:
        if job.changes > heard or job.ended:
            heard = job.changes
            name = b"end" if job.ended else b"progress"
            yield b"id: %d\nevent: %b\ndata: %b\n\n" % (heard, name, msgspec.json.encode(_shown(state, job)))
            if job.ended:
                return
            await asyncio.sleep(0.1)
        if not await state.changed(job.id, STILL_S, lambda j, heard=heard: j.changes > heard):
            yield b": still here\n\n"
        job = state.views.job(job.id) or job


async def _waited(state: GatewayState, key: str, job: JobView, wait: float) -> dict[str, Any]:
    """The status when the job ends or the time is over; as it is now where too many wait: the job is recorded."""
    if wait <= 0 or not state.gates.waits.take(key):
        return _shown(state, job)
    try:
        return await _status(state, job, wait)
    finally:
        state.gates.waits.release(key)


async def _status(state: GatewayState, job: JobView, wait: float) -> dict[str, Any]:
    if wait > 0 and not job.ended:
        await state.changed(job.id, wait, lambda j: j.ended)
        job = state.views.job(job.id) or job
    return _shown(state, job)


def _shown(state: GatewayState, job: JobView) -> dict[str, Any]:
    frauds = state.views.frauds(job.id) if job.frauds else []
    return jobs.show_job(job, frauds, jobs.waiting_for(job, state.views.workers.values(), state.allow_same_address))
