"""The HTTP API of docs/api.md: every refusal as a table, and the promises about waiting, pages, ranges and events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest_asyncio
from blake3 import blake3
from meshkit import Workers, api, int8, product, same, until
from rawsocket import frame

from shardy_client import AsyncMesh, PreExec
from shardy_common.stack import Stack

FRAME = {"Content-Type": "application/vnd.shardy.frame"}
JSON = {"Content-Type": "application/json"}
NAN, INF = float("nan"), float("inf")
Job = dict[str, Any]


def problem(answer: httpx.Response, status: int, name: str = "") -> Job:
    """Problem details with this status, which say something and show no stack trace."""
    assert answer.status_code == status, f"{name}: {answer.status_code} {answer.text[:300]}"
    assert answer.headers["content-type"] == "application/problem+json", name
    body = answer.json()
    assert {"type", "title", "status", "detail"} <= set(body), name
    assert body["status"] == status and body["title"] and body["detail"], name
    for trace in ("Traceback", 'File "', ".py", "shardy_gateway"):
        assert trace not in answer.text, name
    return body


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stored(stack: Stack) -> AsyncIterator[dict[str, Job]]:
    """Operands that are stored, by name."""
    rng = np.random.default_rng(1)
    arrays = {
        "i": int8(rng, 6, 8),
        "j": int8(rng, 5, 8),
        "f": np.ones((6, 8), np.float32),
        "g": np.ones((5, 8), np.float32),
        "x": np.ones((64, 4), np.float32),
        "long": np.zeros((1, 65_536), np.int8),
    }
    out: dict[str, Job] = {}
    async with api(stack) as http:
        for name, array in arrays.items():
            digest = blake3(array.tobytes()).hexdigest()
            assert (await http.put(f"/v1/blobs/{digest}", content=array.tobytes())).status_code in (200, 201)
            rows, cols = array.shape
            out[name] = {"digest": digest, "dtype": array.dtype.name, "rows": rows, "cols": cols}
    yield out


async def test_keys(stack: Stack) -> None:
    paths = [
        ("GET", "/v1/jobs"),
        ("POST", "/v1/jobs"),
        ("GET", "/v1/jobs/j0"),
        ("POST", "/v1/jobs/j0/cancel"),
        ("GET", "/v1/jobs/j0/events"),
        ("GET", "/v1/jobs/j0/tasks"),
        ("GET", "/v1/jobs/j0/result/c"),
        ("GET", "/v1/workers"),
        ("GET", "/v1/frauds"),
        ("GET", "/v1/dlq"),
        ("GET", "/v1/dlq/x"),
        ("POST", "/v1/dlq/x/replay"),
        ("POST", "/v1/dlq/x/discard"),
        ("PUT", "/v1/blobs/" + "0" * 64),
        ("GET", "/v1/blobs/" + "0" * 64),
        ("GET", "/v1/worker/blobs/" + "0" * 64),
        ("PUT", "/v1/worker/results/x-0"),
    ]
    headers = [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": stack.api_key},
        {"Authorization": f"Basic {stack.api_key}"},
        {"Authorization": f"Bearer {stack.api_key}x"},
        {"Authorization": f"Bearer {stack.api_key[:-1]}"},
    ]
    async with api(stack, "") as http:
        for method, path in paths:
            for header in headers:
                problem(await http.request(method, path, headers=header), 401, f"{method} {path} {header}")
        assert (await http.head("/v1/blobs/" + "0" * 64)).status_code == 401
        health = await http.get("/healthz")
        assert health.status_code == 200 and health.json()["status"] == "ok"


def matmul(stored: dict[str, Job], **more: Any) -> Job:
    return {"kind": "matmul", "a": stored["i"], "b": stored["j"], **more}


def float_matmul(stored: dict[str, Job], **pre: Any) -> Job:
    return {"kind": "matmul", "a": stored["f"], "b": stored["g"], "pre": {"lo": -1.0, "hi": 1.0, **pre}}


def stream(stored: dict[str, Job], **more: Any) -> Job:
    return {"kind": "stream", "x": stored["x"], "pre": {"lo": -1.0, "hi": 1.0}, **more}


def refused_jobs(s: dict[str, Job]) -> dict[str, tuple[Job, int]]:
    nowhere = {**s["i"], "digest": "0" * 64}
    wide = {**s["j"], "cols": 9}
    return {
        "no kind": ({"a": s["i"], "b": s["j"]}, 422),
        "unknown kind": (matmul(s, kind="conv"), 422),
        "kind a list": (matmul(s, kind=["matmul"]), 422),
        "unknown policy": (matmul(s, policy="trust"), 422),
        "policy a number": (matmul(s, policy=1), 422),
        "proof policy": (matmul(s, policy="proof"), 422),
        "unknown field": (matmul(s, priority=9), 422),
        "unknown operand field": (matmul(s, a={**s["i"], "stride": 8}), 422),
        "unknown pre field": (float_matmul(s, gamma=1), 422),
        "warm rows are not the requester's": (float_matmul(s, warm_rows=5), 422),
        "an operand missing": ({"kind": "matmul", "a": s["i"]}, 422),
        "an operand of another kind": (matmul(s, x=s["x"]), 422),
        "operand a list": (matmul(s, a=[1]), 422),
        "operand without rows": (matmul(s, a={"digest": s["i"]["digest"], "dtype": "int8", "cols": 8}), 422),
        "rows as text": (matmul(s, a={**s["i"], "rows": "6"}), 422),
        "rows a fraction": (matmul(s, a={**s["i"], "rows": 6.5}), 422),
        "no rows": (matmul(s, a={**s["i"], "rows": 0}), 422),
        "rows below zero": (matmul(s, a={**s["i"], "rows": -6}), 422),
        "rows over the limit": (matmul(s, a={**s["i"], "rows": 1 << 21}), 422),
        "rows beyond int64": (matmul(s, a={**s["i"], "rows": 1 << 70}), 422),
        "blob over the limit": (matmul(s, a={**s["i"], "rows": 1 << 20, "cols": 1 << 15}), 413),
        "dtypes differ": (matmul(s, b=s["g"]), 422),
        "unknown dtype": (matmul(s, a={**s["i"], "dtype": "int16"}), 422),
        "inner lengths differ": (matmul(s, b=wide), 422),
        "k over the limit": (matmul(s, a=s["long"], b=s["long"]), 422),
        "digest not hex": (matmul(s, a={**s["i"], "digest": "z" * 64}), 422),
        "digest too short": (matmul(s, a={**s["i"], "digest": "0" * 63}), 422),
        "digest upper case": (matmul(s, a={**s["i"], "digest": "A" * 64}), 422),
        "blob missing": (matmul(s, a=nowhere), 409),
        "blob of another size": (matmul(s, a={**s["i"], "rows": 5}), 422),
        "blob of another dtype": (matmul(s, a={**s["f"], "dtype": "int8"}, b=s["j"]), 422),
        "redundancy 1": (matmul(s, redundancy=1), 422),
        "redundancy 8": (matmul(s, redundancy=8), 422),
        "redundancy true": (matmul(s, redundancy=True), 422),
        "one audit round": (matmul(s, policy="audit", audit_rounds=1), 422),
        "nine audit rounds": (matmul(s, policy="audit", audit_rounds=9), 422),
        "label too long": (matmul(s, label="x" * 201), 422),
        "label a number": (matmul(s, label=5), 422),
        "task_rows 0": (matmul(s, task_rows=0), 422),
        "task_rows below zero": (matmul(s, task_rows=-1), 422),
        "task_rows no multiple of a segment": (
            {**float_matmul(s, ema_axis=0, alpha=0.5, segment_rows=4), "task_rows": 6},
            422,
        ),
        "pre for int8": (matmul(s, pre={"lo": -1.0, "hi": 1.0}), 422),
        "float32 without pre": ({"kind": "matmul", "a": s["f"], "b": s["g"]}, 422),
        "pre a list": ({**float_matmul(s), "pre": [-1, 1]}, 422),
        "pre without hi": ({**float_matmul(s), "pre": {"lo": -1.0}}, 422),
        "lo over hi": (float_matmul(s, lo=2.0), 422),
        "lo is hi": (float_matmul(s, lo=1.0), 422),
        "lo is hi in float32": (float_matmul(s, lo=1.0, hi=1.0 + 1e-12), 422),
        "bounds too large": (float_matmul(s, hi=1e38), 422),
        "bounds beyond float32": (float_matmul(s, hi=1e300), 422),
        "ema_axis 2": (float_matmul(s, ema_axis=2), 422),
        "alpha 0": (float_matmul(s, ema_axis=1, alpha=0.0), 422),
        "alpha over 1": (float_matmul(s, ema_axis=1, alpha=1.5), 422),
        "alpha below 0": (float_matmul(s, ema_axis=1, alpha=-0.5), 422),
        "alpha too small for float32": (float_matmul(s, ema_axis=1, alpha=1e-300), 422),
        "alpha the smallest": (float_matmul(s, ema_axis=0, alpha=5e-324), 422),
        "alpha remembers too much": (float_matmul(s, ema_axis=0, alpha=1e-5), 422),
        "segment_rows 0": (float_matmul(s, ema_axis=0, alpha=0.5, segment_rows=0), 422),
        "unknown scale": (float_matmul(s, scale="column"), 422),
        "audit of a stream": (stream(s, policy="audit"), 422),
        "int8 stream": (stream(s, x=s["i"]), 422),
        "stream without pre": ({"kind": "stream", "x": s["x"]}, 422),
        "stream with a": (stream(s, a=s["x"]), 422),
    }


async def test_jobs_that_cannot_be(http: httpx.AsyncClient, stored: dict[str, Job]) -> None:
    before = (await http.get("/v1/jobs?limit=1")).json()
    for name, (job, status) in refused_jobs(stored).items():
        body = problem(await http.post("/v1/jobs", json=job), status, name)
        assert len(body["detail"]) > 10, name
        if status == 413 or "over the limit" in name:
            assert body["limit"], name
        packed = frame({"t": "job", **job}) if name != "rows beyond int64" else None
        if packed is not None:
            problem(await http.post("/v1/jobs", content=packed, headers=FRAME), status, f"{name}, as a frame")
    for odd in (NAN, INF, -INF):  # MessagePack can say these, JSON cannot
        for field in ("lo", "hi", "alpha"):
            packed = frame({"t": "job", **float_matmul(stored, ema_axis=1, **{field: odd})})
            problem(await http.post("/v1/jobs", content=packed, headers=FRAME), 422, f"{field} {odd}")
    assert (await http.get("/v1/jobs?limit=1")).json() == before, "a refused job left a trace"


async def test_malformed_bodies(http: httpx.AsyncClient, stored: dict[str, Job]) -> None:
    good = json.dumps(matmul(stored)).encode()
    bodies: list[tuple[str, bytes, dict[str, str], int]] = [
        ("empty", b"", JSON, 400),
        ("not JSON", b"{kind: matmul}", JSON, 400),
        ("cut short", good[:-5], JSON, 400),
        ("more after it", good + b"}", JSON, 400),
        ("a list", b"[1]", JSON, 400),
        ("null", b"null", JSON, 400),
        ("a NaN", b'{"kind": "matmul", "pre": {"lo": NaN}}', JSON, 400),
        ("a number beyond float64", b'{"kind": "stream", "pre": {"lo": 1e999}}', JSON, 400),
        ("nested", b"[" * 30_000, JSON, 400),
        ("not UTF-8", b'{"kind": "\xff\xfe"}', JSON, 400),
        ("too large", b" " * 65_537, JSON, 413),
        ("JSON as a frame", good, FRAME, 400),
        ("empty frame", b"", FRAME, 400),
        ("bad magic", b"SHY2" + bytes(12), FRAME, 400),
        ("no map", frame(b"\x93\x01\x02\x03"), FRAME, 400),
        ("deep", frame(b"\x81\xa1a" + b"\x91" * 100_000 + b"\xc0"), FRAME, 400),
        ("extension", frame(b"\x81\xa4kind\xd4\x05\x00"), FRAME, 422),
        ("segment past the end", frame({"t": "job", "seg": [100]}), FRAME, 400),
    ]
    for name, body, headers, status in bodies:
        problem(await http.post("/v1/jobs", content=body, headers=headers), status, name)
    operand = {"dtype": "int8", "rows": 6, "cols": 8}
    for segment in (1, -1, "0", None, 1.5, True, 1 << 62):
        job = {"t": "job", "kind": "matmul", "a": {**operand, "s": segment}, "b": stored["j"]}
        problem(await http.post("/v1/jobs", content=frame(job, (bytes(48),)), headers=FRAME), 400, f"s {segment}")
    job = {"t": "job", "kind": "matmul", "a": {**operand, "s": 0}, "b": stored["j"]}
    problem(await http.post("/v1/jobs", content=frame(job, (bytes(47),)), headers=FRAME), 422, "short segment")


async def test_random_frames_of_jobs(http: httpx.AsyncClient, stored: dict[str, Job]) -> None:
    """Any value in any place of a job is refused or accepted, never a fault of the mesh."""
    rng = np.random.default_rng(5)
    odd = [None, True, -1, 1 << 63, 1.5, NAN, INF, "", "x" * 300, b"\0", [], [[]], {}, {"a": {}}]
    places = ["kind", "policy", "redundancy", "audit_rounds", "label", "a", "b", "pre", "task_rows", "t", "seg"]
    for _ in range(60):
        job = {"t": "job", **float_matmul(stored)}
        for _ in range(int(rng.integers(1, 4))):
            place = places[rng.integers(len(places))]
            value = odd[rng.integers(len(odd))]
            if place in ("a", "b", "pre") and rng.random() < 0.7:
                inner = dict(job[place]) if isinstance(job.get(place), dict) else {}
                inner[list(inner)[rng.integers(len(inner))] if inner else "lo"] = value
                value = inner
            job[place] = value
        body = frame(msgspec.msgpack.encode(job))
        answer = await http.post("/v1/jobs", content=body, headers=FRAME)
        if answer.status_code == 201:
            await http.post(f"/v1/jobs/{answer.json()['id']}/cancel")
        else:
            assert answer.status_code in (400, 409, 413, 422), (job, answer.text)
            problem(answer, answer.status_code, str(job))


async def test_blobs(http: httpx.AsyncClient) -> None:
    data = np.random.default_rng(8).bytes(100_000)
    digest = blake3(data).hexdigest()
    path = f"/v1/blobs/{digest}"
    assert (await http.head(path)).status_code == 404
    problem(await http.get(path), 404)
    for name, body in (("one bit", data[:-1] + bytes([data[-1] ^ 1])), ("short", data[:-1]), ("empty", b"")):
        problem(await http.put(path, content=body), 422, name)
        assert (await http.head(path)).status_code == 404, name
    answer = await http.put(path, content=data)
    assert answer.status_code == 201 and answer.json() == {"digest": digest, "bytes": len(data)}
    again = await http.put(path, content=data)
    assert again.status_code == 200 and again.json() == {"digest": digest, "bytes": len(data)}
    head = await http.head(path)
    assert head.status_code == 200 and int(head.headers["content-length"]) == len(data)
    assert (await http.get(path)).content == data
    for asked, first, last in (
        ("0-0", 0, 0),
        ("5-104", 5, 104),
        ("99990-", 99_990, 99_999),
        ("0-99999", 0, 99_999),
        ("0-100000", 0, 99_999),
        ("99999-9999999999", 99_999, 99_999),
        ("-5", 99_995, 99_999),
        ("-100001", 0, 99_999),
    ):
        part = await http.get(path, headers={"Range": f"bytes={asked}"})
        assert part.status_code == 206 and part.content == data[first : last + 1], asked
        assert part.headers["content-range"] == f"bytes {first}-{last}/100000"
    for asked in ("bytes=100000-", "bytes=100000-100001", "bytes=-0"):
        outside = await http.get(path, headers={"Range": asked})
        problem(outside, 416, asked)
        assert outside.headers["content-range"] == "bytes */100000"
    for asked in (
        "bytes=5-4",
        "bytes=x-y",
        "bytes=",
        "bytes=-",
        "bytes",
        "bytes=-1-5",
        "bytes=" + "9" * 5000 + "-",
        "bytes=0-" + "9" * 5000,
    ):
        problem(await http.get(path, headers={"Range": asked}), 400, asked[:20])
    problem(await http.get(path, headers=[(b"Range", b"bytes=\xb2-\xb3")]), 400, "digits that are none")
    for ignored in ({"Range": "rows=0-1"}, {"Range": "bytes=0-1,5-6"}, {"Range": "bytes=0-1", "If-Range": '"x"'}):
        whole = await http.get(path, headers=ignored)
        assert whole.status_code == 200 and whole.content == data, ignored
    for bad in ("0" * 63, "0" * 65, "G" * 64, digest.upper(), "..%2f..%2fapi_key"):
        answer = await http.get(f"/v1/blobs/{bad}")
        problem(answer, 404 if "/" in httpx.URL(answer.request.url).path[10:] else 400, bad)
        assert (await http.head(f"/v1/blobs/{bad}")).status_code in (400, 404, 405)


async def announce(stack: Stack, method: str, path: str, size: int, more: str = "") -> bytes:
    """A request whose body is announced and never sent; what came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: mesh\r\nAuthorization: Bearer {stack.api_key}\r\n"
        f"Content-Length: {size}\r\n{more}\r\n".encode()
    )
    await writer.drain()
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    writer.close()
    return answer.lower()


async def test_bodies_too_large_are_refused_unread(stack: Stack) -> None:
    for method, path, size, more in (
        ("PUT", "/v1/blobs/" + "1" * 64, (1 << 30) + 1, ""),
        ("PUT", "/v1/blobs/" + "1" * 64, 10**18, ""),
        ("POST", "/v1/jobs", 64 * 1024 + 1, ""),
        ("POST", "/v1/jobs", (16 << 20) + 1, "Content-Type: application/vnd.shardy.frame\r\n"),
    ):
        answer = await announce(stack, method, path, size, more)
        assert answer.startswith(b"http/1.1 413") and b"application/problem+json" in answer, (method, size)


async def test_nothing_there(stack: Stack, http: httpx.AsyncClient) -> None:
    for method, path in (
        ("GET", "/v1/jobs/j00000000000000000"),
        ("GET", "/v1/jobs/unknown"),
        ("GET", "/v1/jobs/a%20b"),
        ("GET", "/v1/jobs/" + "x" * 2000),
        ("POST", "/v1/jobs/unknown/cancel"),
        ("GET", "/v1/jobs/unknown/events"),
        ("GET", "/v1/jobs/unknown/tasks"),
        ("GET", "/v1/jobs/unknown/result/c"),
        ("GET", "/v1/nothing"),
        ("GET", "/v2/jobs"),
    ):
        problem(await http.request(method, path), 404, path)
    for method, path in (("DELETE", "/v1/jobs"), ("PATCH", "/v1/jobs/x"), ("POST", "/v1/workers"), ("PUT", "/healthz")):
        answer = await http.request(method, path)
        problem(answer, answer.status_code, path)
        assert answer.status_code in (404, 405)
    for query in (
        "/v1/jobs?limit=0",
        "/v1/jobs?limit=501",
        "/v1/jobs?limit=x",
        "/v1/jobs/x?wait=-1",
        "/v1/jobs/x?wait=61",
        "/v1/jobs/x?wait=nan",
        "/v1/jobs/x?wait=inf",
        "/v1/jobs/x/tasks?limit=0",
        "/v1/frauds?limit=1001",
    ):
        problem(await http.get(query), 422, query)
    async with api(stack, stack.operator_key) as operator:
        for query in ("limit=-1", "limit=1001", "before=x", "before=-1", "cause=weather", "state=ajar"):
            problem(await operator.get(f"/v1/dlq?{query}"), 422, query)


async def test_somebody_elses_job(
    honest: Workers, stack: Stack, http: httpx.AsyncClient, stored: dict[str, Job]
) -> None:
    import hashlib

    other = "shardy_" + "o" * 32
    keys = stack.data_dir / "api_keys"
    before = keys.read_text()
    keys.write_text(before + hashlib.sha256(other.encode()).hexdigest() + "\n")
    mine = (await http.post("/v1/jobs?wait=60", json=matmul(stored))).json()
    assert mine["state"] == "completed"
    async with api(stack, other) as theirs:

        async def known() -> bool:
            return (await theirs.get("/v1/jobs")).status_code == 200

        await until(known, "the new key is known")
        assert (await theirs.get("/v1/jobs")).json() == {"jobs": [], "next": None}
        for method, path in (
            ("GET", ""),
            ("GET", "/tasks"),
            ("GET", "/events"),
            ("GET", "/result/c"),
            ("POST", "/cancel"),
        ):
            problem(await theirs.request(method, f"/v1/jobs/{mine['id']}{path}"), 404, path)
    keys.write_text(before)


async def test_waiting_results_cancel_and_events(
    honest: Workers, stack: Stack, http: httpx.AsyncClient, mesh: AsyncMesh, rng: np.random.Generator
) -> None:
    """A job that cannot end, because it wants more workers than there are."""
    job = await mesh.submit_matmul(int8(rng, 4, 8), int8(rng, 8, 4), redundancy=7)
    status = (await http.get(f"/v1/jobs/{job.id}?wait=0.3")).json()
    assert status["state"] in ("waiting", "running") and status["ended_ms"] is None
    problem(await http.get(f"/v1/jobs/{job.id}/result/c"), 409)
    problem(await http.get(f"/v1/jobs/{job.id}/result/nothing"), 404)

    async def listen() -> list[tuple[str, Job]]:
        heard: list[tuple[str, Job]] = []
        async with http.stream("GET", f"/v1/jobs/{job.id}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            name = ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    heard.append((name, json.loads(line[6:])))
        return heard

    listening = asyncio.create_task(listen())
    waiting = asyncio.create_task(http.get(f"/v1/jobs/{job.id}?wait=60"))
    await asyncio.sleep(0.3)
    cancelled = await http.post(f"/v1/jobs/{job.id}/cancel")
    assert cancelled.status_code == 200 and cancelled.json()["state"] == "cancelled"
    assert (await waiting).json()["state"] == "cancelled"
    heard = await asyncio.wait_for(listening, 60)
    assert [name for name, _ in heard][-1] == "end" and {name for name, _ in heard[:-1]} == {"progress"}
    assert heard[-1][1]["state"] == "cancelled" and heard[-1][1]["id"] == job.id
    problem(await http.post(f"/v1/jobs/{job.id}/cancel"), 409)
    problem(await http.get(f"/v1/jobs/{job.id}/result/c"), 409)

    a, b = int8(rng, 30, 8), int8(rng, 8, 4)
    job = await mesh.submit_matmul(a, b, task_rows=1, wait_s=60)
    assert job.last["state"] == "completed" and job.last["error"] is None
    assert job.last["result"] == {"c": {"dtype": "int32", "shape": [30, 4]}}
    same(await job.result(), product(a, b))
    answer = await http.get(f"/v1/jobs/{job.id}/result/c")
    assert answer.content[:6] == b"\x93NUMPY" and len(answer.content) == int(answer.headers["content-length"])
    problem(await http.get(f"/v1/jobs/{job.id}/result/d"), 404)
    problem(await http.post(f"/v1/jobs/{job.id}/cancel"), 409)
    (end,) = [line async for line in (await http.get(f"/v1/jobs/{job.id}/events")).aiter_lines() if "event:" in line]
    assert end == "event: end"


async def test_pages(honest: Workers, http: httpx.AsyncClient, mesh: AsyncMesh, rng: np.random.Generator) -> None:
    x, pre = np.ones((4, 4), np.float32), PreExec(-1, 1)
    made = [(await mesh.submit_stream(x, pre, label=f"page {i}", wait_s=60)).id for i in range(5)]
    seen: list[str] = []
    before = ""
    while len(seen) < 5:
        page = (await http.get("/v1/jobs", params={"limit": 2, **({"before": before} if before else {})})).json()
        assert 1 <= len(page["jobs"]) <= 2
        seen += [job["id"] for job in page["jobs"]]
        before = page["next"]
        assert before == page["jobs"][-1]["id"]
    assert seen[:5] == made[::-1], "newest first, without gaps or repeats"
    assert len((await http.get(f"/v1/jobs/{made[0]}/tasks?limit=1")).json()["tasks"]) == 1


async def test_lists_and_page(honest: Workers, stack: Stack, http: httpx.AsyncClient) -> None:
    workers = (await http.get("/v1/workers")).json()["workers"]
    assert sum(w["present"] for w in workers) >= 3
    assert isinstance((await http.get("/v1/frauds")).json()["frauds"], list)
    async with api(stack, stack.operator_key) as operator:
        assert isinstance((await operator.get("/v1/dlq")).json()["entries"], list)
    page = await http.get("/")
    assert page.status_code == 200 and page.headers["cross-origin-embedder-policy"] == "require-corp"
