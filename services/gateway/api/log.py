"""The event log, for operators: pages, a stream that follows it, and the story of a task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from nats.errors import Error as NatsError
from starlette.types import Receive, Scope, Send

from shardy_common import ids
from shardy_common.errors import Refused
from shardy_common.log import ArchiveError
from shardy_common.log.archiving import seq_at
from shardy_common.story import story
from shardy_gateway import looking, lookups
from shardy_gateway.api.common import Caller, operator, state_of
from shardy_gateway.looking import Wanted
from shardy_gateway.state import GatewayState

router = APIRouter()
Operator = Annotated[Caller, Depends(operator)]
SEQ_MAX = 2**62
STREAM_S_MAX = 3_600  # of one stream: whoever follows asks again, from where it stood
RETRY_MS = 2_000
STILL_S = 15.0
BATCH_MAX = 500
FRAUDS_MAX = 100
NAME_CHARS_MAX = 40
Job = Annotated[str, Query(max_length=128, description="events that name this job")]
Task = Annotated[str, Query(max_length=128, description="events that name this task")]
Worker = Annotated[str, Query(max_length=128, description="events that name this worker")]
Subject = Annotated[str, Query(max_length=200, description="a pattern such as task.*.ID")]
EventName = Annotated[str, Query(max_length=64, description="a name such as task.verified")]
Since = Annotated[int, Query(ge=0, le=2**52, description="recorded then or later: Unix milliseconds")]
Until = Annotated[int, Query(ge=0, le=2**52, description="recorded before then: Unix milliseconds")]


def wanted(subject: Subject = "", event: EventName = "", job: Job = "", task: Task = "", worker: Worker = "") -> Wanted:
    return Wanted(subject, event, job, task, worker).checked()


Filters = Annotated[Wanted, Depends(wanted)]


@router.get("/v1/log", tags=["log"])
async def list_events(
    request: Request,
    _who: Operator,
    filters: Filters,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    after: Annotated[int | None, Query(ge=0, le=SEQ_MAX, description="later ones, the oldest first")] = None,
    before: Annotated[int | None, Query(ge=0, le=SEQ_MAX, description="earlier ones, the newest first")] = None,
    since_ms: Since = 0,
    until_ms: Until = 0,
) -> dict[str, Any]:
    """Events of the log, the newest first, or from `after` on the oldest first. A call looks at a bounded number of
    events: a page may be short, or empty, and `next` still say where to go on."""
    log = state_of(request).log
    if after is not None and before is not None:
        raise Refused("give after or before, not both", status=422, title="Bad parameter")
    try:
        _, last = await looking.bounds(log)
        first = await _place(log, since_ms, last) if since_ms else 1
        end = await _place(log, until_ms, last) - 1 if until_ms else last
        if after is not None:
            page = await looking.forward(log, filters, max(after, first - 1), end, limit)
        else:
            page = await looking.backward(
                log, filters, end + 1 if before is None else min(before, end + 1), first, limit
            )
        return {
            "events": [looking.shown(message) for message in page.events],
            "next": page.next,
            "scanned": page.scanned,
            "last": last,
        }
    except (NatsError, TimeoutError, OSError):
        raise looking.lost() from None


async def _place(log: Any, at_ms: int, last: int) -> int:
    """The first sequence at a time or later. Archived events are looked up by their epochs."""
    extent, _ = await looking.bounds(log)
    if log.archive is not None and extent.through:
        found = await asyncio.to_thread(_archived_place, log, extent, at_ms * 1_000_000)
        if found:
            return found
    return await seq_at(log, at_ms * 1_000_000) or last + 1


def _archived_place(log: Any, extent: Any, at_ns: int) -> int:
    try:
        for _, head in log.archive.covering(extent):
            if head.last_ns >= at_ns:
                return next(m.seq for m in log.archive.between(extent, head.first, head.last) if m.at_ns >= at_ns)
    except ArchiveError as error:
        raise Refused(str(error), status=503, title="Archive missing") from None
    return 0


@router.get("/v1/log/events", tags=["log"])
async def follow_events(
    request: Request,
    who: Operator,
    filters: Filters,
    after: Annotated[int | None, Query(ge=0, le=SEQ_MAX, description="begin after this event, not now")] = None,
    wait: Annotated[float, Query(ge=0, le=STREAM_S_MAX, description="seconds until the stream ends")] = STREAM_S_MAX,
    last_event_id: Annotated[str, Header(description="id of the last event that was heard")] = "",
) -> Response:
    """Server-sent events: each event of the log as it is appended. An event's id is its sequence: with `Last-Event-ID`
    the stream goes on after it, at any gateway."""
    state = state_of(request)
    if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19:
        after = int(last_event_id)
    if after is None:
        try:
            after = await state.log.last_seq()
        except (NatsError, TimeoutError, OSError):
            raise looking.lost() from None
    return LogStream(state, who.key, filters, after, wait)


class LogStream(StreamingResponse):
    """Counted among the key's streams until the connection is closed, however that happens."""

    def __init__(self, state: GatewayState, key: str, filters: Wanted, after: int, wait_s: float) -> None:
        self._gates, self._key = state.gates, key
        self._gates.open_stream(key)
        events = _followed(state, filters, after, wait_s)
        super().__init__(events, 200, {"Cache-Control": "no-store"}, "text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._gates.close_stream(self._key)


async def _followed(state: GatewayState, filters: Wanted, after: int, wait_s: float) -> AsyncIterator[bytes]:
    """A reader of its own for each follower: the flow control of the log holds back what a slow one does not take."""
    yield b"retry: %d\n\n" % RETRY_MS
    reader = state.log.read([], after)
    loop = asyncio.get_running_loop()
    told = loop.time()
    end = told + wait_s
    try:
        while True:
            left = end - loop.time()
            if left <= 0 and (reader.caught_up or left < -STILL_S):
                return
            for message in await reader.messages(BATCH_MAX, min(max(left, 0.05), STILL_S)):
                if filters.takes(message):
                    told = loop.time()
                    shown = msgspec.json.encode(looking.shown(message))
                    yield b"id: %d\nevent: event\ndata: %b\n\n" % (message.seq, shown)
            if loop.time() - told >= STILL_S:
                told = loop.time()
                yield b": still here\n\n"
            await asyncio.sleep(0)
    except ArchiveError as error:
        yield b"event: error\ndata: %b\n\n" % msgspec.json.encode({"detail": str(error)})
    finally:
        await reader.close()


@router.get("/v1/log/tasks/{task_id}", tags=["log"])
async def task_story(request: Request, task_id: str, _who: Operator) -> dict[str, Any]:
    """All that happened to a task, in order, and of each event which earlier ones it follows from: leases, results,
    disputes, audits, the verdict, dead letters."""
    state = state_of(request)
    job_id = ids.job_of(task_id)
    job = state.views.job(job_id) if ids.is_token(task_id) and "-" in task_id else None
    if job is None:
        raise Refused("no task of this id was ever carved: GET /v1/jobs/{id}/tasks lists a job's", status=404,
                      title="No such task")  # fmt: skip
    try:
        own = await looking.of_task(state.log, task_id, job_id, job.ended)
        about = [r for r in own if r.event is None or getattr(r.event, "task", "") == task_id]
        reopened = state.views.task(task_id)
        if not about and reopened is None:
            raise Refused(
                f"job {job_id} never had a task of this id: GET /v1/jobs/{job_id}/tasks lists those it has",
                status=404,
                title="No such task",
            )
        workers = set(reopened.leases.values()) if reopened is not None else set()
        frauds = [
            f.seq for w in workers for f in lookups.fraud_page(state.views, 0, FRAUDS_MAX, w) if f.task != task_id
        ]
        context = await looking.around(state.log, own, frauds)
    except (NatsError, TimeoutError, OSError):
        raise looking.lost() from None
    known = state.views.workers
    named = {w: known[w].agent.split(" ")[0][:NAME_CHARS_MAX] for w in looking.workers_of(own) if w in known}
    lines = story(task_id, own + context, real=reopened is not None, names=named)
    return {"task": task_id, "job": job_id, "lines": [msgspec.to_builtins(line) for line in lines]}
