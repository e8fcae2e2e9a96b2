"""The API of docs/api.md on a loopback port, with NumPy in place of a mesh; it checks what it is sent."""

from __future__ import annotations

import io
import re
import threading
import time
from typing import Any

import numpy as np
import uvicorn
from blake3 import blake3
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shardy_common.wire import frame

KEY = "test-key"
FRAME = "application/vnd.shardy.frame"


class Problem(Exception):
    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.body = {"type": "about:blank", "title": "Refused", "status": status, "detail": detail, **more}


class FakeApi:
    """Jobs complete after `steps` looks at them; `fail` makes them fail with that reason."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.parts: dict[str, dict[str, np.ndarray]] = {}
        self.requests: list[tuple[str, str]] = []
        self.connections: set[Any] = set()
        self.steps = 0
        self.fail: str | None = None
        self.refuse: Problem | None = None
        self.broken_result: bytes | None = None
        self.frauds: list[dict[str, Any]] = []

    def start(self) -> None:
        routes = [
            Route("/healthz", self._plain({"status": "ok"})),
            Route("/v1/blobs/{digest}", self._guard(self._blob), methods=["HEAD", "PUT"]),
            Route("/v1/jobs", self._guard(self._submit), methods=["POST"]),
            Route("/v1/jobs", self._guard(self._list), methods=["GET"]),
            Route("/v1/jobs/{id}", self._guard(self._status)),
            Route("/v1/jobs/{id}/cancel", self._guard(self._cancel), methods=["POST"]),
            Route("/v1/jobs/{id}/tasks", self._guard(self._tasks)),
            Route("/v1/jobs/{id}/result/{part}", self._guard(self._result)),
            Route("/v1/workers", self._guard(self._named("workers", [WORKER]))),
            Route("/v1/frauds", self._guard(self._listed_frauds)),
            Route("/v1/dlq", self._guard(self._named("entries", []))),
        ]
        config = uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=0, log_level="error", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(5)

    # --- plumbing -------------------------------------------------------------------------------------------

    def _plain(self, body: dict[str, Any]) -> Any:
        async def answer(_: Request) -> Response:
            return JSONResponse(body)

        return answer

    def _guard(self, handler: Any) -> Any:
        async def guarded(request: Request) -> Response:
            self.requests.append((request.method, request.url.path))
            self.connections.add(request.client)
            try:
                if request.headers.get("authorization") != f"Bearer {KEY}":
                    raise Problem(401, "this API key is not known")
                if self.refuse is not None:
                    raise self.refuse
                return await handler(request)
            except Problem as problem:
                media = "application/problem+json"
                return JSONResponse(problem.body, problem.body["status"], media_type=media)

        return guarded

    def _named(self, name: str, value: list[Any]) -> Any:
        async def answer(_: Request) -> Response:
            return JSONResponse({name: value})

        return answer

    # --- calls ----------------------------------------------------------------------------------------------

    async def _blob(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        assert re.fullmatch("[0-9a-f]{64}", digest)
        if request.method == "HEAD":
            return Response(status_code=200 if digest in self.blobs else 404)
        assert digest not in self.blobs, "uploaded twice"
        data = await request.body()
        assert request.headers["content-length"] == str(len(data)) and blake3(data).hexdigest() == digest
        self.blobs[digest] = data
        return JSONResponse({"digest": digest, "bytes": len(data)}, 201)

    def _operand(self, fields: dict[str, Any], segments: list[memoryview]) -> np.ndarray:
        data = bytes(segments[fields["s"]]) if "s" in fields else self.blobs[fields["digest"]]
        assert ("s" in fields) == (len(data) <= 256 * 1024), "inline up to 256 KiB, stored above"
        return np.frombuffer(data, fields["dtype"]).reshape(fields["rows"], fields["cols"])

    async def _submit(self, request: Request) -> Response:
        body, segments = await request.body(), []
        if request.headers["content-type"] == FRAME:
            job, segments = frame.decode(body)
            assert job.pop("t") == "job"
        else:
            job = await request.json()
        name = f"j{len(self.jobs) + 1}"
        operands = {key: self._operand(job[key], segments) for key in ("a", "b", "x") if key in job}
        if job["kind"] == "matmul":
            a, b = operands["a"], operands["b"]
            parts = {"c": (np.rint(a).astype(np.int64) @ np.rint(b).astype(np.int64).T).astype(np.int32)}
            if a.dtype == np.float32:
                assert job["pre"]["lo"] < job["pre"]["hi"]
                parts |= {"a_scale": np.ones(len(a), np.float32), "b_scale": np.ones(len(b), np.float32)}
                parts["d"] = parts["c"].astype(np.float32)
        else:
            x = operands["x"]
            parts = {"q": np.rint(x).astype(np.int8), "scale": np.ones(len(x), np.float32)}
        self.parts[name] = parts
        cells = parts.get("c", parts.get("q")).size  # type: ignore[union-attr]
        self.jobs[name] = {
            "id": name,
            "kind": job["kind"],
            "policy": job["policy"],
            "label": job["label"],
            "state": "running",
            "progress": {"cells_done": 0, "cells": cells, "tasks_verified": 0, "tasks_active": 1},
            "frauds": self.frauds,
            "error": None,
            "created_ms": int(time.time() * 1000),
            "ended_ms": None,
            "result": {k: {"dtype": str(v.dtype), "shape": list(v.shape)} for k, v in parts.items()},
            "submitted": job,
            "left": self.steps,
        }
        return JSONResponse(self._look(name, request), 201)

    def _look(self, name: str, request: Request) -> dict[str, Any]:
        if name not in self.jobs:
            raise Problem(404, "you have no job of this id")
        job = self.jobs[name]
        if job["state"] == "running" and "wait" in request.query_params:
            job["left"] -= 1
            done = job["progress"]["cells"] if job["left"] < 0 else job["progress"]["cells"] // 2
            job["progress"] = {**job["progress"], "cells_done": done}
            if job["left"] < 0:
                job["state"], job["error"] = ("failed", self.fail) if self.fail else ("completed", None)
        return {key: value for key, value in job.items() if key not in ("submitted", "left")}

    async def _list(self, request: Request) -> Response:
        limit = int(request.query_params["limit"])
        names = sorted(self.jobs, reverse=True)[:limit]
        more = names[-1] if len(self.jobs) > limit else None
        return JSONResponse({"jobs": [self._look(name, request) for name in names], "next": more})

    async def _status(self, request: Request) -> Response:
        return JSONResponse(self._look(request.path_params["id"], request))

    async def _cancel(self, request: Request) -> Response:
        job = self.jobs[request.path_params["id"]]
        if job["state"] != "running":
            raise Problem(409, f"the job has ended already: it is {job['state']}")
        job["state"] = "cancelled"
        return JSONResponse(self._look(job["id"], request))

    async def _tasks(self, _: Request) -> Response:
        task = {"id": "t1", "row0": 0, "rows": 4, "col0": 0, "cols": 5, "state": "verified", "method": "audit"}
        return JSONResponse({"tasks": [{**task, "verified_by": ["w1"], "digest": "ab" * 32}]})

    async def _result(self, request: Request) -> Response:
        name, part = request.path_params["id"], request.path_params["part"]
        if self.broken_result is not None:
            return Response(self.broken_result, media_type="application/x-npy")
        if self.jobs[name]["state"] != "completed":
            raise Problem(409, "the job is running")
        body = io.BytesIO()
        np.save(body, self.parts[name][part])
        return Response(body.getvalue(), media_type="application/x-npy")

    async def _listed_frauds(self, _: Request) -> Response:
        return JSONResponse({"frauds": self.frauds})


FRAUD = {
    "task": "t1", "job": "j1", "worker": "12D3KooWliar", "name": "native/0.1 liar", "method": "audit", "row": 7,
    "rounds": 2, "at_ms": 1,
}  # fmt: skip
WORKER = {
    "id": "12D3KooWabcdefgh", "name": "native/0.1 bench", "present": True, "banned": False, "tier": "wasm-laptop",
    "backend": "wasm", "gpu": None, "gops": 23.4, "memory_mib": 512, "tasks_verified": 7, "ops_verified": 9e9,
    "joined_ms": 1,
}  # fmt: skip
