"""Problems of the fake mesh, by the slugs of the gateway's own table."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from shardy_gateway.problems import PROBLEMS


def problem(status: int, slug: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    known = PROBLEMS[slug]
    assert status in known.status, f"{slug} is never {status}"
    body = {"type": f"/problems/{slug}", "title": known.title, "status": status, "detail": detail}
    return JSONResponse(body, status, headers, "application/problem+json")
