"""The gateway as an ASGI application: API, worker socket, worker page."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from shardy_common import run
from shardy_common.blobs import DirectoryStore
from shardy_common.errors import Refused
from shardy_common.log import Append, Appended, ArchiveError, Conflict, JetStreamLog, Projection, Recorded
from shardy_common.mesh_key import load_mesh_key
from shardy_common.presence import Presence
from shardy_common.receipts import Signer
from shardy_common.service import FoldLoop
from shardy_common.tracing import Tracer
from shardy_common.wire.events import GatewayStarted, MeshKeyed
from shardy_gateway import openapi, problems
from shardy_gateway.api import router
from shardy_gateway.config import GatewaySettings
from shardy_gateway.guard import Guard
from shardy_gateway.hub import Hub
from shardy_gateway.join import Door, Gateway
from shardy_gateway.outbox import Outbox
from shardy_gateway.passes import Passes, shared_key
from shardy_gateway.probes import Probes
from shardy_gateway.siblings import Siblings
from shardy_gateway.state import MESH, GatewayState
from shardy_gateway.views import TABLES, VERSION, Views

log = logging.getLogger("shardy.gateway")

SWEEP_UPLOADS_S = 600
STOP_S = 3.0
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
# What makes randomness must have nowhere else to send it.
CEREMONY_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; connect-src 'self'; "
    "img-src data:; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# What has an operator's key talks to its own gateway, and runs nothing but its own files.
OPERATE_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self'; style-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# What checks receipts needs no connection, so it is given none: nobody has to believe that nothing is sent.
VERIFY_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; img-src 'self'; style-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
POLICIES = {"/ceremony/": CEREMONY_POLICY, "/operate/": OPERATE_POLICY, "/verify/": VERIFY_POLICY}
NO_PAGE = (
    "<!doctype html><title>Shardy</title><h1>Shardy is running</h1>"
    "<p>The worker page is not built. Run <code>make page</code> and reload.</p>"
)


def make_app(settings: GatewaySettings) -> FastAPI:
    # no pages of the framework: they load their scripts from elsewhere, and take no key
    app = FastAPI(
        title="Shardy",
        version="1",
        summary="A compute mesh whose every result is checked",
        lifespan=_lifespan,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.include_router(router)
    app.add_middleware(Guard)
    app.add_middleware(WorkerSockets)
    problems.handle(app)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]

    async def headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for below, policy in POLICIES.items():
            if request.url.path.startswith(below):
                response.headers["Content-Security-Policy"] = policy
        for name, value in PAGE_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    page = FastAPI(openapi_url=None)
    page.add_middleware(BaseHTTPMiddleware, dispatch=headers)
    problems.handle(page)
    if settings.ceremony_dir is not None:
        page.mount("/ceremony", StaticFiles(directory=settings.ceremony_dir, html=True))
    if (settings.static_dir / "index.html").is_file():
        page.mount("/", StaticFiles(directory=settings.static_dir, html=True))
    else:

        @page.get("/")
        async def no_page() -> HTMLResponse:
            return HTMLResponse(NO_PAGE)

    app.mount("/", Elsewhere(app, page))
    return app


class WorkerSockets:
    """Takes worker sockets past the framework's routes: what those keep for each (exit stacks, wrappers, a dozen
    frames) is more than all that a session holds, and a worker is connected for hours."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"] == "/ws/worker-join":
            await scope["app"].state.gateway.door.serve(WebSocket(scope, receive, send))
        else:
            await self.app(scope, receive, send)


class Elsewhere:
    """Answers what no call of the API does: 405 at their addresses, 404 below /v1, and the page."""

    def __init__(self, app: FastAPI, page: ASGIApp) -> None:
        self._app, self._page = app, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        allowed = self._allowed(scope)
        if allowed:
            raise Refused(
                f"{scope['method']} is not done here: {', '.join(allowed)}",
                status=405,
                title="Method not allowed",
                headers={"Allow": ", ".join(allowed)},
            )
        if scope["path"].startswith("/v1/"):
            raise Refused(
                "no call has this address: GET /v1/openapi.json says what exists", status=404, title="Not found"
            )
        await self._page(scope, receive, send)

    def _allowed(self, scope: Scope) -> list[str]:
        """The methods of the calls at this address."""
        found: set[str] = set()
        for methods, pattern in openapi.calls(self._app):
            if pattern.match(scope["path"]):
                found |= methods
        return sorted(found)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: GatewaySettings = app.state.settings
    private = load_mesh_key(settings.mesh_key_path)
    signer = Signer(private) if private is not None else None
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
    state = GatewayState(name, event_log, blobs, hub, loop, settings, signer)
    gateway = Gateway(name, instance, MESH, settings.probe_memory_mib_max)
    state.door = Door(gateway, hub, event_log, probes, passes, state.gates, state.refusals)
    app.state.gateway = state
    probes.start()
    tasks = [
        asyncio.create_task(_watched("fold", loop.run())),
        asyncio.create_task(_watched("results", hub.record_results())),
        asyncio.create_task(_watched("sweep", state.door.sweep())),
        asyncio.create_task(_watched("uploads", _expire_uploads(state))),
        asyncio.create_task(_watched("room", state.watch_room())),
        asyncio.create_task(_watched("control plane", run.control_plane(settings, "gateway", loop))),
        asyncio.create_task(_watched("presence", presence.run(loop.live.is_set))),
        asyncio.create_task(_watched("siblings", siblings.watch())),
    ]
    await loop.live.wait()
    await _announce(event_log, Append(GatewayStarted(name, instance), f"gateway/{instance}"))
    if signer is not None:
        await _announce(event_log, Append(MeshKeyed(signer.key), f"mesh-key/{signer.key}", 0))
    else:
        log.warning("there is no key in %s: this gateway signs no receipts", settings.mesh_key_path)
    try:
        yield
    finally:
        loop.stop()
        await asyncio.wait(tasks[:1], timeout=STOP_S)  # the fold: it writes what it has, and a snapshot if one is due
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        probes.close()
        tracer.close()
        event_log.client.on_end.clear()
        await event_log.close()
        projection.close()
        blobs.close()


def _trace_ended(tracer: Tracer, outbox: Outbox) -> None:
    """One span a job, from its submission to its end."""
    for job in outbox.ended:
        attributes = {"shardy.job": job.id, "shardy.state": job.state, "shardy.tasks": job.tasks_verified}
        tracer.record(f"job {job.spec.kind}", job.trace, job.created_ms, job.ended_ms, attributes)


async def _expire_uploads(state: GatewayState) -> None:
    """Partial uploads that nobody goes on with are removed, and what the store holds is measured, for ever."""
    while True:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(state.uploads.sweep)
        await asyncio.to_thread(state.store_room.measure)
        await asyncio.sleep(SWEEP_UPLOADS_S)


async def _announce(event_log: JetStreamLog, item: Append) -> None:
    """What must stand in the log before the first worker joins: that sessions of this gateway's earlier instances are
    gone, and the key that it signs with (written once, however often it starts)."""
    while True:
        if isinstance((await event_log.append([item]))[0], (Appended, Conflict)):
            return
        await asyncio.sleep(0.2)


async def _watched(what: str, work: Awaitable[None]) -> None:
    """A background task whose failure ends the process, so that the supervisor restarts it and the log is replayed."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except ArchiveError as error:  # no restart mends it: somebody must put the files back
        log.error("the gateway stops: %s", error)
        import os

        os._exit(1)
    except BaseException:
        log.exception("%s failed; the gateway stops to be restarted", what)
        import os

        os._exit(70)
