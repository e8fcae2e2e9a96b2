"""Every route of the application, walked: none answers without a key, with a revoked one, or without the scope."""

from __future__ import annotations

import re
from typing import Any

import httpx
from apikit import keyed, problem
from starlette.routing import Route

from shardy_common.stack import Stack
from shardy_gateway.app import make_app
from shardy_gateway.config import GatewaySettings
from shardy_gateway.operations import OPERATIONS

OPEN = {"/healthz", "/problems/{slug}"}
VALUES = {
    "digest": "0" * 64,
    "job_id": "j0",
    "key_id": "k0",
    "part": "c",
    "lease": "x-0",
    "worker_id": "w0",
    "version": "v0",
}


def routes() -> list[tuple[str, str]]:
    """(method, path template) of everything: calls in the document, and plain routes beside them."""
    app = make_app(GatewaySettings())
    found = {(method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item}
    walked: set[tuple[str, str]] = set()

    def walk(router: Any) -> None:
        for route in getattr(router, "routes", ()):
            inner = getattr(route, "original_router", None)
            if inner is not None:
                walk(inner)
            elif isinstance(route, Route):
                walked.update((method, route.path) for method in route.methods or ())

    walk(app)
    assert found <= walked, "the document names calls that are no routes"
    return sorted(walked)


def concrete(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: VALUES.get(match[1], "x"), path)


async def ask(http: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    headers = {"Upload-Offset": "0", "Upload-Length": "1"} if method == "PATCH" else {}
    short = {"wait": "0"} if path == "/v1/log/events" else None  # a stream that would go on
    return await http.request(method, concrete(path), headers=headers, params=short)


def refused(answer: httpx.Response, status: int, slug: str, method: str) -> None:
    if method == "HEAD":
        assert answer.status_code == status
    else:
        problem(answer, status, slug)


def test_the_routes_are_all_there() -> None:
    paths = {path for _, path in routes()}
    assert paths >= OPEN and len(paths - OPEN) >= 15
    for path in paths - OPEN:
        assert path.startswith("/v1/"), f"{path} is outside of what the guard keeps: list it as open, or move it"


async def test_none_answers_without_a_key(stack: Stack, operator: httpx.AsyncClient) -> None:
    made = (await operator.post("/v1/keys", json={"label": "gone", "scopes": ["submit", "operate"]})).json()
    assert (await operator.delete(f"/v1/keys/{made['id']}")).status_code == 204
    for key in ("", "wrong", made["key"], stack.api_key + "x", stack.api_key[:-1]):
        async with keyed(stack.url, key) as http:
            for method, path in routes():
                answer = await ask(http, method, path)
                if path in OPEN:
                    assert answer.status_code in (200, 404), (method, path)
                    continue
                slug = "no-valid-session-token" if path.startswith("/v1/worker/") else "no-valid-api-key"
                refused(answer, 401, slug, method)
                assert answer.headers["www-authenticate"].startswith("Bearer"), (method, path)
                assert "ratelimit" not in answer.headers
    async with keyed(stack.url, "") as http:
        for header in ("Bearer", f"Basic {stack.api_key}", stack.api_key, f"bearer{stack.api_key}"):
            problem(await http.get("/v1/jobs", headers={"Authorization": header}), 401, "no-valid-api-key")
        assert (await http.get("/v1/jobs", headers={"Authorization": f"bearer  {stack.api_key}"})).status_code == 200


async def test_an_api_key_is_no_session_token(http: httpx.AsyncClient) -> None:
    for method, path in routes():
        if path.startswith("/v1/worker/"):
            refused(await ask(http, method, path), 401, "no-valid-session-token", method)


async def test_none_answers_without_the_scope(stack: Stack, operator: httpx.AsyncClient) -> None:
    keys = {"submit": stack.api_key}
    made = await operator.post("/v1/keys", json={"label": "operates alone", "scopes": ["operate"]})
    keys["operate"] = made.json()["key"]
    seen = set()
    for scope, lacking in (("submit", "operate"), ("operate", "submit"), ("own", "submit")):
        async with keyed(stack.url, keys[lacking]) as http:
            for (method, path), operation in OPERATIONS.items():
                if operation.scope == scope:
                    refused(await ask(http, method, path), 403, "scope-missing", method)
                    seen.add((method, path))
        async with keyed(stack.url, keys["operate" if scope == "own" else scope]) as http:
            for (method, path), operation in OPERATIONS.items():
                if operation.scope == scope:
                    answer = await ask(http, method, path)
                    assert answer.status_code not in (401, 403), (method, path)
                    assert answer.headers["ratelimit"] and answer.headers["ratelimit-policy"], (method, path)
    rest = {key for key, operation in OPERATIONS.items() if operation.scope in ("any", "session", "")}
    assert seen | rest == set(OPERATIONS)


def test_every_route_says_what_it_needs() -> None:
    walked = {(method, path) for method, path in routes() if path not in {*OPEN, "/v1/openapi.json"}}
    said = {key for key in OPERATIONS if key[1] not in OPEN}
    assert walked == said, "each call has its entry in operations.py"
