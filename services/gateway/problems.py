"""Problem details (RFC 9457): the one table of what can be wrong, and the mapping from errors to answers."""

from __future__ import annotations

import logging
import re

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from shardy_common.errors import Refused, Transient
from shardy_gateway.problem_table import TABLE, Problem

log = logging.getLogger("shardy.gateway")
MEDIA_TYPE = "application/problem+json"


def slug_of(title: str) -> str:
    """The last part of a problem's type: stable, because titles are."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


PROBLEMS: dict[str, Problem] = {slug_of(problem.title): problem for problem in TABLE}
_BY_STATUS = {404: "Not found", 405: "Method not allowed", 413: "Body too large", 415: "Wrong content type"}


def body_of(status: int, title: str, detail: str, limit: str | None = None) -> dict[str, object]:
    body = {"type": f"/problems/{slug_of(title)}", "title": title, "status": status, "detail": detail}
    return body | ({"limit": limit} if limit else {})


class ProblemAnswer(JSONResponse):
    """Counted and written down where it is sent, whoever made it."""

    media_type = MEDIA_TYPE

    def __init__(self, body: dict[str, object], status: int, headers: dict[str, str]) -> None:
        super().__init__(body, status, headers)
        self.slug, self.detail = slug_of(str(body["title"])), str(body["detail"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = getattr(scope["app"].state, "gateway", None) if "app" in scope else None
        if gateway is not None and scope["type"] == "http":
            gateway.refusals.call(scope, self.slug, self.status_code, self.detail)
        await super().__call__(scope, receive, send)


def answer(error: Refused) -> JSONResponse:
    headers = dict(error.headers)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="shardy"'
    if error.status == 429:
        headers["Retry-After"] = str(error.retry_s or 10)
    elif error.retry_s:
        headers["Retry-After"] = str(error.retry_s)
    body = body_of(error.status, error.title, error.detail, error.limit)
    return ProblemAnswer(body, error.status, headers)


def explain(slug: str) -> str:
    """The text of GET /problems/{slug}."""
    problem = PROBLEMS.get(slug)
    if problem is None:
        raise Refused("no problem has this name: docs/problems.md lists them", status=404, title="Not found")
    codes = ", ".join(map(str, problem.status))
    return f"{problem.title} ({codes})\n\nWhat it means: {problem.means}\nWhat to do: {problem.do}\n"


def handle(app: FastAPI) -> None:
    """Every error of the application is answered by a problem, never by a stack trace."""

    @app.exception_handler(Refused)
    async def refused(_request: Request, error: Refused) -> Response:
        return answer(error)

    @app.exception_handler(Transient)
    async def transient(_request: Request, error: Transient) -> Response:
        return answer_later(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return answer(Refused(f"{where}: {first['msg']}", title="Bad parameter"))

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> Response:
        title = _BY_STATUS.get(error.status_code, "Refused")
        detail = f"{error.detail}: GET /v1/openapi.json says what exists"
        return answer(Refused(detail, status=error.status_code, title=title, headers=dict(error.headers or {})))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        log.exception("request %s %s failed", request.method, request.url.path, exc_info=error)
        detail = "this was not your fault; it has been logged"
        return answer(Refused(detail, status=500, title="A fault of the mesh"))


def answer_later(error: Transient) -> JSONResponse:
    retry = {"Retry-After": str(max(1, -(-error.retry_ms // 1000)))}
    return ProblemAnswer(body_of(503, "Try again", error.detail), 503, retry)
