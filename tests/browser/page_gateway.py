"""The strict gateway of the native worker's tests, serving the built page too, with the headers of a deployment."""

from __future__ import annotations

from typing import Any

from browser_harness import PAGE
from fake_gateway import ScriptGateway
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

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


class PageGateway(ScriptGateway):
    """Use as `async with PageGateway() as gateway:`; the page is at `gateway.url`."""

    async def __aenter__(self) -> PageGateway:
        await super().__aenter__()
        app: Any = self._server.config.app
        app.router.routes.append(Mount("/", Page(directory=PAGE, html=True)))
        return self
