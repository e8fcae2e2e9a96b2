"""The API of docs/api.md on a loopback port, with NumPy in place of a mesh.

It checks what it is sent, and that what it gives has the shapes that the gateway's document promises: a client that
passes against an API of another shape has passed nothing.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import numpy as np
import uvicorn
from blake3 import blake3
from fake_operating import FRAUD, WORKER, FakeOperating
from fake_uploads import WHOLE_BYTES_MAX, FakeUploads
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from shardy_common.wire import frame
from shardy_gateway import answers
from shardy_gateway.operations import JSON, OPERATIONS

KEY = "test-key"
OPERATOR = "test-operator"
SCOPES = {KEY: {"submit"}, OPERATOR: {"operate"}}
FRAME = "application/vnd.shardy.frame"
CALLS = [(method, re.compile(re.sub(r"{\w+}", "[^/]+", path)), OPERATIONS[method, path]) for method, path in OPERATIONS]


def promised(method: str, path: str, answer: Response) -> Response:
    """The answer, after a look at whether the document says such a one for this call."""
    call = next(call for named, pattern, call in CALLS if named == method and pattern.fullmatch(path))
    said = call.answers.get(answer.status_code)
    if answer.status_code < 400:
        assert said, f"{method} {path} never answers {answer.status_code}"
        if said.media == JSON:
            msgspec.json.decode(answer.body, type=getattr(answers, said.schema))
    elif answer.body:
        msgspec.json.decode(answer.body, type=answers.ProblemDetails)
    return answer


class Problem(Exception):
    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.headers = more.pop("headers", {})
        self.body = {"type": "/problems/refused", "title": "Refused", "status": status, "detail": detail, **more}


class FakeApi:
    """Jobs complete after `steps` looks at them; `fail` makes them fail with that reason."""

    def __init__(self) -> None:
        self.uploads, self.operating = FakeUploads(), FakeOperating()
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
        self.waiting_for: str | None = None
        self.streams = True
        self.refusals: list[Problem] = []
        self.idempotent: dict[str, tuple[str, str]] = {}
        self.uploads.reset(self.blobs)
        self.operating.reset()

    def start(self) -> None:
        routes = [
            Route("/healthz", self._healthz),
            self._route("/v1/mesh", self.operating.mesh),
            self._route("/v1/blobs/{digest}", self._blob, "submit", "HEAD", "PUT"),
            self._route("/v1/uploads/{digest}", self.uploads.handle, "submit", "HEAD", "PATCH", "DELETE"),
            self._route("/v1/jobs", self._submit, "submit", "POST"),
            self._route("/v1/jobs", self._list),
            self._route("/v1/jobs/{id}", self._status, "submit"),
            self._route("/v1/jobs/{id}/cancel", self._cancel, "submit", "POST"),
            self._route("/v1/jobs/{id}/events", self._events, "submit"),
            self._route("/v1/jobs/{id}/tasks", self._tasks, "submit"),
            self._route("/v1/jobs/{id}/result/{part}", self._result, "submit"),
            self._route("/v1/jobs/{id}/receipt", self._receipt, "submit"),
            self._route("/v1/jobs/{id}/tasks/{task}/receipt", self._receipt, "submit"),
            self._route("/v1/workers", self.operating.workers),
            self._route("/v1/workers/{id}", self.operating.worker),
            self._route("/v1/frauds", self._listed_frauds),
            self._route("/v1/credit", self.operating.credit),
            self._route("/v1/credit/ledger", self.operating.entries),
            self._route("/v1/credit/export", self.operating.export),
            self._route("/v1/dlq", self.operating.dlq, "operate"),
            self._route("/v1/dlq/{entry}", self.operating.letter, "operate"),
            self._route("/v1/dlq/{entry}/{act}", self.operating.letter, "operate", "POST"),
            self._route("/v1/keys", self.operating.all_keys, "operate", "GET", "POST"),
            self._route("/v1/keys/{id}/rotate", self.operating.one_key, "operate", "POST"),
            self._route("/v1/keys/{id}", self.operating.one_key, "operate", "DELETE"),
            self._route("/v1/verifiers", self.operating.verifiers.all, "operate", "GET", "POST"),
            self._route("/v1/verifiers/rotate", self.operating.verifiers.rotate, "operate", "POST"),
            self._route("/v1/verifiers/revoke", self.operating.verifiers.revoke, "operate", "POST"),
            self._route("/v1/verifiers/{version}", self.operating.verifiers.one, "operate"),
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

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def _route(self, path: str, handler: Any, scope: str = "", *methods: str) -> Route:
        async def guarded(request: Request) -> Response:
            self.requests.append((request.method, request.url.path))
            self.connections.add(request.client)
            try:
                scopes = SCOPES.get(request.headers.get("authorization", "").removeprefix("Bearer "))
                if scopes is None:
                    raise Problem(401, "this API key is not known")
                if scope and scope not in scopes:
                    raise Problem(403, f"this API key may not do that: it needs the scope {scope}")
                if self.refuse is not None:
                    raise self.refuse
                if self.refusals:
                    raise self.refusals.pop(0)
                return promised(request.method, request.url.path, await handler(request))
            except Problem as problem:
                media = "application/problem+json"
                answer = JSONResponse(problem.body, problem.body["status"], problem.headers, media)
                return promised(request.method, request.url.path, answer)

        return Route(path, guarded, methods=list(methods) or ["GET"])

    # --- calls ----------------------------------------------------------------------------------------------

    async def _blob(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        assert re.fullmatch("[0-9a-f]{64}", digest)
        if request.method == "HEAD":
            return Response(status_code=200 if digest in self.blobs else 404)
        assert digest not in self.blobs, "uploaded twice"
        data = await request.body()
        assert len(data) <= WHOLE_BYTES_MAX, "large blobs go in pieces"
        assert request.headers["content-length"] == str(len(data)) and blake3(data).hexdigest() == digest
        self.blobs[digest] = data
        return JSONResponse({"digest": digest, "bytes": len(data)}, 201)

    def _operand(self, fields: dict[str, Any], segments: list[memoryview]) -> np.ndarray:
        data = bytes(segments[fields["s"]]) if "s" in fields else self.blobs[fields["digest"]]
        assert "s" not in fields or len(data) <= 256 * 1024, "inline up to 256 KiB, stored above"
        return np.frombuffer(data, fields["dtype"]).reshape(fields["rows"], fields["cols"])

    async def _submit(self, request: Request) -> Response:
        body, segments = await request.body(), []
        key = request.headers["idempotency-key"]
        assert re.fullmatch("[!-~]{1,128}", key)
        fingerprint = blake3(body).hexdigest()
        if key in self.idempotent:
            same, name = self.idempotent[key]
            if same != fingerprint:
                raise Problem(422, "this idempotency key was used for another job")
            return JSONResponse(self._look(name, request), 200, {"Idempotent-Replayed": "true"})
        if request.headers["content-type"] == FRAME:
            job, segments = frame.decode(body)
            assert job.pop("t") == "job"
        else:
            job = await request.json()
        name = f"j{len(self.jobs) + 1}"
        self.idempotent[key] = (fingerprint, name)
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
        self.add_job(name, job, cells, {k: {"dtype": str(v.dtype), "shape": list(v.shape)} for k, v in parts.items()})
        return JSONResponse(self._look(name, request), 201)

    def add_job(self, name: str, job: dict[str, Any], cells: int, result: dict[str, Any]) -> None:
        """A running job, as `GET /v1/jobs/{id}` shows it; job: what was submitted."""
        self.jobs[name] = {
            "id": name,
            "kind": job["kind"],
            "policy": job["policy"],
            "label": job["label"],
            "state": "running",
            "progress": {"cells_done": 0, "cells": cells, "tasks_verified": 0, "tasks_active": 1},
            "frauds": self.frauds,
            "error": None,
            "waiting_for": self.waiting_for,
            "usage": {"ops": 2 * cells, "ops_replicas": 4 * cells},
            "created_ms": int(time.time() * 1000),
            "ended_ms": None,
            "result": result,
            "receipt": None,
            "submitted": job,
            "left": self.steps,
        }

    def _look(self, name: str, request: Request) -> dict[str, Any]:
        if name not in self.jobs:
            raise Problem(404, "you have no job of this id")
        job = self.jobs[name]
        if "wait" in request.query_params:
            self._step(job)
        return {key: value for key, value in job.items() if key not in ("submitted", "left")}

    def _step(self, job: dict[str, Any]) -> None:
        if job["state"] == "running":
            job["left"] -= 1
            done = job["progress"]["cells"] if job["left"] < 0 else job["progress"]["cells"] // 2
            job["progress"] = {**job["progress"], "cells_done": done}
            if job["left"] < 0:
                job["state"], job["error"] = ("failed", self.fail) if self.fail else ("completed", None)
                job["receipt"] = None if self.fail else f"/v1/jobs/{job['id']}/receipt"

    async def _list(self, request: Request) -> Response:
        assert set(request.query_params) <= {"limit", "before", "state", "all"}
        scope = "operate" if request.query_params.get("all") == "true" else "submit"
        if scope not in SCOPES[request.headers["authorization"].removeprefix("Bearer ")]:
            raise Problem(403, f"this API key may not do that: it needs the scope {scope}")
        limit = int(request.query_params["limit"])
        names = sorted(self.jobs, reverse=True)[:limit]
        more = names[-1] if len(self.jobs) > limit else None
        return JSONResponse({"jobs": [self._look(name, request) for name in names], "next": more})

    async def _status(self, request: Request) -> Response:
        return JSONResponse(self._look(request.path_params["id"], request))

    async def _cancel(self, request: Request) -> Response:
        self._look(request.path_params["id"], request)
        job = self.jobs[request.path_params["id"]]
        if job["state"] != "running":
            raise Problem(409, f"the job has ended already: it is {job['state']}")
        job["state"] = "cancelled"
        return JSONResponse(self._look(job["id"], request))

    async def _events(self, request: Request) -> Response:
        name = request.path_params["id"]
        if not self.streams:
            raise Problem(404, "there are no events here")
        self._look(name, request)
        assert request.headers["accept"] == "text/event-stream"

        async def events() -> AsyncIterator[bytes]:
            while True:
                self._step(self.jobs[name])
                ended = self.jobs[name]["state"] != "running"
                data = json.dumps(self._look(name, request))
                yield f": a comment\n\nevent: {'end' if ended else 'progress'}\ndata: {data}\n\n".encode()
                if ended:
                    return
                await asyncio.sleep(0.01)

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _receipt(self, request: Request) -> Response:
        self._look(request.path_params["id"], request)
        return JSONResponse({"statement": dict(request.path_params), "signature": {"key": "", "sig": ""}})

    async def _tasks(self, _: Request) -> Response:
        task = {"id": "t1", "row0": 0, "rows": 4, "col0": 0, "cols": 5, "state": "verified", "method": "audit"}
        had = {"verified_by": ["w1"], "digest": "ab" * 32, "leases": {"l1": "w1", "l2": "w2"}}
        return JSONResponse({"tasks": [{**task, **had}], "next": None})

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
        return JSONResponse({"frauds": self.frauds, "next": None})


__all__ = ["FRAUD", "KEY", "OPERATOR", "WORKER", "FakeApi", "Problem"]
