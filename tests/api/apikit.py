"""What the tests of the API share: problems as they must be, and a job to ask for."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httpx
import numpy as np
from blake3 import blake3

from shardy_common.stack import Stack, free_port
from shardy_gateway.problems import PROBLEMS


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Problem details of this kind, from the table, which show no stack trace."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:300]}"
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == f"/problems/{slug}" and body["status"] == status and body["detail"]
    assert body["title"] == PROBLEMS[slug].title and status in PROBLEMS[slug].status
    for trace in ("Traceback", 'File "', ".py", "shardy_gateway"):
        assert trace not in answer.text
    return body


async def put(http: httpx.AsyncClient, data: bytes) -> str:
    digest = blake3(data).hexdigest()
    answer = await http.put(f"/v1/blobs/{digest}", content=data)
    assert answer.status_code in (200, 201), answer.text
    return digest


async def small_job(http: httpx.AsyncClient, seed: int = 0, **more: Any) -> dict[str, Any]:
    """A product whose operands are stored."""
    rng = np.random.default_rng(seed)
    job: dict[str, Any] = {"kind": "matmul", **more}
    for name, rows in (("a", 6), ("b", 5)):
        digest = await put(http, rng.integers(-128, 128, (rows, 8), np.int8).tobytes())
        job[name] = {"digest": digest, "dtype": "int8", "rows": rows, "cols": 8}
    return job


async def another_gateway(stack: Stack, name: str, **settings: str) -> str:
    """A further gateway process on the same log and store; its address. The stack stops it."""
    port = free_port("127.0.0.1")
    env = {**stack._service_env("gateway", 9, port), "SHARDY_INSTANCE": name, **settings}
    stack._supervise(f"gateway-{name}", [sys.executable, "-m", "shardy_gateway.main"], env)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(timeout=2) as http:
        for _ in range(600):
            try:
                if (await http.get(url + "/healthz")).status_code == 200:
                    return url
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError("the further gateway did not start")


def keyed(url: str, key: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=60)
