"""Uploads over the API: resumed through either gateway, refused when they do not fit, bounded."""

from __future__ import annotations

import asyncio
import os
import re

import httpx
import pytest
from apikit import another_gateway, keyed, problem
from blake3 import blake3
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from shardy_common.blobs.uploads import UPLOADS_MAX
from shardy_common.stack import Stack


def piece(offset: int, length: int) -> dict[str, str]:
    return {"Upload-Offset": str(offset), "Upload-Length": str(length)}


async def test_it_goes_on_through_the_other_gateway(
    stack: Stack, http: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    data = os.urandom(9_000_001)
    digest, at = blake3(data).hexdigest(), 0
    path = f"/v1/uploads/{digest}"
    assert (await http.head(path)).status_code == 404
    for client, size in ((http, 5_000_000), (other, 0), (other, 4_000_000)):
        answer = await client.patch(path, content=data[at : at + size], headers=piece(at, len(data)))
        at += size
        assert answer.status_code == 204 and answer.headers["upload-offset"] == str(at), answer.text
        for either in (http, other):
            head = await either.head(path)
            assert (head.headers["upload-offset"], head.headers["upload-length"]) == (str(at), str(len(data)))
            assert head.headers["upload-complete"] == "?0"
            assert (await either.head(f"/v1/blobs/{digest}")).status_code == 404
        wrong = await client.patch(path, content=b"x", headers=piece(at + 1, len(data)))
        problem(wrong, 409, "wrong-offset")
        assert wrong.headers["upload-offset"] == str(at)
    problem(await http.patch(path, content=b"x", headers=piece(at, len(data) + 1)), 409, "upload-length-differs")
    problem(await http.patch(path, content=data, headers=piece(at, len(data))), 413, "body-too-large")
    answer = await http.patch(path, content=data[at:], headers=piece(at, len(data)))
    assert answer.status_code == 201 and answer.json() == {"digest": digest, "bytes": len(data)}
    head = await other.head(path)
    assert head.headers["upload-complete"] == "?1" and head.headers["upload-offset"] == str(len(data))
    assert (await other.get(f"/v1/blobs/{digest}")).content == data
    again = await other.patch(path, content=data, headers=piece(0, len(data)))
    assert again.status_code == 201, "what is stored need not be sent again"


async def test_what_came_before_a_break_is_kept(stack: Stack, http: httpx.AsyncClient) -> None:
    data = os.urandom(1_000_000)
    digest = blake3(data).hexdigest()
    _, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    writer.write(
        f"PATCH /v1/uploads/{digest} HTTP/1.1\r\nHost: mesh\r\nAuthorization: Bearer {stack.api_key}\r\n"
        f"Upload-Offset: 0\r\nUpload-Length: {len(data)}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        + data[:600_000]
    )
    await writer.drain()
    await asyncio.sleep(0.3)
    writer.close()
    for _ in range(200):
        head = await http.head(f"/v1/uploads/{digest}")
        at = int(head.headers.get("upload-offset", 0))
        if at:
            break
        await asyncio.sleep(0.05)
    assert 0 < at <= 600_000
    answer = await http.patch(f"/v1/uploads/{digest}", content=data[at:], headers=piece(at, len(data)))
    assert answer.status_code == 201


async def test_what_does_not_fit_is_dropped(stack: Stack, http: httpx.AsyncClient) -> None:
    data = os.urandom(10_000)
    path = f"/v1/uploads/{blake3(data).hexdigest()}"
    wrong = data[:-1] + bytes([data[-1] ^ 1])
    problem(await http.patch(path, content=wrong, headers=piece(0, len(data))), 422, "digest-mismatch")
    assert (await http.head(path)).status_code == 404
    assert (await http.patch(path, content=data[:5], headers=piece(0, len(data)))).status_code == 204
    assert (await http.delete(path)).status_code == 204
    problem(await http.delete(path), 404, "no-such-upload")
    assert (await http.patch(path, content=data, headers=piece(0, len(data)))).status_code == 201


@pytest.mark.parametrize(
    ("headers", "status", "slug"),
    [
        ({}, 422, "bad-parameter"),
        ({"Upload-Offset": "0"}, 422, "bad-parameter"),
        ({"Upload-Offset": "-1", "Upload-Length": "5"}, 422, "bad-parameter"),
        ({"Upload-Offset": "0", "Upload-Length": "x"}, 422, "bad-parameter"),
        ({"Upload-Offset": "0", "Upload-Length": str((1 << 30) + 1)}, 413, "body-too-large"),
        ({"Upload-Offset": "0", "Upload-Length": "9" * 5_000}, 422, "bad-parameter"),
    ],
)
async def test_pieces_that_cannot_be(
    stack: Stack, http: httpx.AsyncClient, headers: dict[str, str], status: int, slug: str
) -> None:
    problem(await http.patch("/v1/uploads/" + "1" * 64, content=b"x", headers=headers), status, slug)
    problem(await http.patch("/v1/uploads/" + "1" * 63, content=b"x", headers=piece(0, 1)), 400, "bad-digest")


async def test_an_owner_has_so_many(stack: Stack, operator: httpx.AsyncClient) -> None:
    made = (await operator.post("/v1/keys", json={"label": "uploads", "scopes": ["submit"]})).json()
    async with keyed(stack.url, made["key"]) as http:
        for n in range(UPLOADS_MAX):
            answer = await http.patch(f"/v1/uploads/{n:064x}", content=b"x", headers=piece(0, 2))
            assert answer.status_code == 204
        refused = await http.patch("/v1/uploads/" + "f" * 64, content=b"x", headers=piece(0, 2))
        assert str(UPLOADS_MAX) in problem(refused, 429, "too-many-uploads")["limit"]
        assert int(refused.headers["retry-after"]) > 0
        # another owner has room, and cannot see or drop these
        assert (await operator.post("/v1/keys", json={"label": "o", "scopes": ["submit"]})).status_code == 201
    async with keyed(stack.url, stack.api_key) as mine:
        assert (await mine.head(f"/v1/uploads/{0:064x}")).status_code == 404
        problem(await mine.delete(f"/v1/uploads/{0:064x}"), 404, "no-such-upload")


async def test_the_limits_of_a_gateway(stack: Stack) -> None:
    """A gateway with small limits: calls, bytes, streams and failed keys are counted, and told."""
    url = await another_gateway(
        stack,
        "strict",
        SHARDY_REQUESTS_PER_S="0.5",
        SHARDY_REQUESTS_BURST="30",
        SHARDY_UPLOAD_BYTES_PER_H="1000000",
        SHARDY_FAILED_AUTH_PER_MIN="1",
        SHARDY_FAILED_AUTH_BURST="5",
        SHARDY_SESSIONS_PER_ADDRESS_MAX="2",
        SHARDY_JOINS_BURST="4",
        SHARDY_JOINS_PER_S="0.01",
    )
    await sockets_of_one_address(url.replace("http://", "ws://") + "/ws/worker-join")
    async with keyed(url, "") as stranger:
        for _ in range(5):
            problem(await stranger.get("/v1/jobs"), 401, "no-valid-api-key")
        refused = await stranger.get("/v1/jobs", headers={"X-Forwarded-For": "203.0.113.9"})
        problem(refused, 429, "too-many-requests")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert (await stranger.get("/healthz")).status_code == 200
    async with keyed(url, stack.api_key) as http:
        first = await http.get("/v1/jobs?limit=1")
        assert first.status_code == 200, "a valid key is let in, whatever its neighbours did"
        assert first.headers["ratelimit-policy"].startswith('"requests";q=')
        found = re.fullmatch(r'"requests";r=(\d+);t=(\d+)', first.headers["ratelimit"])
        assert found is not None and int(found[1]) == 29
        data = os.urandom(600_000)
        path = f"/v1/blobs/{blake3(data).hexdigest()}"
        assert (await http.put(path, content=data)).status_code in (200, 201)
        more = os.urandom(600_000)
        refused = await http.put(f"/v1/blobs/{blake3(more).hexdigest()}", content=more)
        assert "bytes" in problem(refused, 429, "too-many-requests")["limit"] and refused.headers["retry-after"]
        for _ in range(40):
            answer = await http.get("/v1/mesh")
            if answer.status_code == 429:
                break
        problem(answer, 429, "too-many-requests")
        assert int(answer.headers["retry-after"]) >= 1 and '"requests";r=0' in answer.headers["ratelimit"]
        async with keyed(url, stack.operator_key) as another:
            assert (await another.get("/v1/mesh")).status_code == 200, "each key has its own"


async def sockets_of_one_address(url: str) -> None:
    """Two may be open, and four opened: who comes after that is told which limit it was, and closed."""

    async def refused() -> str:
        async with connect(url) as socket:
            with pytest.raises(ConnectionClosed):
                while True:
                    await asyncio.wait_for(socket.recv(), 30)
            assert socket.close_code == 4429
            return str(socket.close_reason)

    async with connect(url), connect(url):
        await asyncio.sleep(0.3)
        assert "may hold 2 worker sockets open" in await refused()
    await asyncio.sleep(0.3)
    async with connect(url), connect(url):
        await asyncio.sleep(0.3)
    await asyncio.sleep(0.3)
    assert "may open 0.01 worker sockets a second" in await refused()
