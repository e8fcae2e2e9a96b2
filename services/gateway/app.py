"""The gateway as an ASGI application: API, worker socket, worker page."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware

from shardy_common import run
from shardy_common.blobs import DirectoryStore
from shardy_common.errors import Refused, Transient
from shardy_common.log import Append, Appended, JetStreamLog, Projection, Recorded
from shardy_common.presence import Presence
from shardy_common.service import FoldLoop
from shardy_common.tracing import Tracer
from shardy_common.wire.events import GatewayStarted
from shardy_gateway.api import router
from shardy_gateway.config import GatewaySettings
from shardy_gateway.hub import Hub
from shardy_gateway.join import Door, Gateway
from shardy_gateway.passes import Passes, shared_key
from shardy_gateway.probes import Probes
from shardy_gateway.siblings import Siblings
from shardy_gateway.state import GatewayState
from shardy_gateway.views import TABLES, VERSION, Outbox, Views

log = logging.getLogger("shardy.gateway")

PAGE_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
        "connect-src 'self' ws: wss:; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
    ),
}
NO_PAGE = (
    "<!doctype html><title>Shardy</title><h1>Shardy is running</h1>"
    "<p>The worker page is not built. Run <code>make page</code> and reload.</p>"
)


def make_app(settings: GatewaySettings) -> FastAPI:
    app = FastAPI(
        title="Shardy", version="1", summary="A compute mesh whose every result is checked", lifespan=_lifespan
    )
    app.state.settings = settings
    app.include_router(router)
    _problems(app)

    async def headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in PAGE_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.websocket("/ws/worker-join")
    async def worker_join(socket: WebSocket) -> None:
        await app.state.gateway.door.serve(socket)

    page = FastAPI(openapi_url=None)
    page.add_middleware(BaseHTTPMiddleware, dispatch=headers)
    _problems(page)  # it answers every path that the API does not know
    if (settings.static_dir / "index.html").is_file():
        page.mount("/", StaticFiles(directory=settings.static_dir, html=True))
    else:

        @page.get("/")
        async def no_page() -> HTMLResponse:
            return HTMLResponse(NO_PAGE)

    app.mount("/", page)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: GatewaySettings = app.state.settings
    name, instance = f"gateway-{settings.instance}", secrets.token_hex(6)
    event_log = await run.open_log(settings, "gateway")
    blobs = DirectoryStore(settings.blob_dir)
    projection = Projection(settings.projection_path("gateway"), TABLES, version=VERSION)

    async def observe(batch: list[Recorded]) -> None:
        outbox = state.views.take_outbox()
        state.views.flush = loop.flush
        hub.views = state.views
        hub.deliver(outbox)
        siblings.heard(batch)
        state.notify(outbox.jobs)
        if tracer.enabled and loop.live.is_set():
            _trace_ended(tracer, outbox)

    def forget() -> None:
        state.views.take_outbox()
        state.views.flush = loop.flush
        hub.views = state.views

    presence = Presence(event_log.client, "gateway", settings.instance)
    loop = FoldLoop(
        "gateway", event_log, projection, Views, observe=observe, seen_before=forget, presence=presence, tick_s=1.0
    )
    hub = Hub(loop.core, event_log, blobs)  # type: ignore[arg-type]
    tracer = Tracer("gateway")
    siblings = Siblings(name, instance, presence, event_log, hub, lambda: state.views)
    passes = Passes(shared_key(settings.data_dir / "projections" / "gateway.key"))
    probes = Probes()
    loop.core.flush = loop.flush  # type: ignore[attr-defined]
    state = GatewayState(name, event_log, blobs, hub, loop, settings.api_keys_file)
    state.allow_same_address = settings.allow_same_address
    gateway = Gateway(name, instance, "shardy", settings.probe_memory_mib_max)
    state.door = Door(gateway, hub, event_log, probes, passes)
    app.state.gateway = state
    probes.start()
    tasks = [
        asyncio.create_task(_watched("fold", loop.run())),
        asyncio.create_task(_watched("results", hub.record_results())),
        asyncio.create_task(_watched("sweep", state.door.sweep())),
        asyncio.create_task(_watched("control plane", run.control_plane(settings, "gateway", loop))),
        asyncio.create_task(_watched("presence", presence.run(loop.live.is_set))),
        asyncio.create_task(_watched("siblings", siblings.watch())),
    ]
    await loop.live.wait()
    await _announce(event_log, name, instance)
    try:
        yield
    finally:
        loop.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        probes.close()
        tracer.close()
        await event_log.close()
        projection.close()
        blobs.close()


def _trace_ended(tracer: Tracer, outbox: Outbox) -> None:
    """One span a job, from its submission to its end."""
    for job in outbox.ended:
        attributes = {"shardy.job": job.id, "shardy.state": job.state, "shardy.tasks": job.tasks_verified}
        tracer.record(f"job {job.spec.kind}", job.trace, job.created_ms, job.ended_ms, attributes)


async def _announce(event_log: JetStreamLog, name: str, instance: str) -> None:
    """Sessions of this gateway's earlier instances are gone: say so before the first worker joins."""
    while True:
        outcome = (await event_log.append([Append(GatewayStarted(name, instance), f"gateway/{instance}")]))[0]
        if isinstance(outcome, Appended):
            return
        await asyncio.sleep(0.2)


async def _watched(what: str, work: Awaitable[None]) -> None:
    """A background task whose failure ends the process, so that the supervisor restarts it and the log is replayed."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except BaseException:
        log.exception("%s failed; the gateway stops to be restarted", what)
        import os

        os._exit(70)


def _problems(app: FastAPI) -> None:
    """One mapping from errors to answers: problem details, never a stack trace."""

    def problem(status: int, title: str, detail: str, **more: object) -> JSONResponse:
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
        return JSONResponse(body, status_code=status, media_type="application/problem+json")

    @app.exception_handler(Refused)
    async def refused(_request: Request, error: Refused) -> JSONResponse:
        more = {"limit": error.limit} if error.limit else {}
        return problem(error.status, error.title, error.detail, **more)

    @app.exception_handler(Transient)
    async def transient(_request: Request, error: Transient) -> JSONResponse:
        response = problem(503, "Try again", error.detail)
        response.headers["Retry-After"] = str(-(-error.retry_ms // 1000))
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(422, "Bad request", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), f"{error.detail}: see /docs for what exists")

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        log.exception("request %s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, "A fault of the mesh", "this was not your fault; it has been logged")
