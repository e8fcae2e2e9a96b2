"""Whatever is asked, the answer is the call's or a problem: wrong addresses, methods, bodies, heads and bytes."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from apikit import problem, small_job

from shardy_common.stack import Stack
from shardy_gateway.problems import PROBLEMS, slug_of

DEEP = b"[" * 30_000
MAP = b'{"a":' * 10_000 + b"1" + b"}" * 10_000


async def raw(stack: Stack, request: bytes, more: bytes = b"") -> bytes:
    """What comes back for these bytes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    try:
        writer.write(request)
        for at in range(0, len(more), 16_384):
            writer.write(more[at : at + 16_384])
            await writer.drain()
    except ConnectionError:
        pass
    try:
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:
        return b"closed"
    finally:
        writer.close()


async def test_addresses_that_are_none(stack: Stack, http: httpx.AsyncClient) -> None:
    for path in (
        "/v1/",
        "/v1/nothing",
        "/v1/jobs/",
        "/v1/jobs/a/b/c/d",
        "/v1/worker",
        "/v1/%00",
        "/v1/%ff%fe",
        "/v1//jobs",
    ):
        problem(await http.get(path), 404, "not-found")
    for path in ("/nothing", "/v2/jobs", "/%2e%2e/%2e%2e/etc/passwd", "/v1", "/index.php?x=%zz"):
        problem(await http.get(path), 404, "not-found")
    problem(await http.get("/problems/nothing-like-it"), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/jobs", "GET, POST"),
        ("PUT", "/v1/jobs/j0", "GET"),
        ("GET", "/v1/jobs/j0/cancel", "POST"),
        ("POST", "/v1/blobs/" + "0" * 64, "GET, HEAD, PUT"),
        ("GET", "/v1/uploads/" + "0" * 64, "DELETE, HEAD, PATCH"),
        ("PATCH", "/v1/mesh", "GET"),
        ("OPTIONS", "/v1/keys", "GET, POST"),
        ("POST", "/healthz", "GET"),
        ("POST", "/problems/refused", "GET"),
        ("POST", "/v1/openapi.json", "GET, HEAD"),
    ],
)
async def test_methods_that_are_none(stack: Stack, http: httpx.AsyncClient, method: str, path: str, allow: str) -> None:
    answer = await http.request(method, path)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/keys"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"1", b'"x"', DEEP, MAP[:60_000], b"\xff\xfe{}", b'{"kind": "\xff"}', b'{"a": NaN}'],
)
async def test_bodies_that_are_none(
    stack: Stack, operator: httpx.AsyncClient, http: httpx.AsyncClient, path: str, body: bytes
) -> None:
    client = operator if path.endswith("keys") else http
    body = body[:4_000] if path.endswith("keys") else body
    for media in ("application/json", "application/json; charset=latin-1", ""):
        headers = {"Content-Type": media} if media else {}
        problem(await client.post(path, content=body, headers=headers), 400, "malformed-body")


async def test_deep_json_that_is_whole_is_refused_too(stack: Stack, http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/jobs", content=MAP, headers={"Content-Type": "application/json"})
    problem(answer, 400 if len(MAP) <= 65_536 else 413, "malformed-body" if len(MAP) <= 65_536 else "body-too-large")
    deep = b'{"kind": ' + b"[" * 500 + b"]" * 500 + b"}"
    problem(await http.post("/v1/jobs", content=deep, headers={"Content-Type": "application/json"}), 422, "refused")


@pytest.mark.parametrize(
    "media",
    ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "multipart/form-data", "é", "x" * 900],
)
async def test_types_that_are_none(
    stack: Stack, operator: httpx.AsyncClient, http: httpx.AsyncClient, media: str
) -> None:
    job = json.dumps(await small_job(http)).encode()
    for client, path in ((http, "/v1/jobs"), (operator, "/v1/keys")):
        answer = await client.post(path, content=job, headers=[(b"Content-Type", media.encode())])
        problem(answer, 415, "wrong-content-type")
        assert "application/json" in answer.headers["accept-post"]


async def test_heads_that_are_too_large(stack: Stack, http: httpx.AsyncClient) -> None:
    problem(await http.get("/v1/jobs?before=" + "x" * 9_000), 414, "url-too-long")
    problem(await http.get("/" + "x" * 9_000), 414, "url-too-long")
    problem(await http.get("/healthz", headers={"X-Long": "x" * 33_000}), 431, "head-too-large")
    problem(await http.get("/healthz", headers={f"X-{n}": "x" for n in range(120)}), 431, "head-too-large")
    for head in (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ", b"GET /"):
        answer = await raw(stack, head, b"x" * 400_000)
        assert answer.startswith((b"HTTP/1.1 431 ", b"closed")), answer[:200]
    trailer = b"PUT /v1/blobs/" + b"0" * 64 + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    trailer += f"Authorization: Bearer {stack.api_key}\r\n\r\n1\r\nx\r\n0\r\nX-Long: ".encode()
    answer = await raw(stack, trailer, b"x" * 400_000)
    assert b" 431 " in answer or answer == b"closed", answer[:200]


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GARBAGE\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_bytes_that_are_no_request(stack: Stack, request_: bytes) -> None:
    answer = await raw(stack, request_)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 ")), answer[:200]
    assert b"application/problem+json" in head
    assert json.loads(body)["type"] in ("/problems/malformed-request", "/problems/no-valid-api-key")
    async with httpx.AsyncClient() as client:
        assert (await client.get(stack.url + "/healthz")).status_code == 200


async def test_every_problem_is_explained(stack: Stack, http: httpx.AsyncClient) -> None:
    for slug, problem_ in PROBLEMS.items():
        answer = await http.get(f"/problems/{slug}", headers={"Authorization": ""})
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
        assert problem_.title in answer.text and problem_.means in answer.text and problem_.do in answer.text
        assert slug == slug_of(problem_.title)
