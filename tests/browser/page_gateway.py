"""The strict gateway of the native worker's tests, serving the built page too, with the headers of a deployment."""

from __future__ import annotations

from typing import Any

from browser_harness import PAGE
from fake_gateway import FakeGateway
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from starlette.websockets import WebSocket

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
}


class Page(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


class PageGateway(FakeGateway):
    """Use as `async with PageGateway() as gateway:`; the page is at `gateway.url`."""

    async def __aenter__(self) -> PageGateway:
        await super().__aenter__()
        app: Any = self._server.config.app
        app.router.routes.append(Mount("/", Page(directory=PAGE, html=True)))
        return self

    async def _recv(self, socket: WebSocket) -> tuple[dict[str, Any], list[memoryview]]:
        """A whole float may come as an integer (§1.1), which JavaScript can't tell apart."""
        header, segments = await super()._recv(socket)
        for name in ("ms", "gops"):
            if type(header.get(name)) is int:
                header[name] = float(header[name])
        return header, segments
