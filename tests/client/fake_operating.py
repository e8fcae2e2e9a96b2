"""Devices, credit, receipts, dead letters and keys of the fake mesh, as docs/api.md shapes them."""

from __future__ import annotations

from typing import Any

from fake_problems import problem
from fake_verifiers import FakeVerifiers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

MESH_KEY = "ab" * 32
FRAUD = {
    "task": "t1", "job": "j1", "lease": "l1", "worker": "12D3KooWliar", "name": "native/0.1 liar", "method": "audit",
    "row": 7, "rounds": 2, "digest": "cd" * 32, "at_ms": 1, "expected": None,
}  # fmt: skip
WORKER = {
    "id": "12D3KooWabcdefgh", "name": "native/0.1 bench", "present": True, "banned": False, "tier": "wasm-laptop",
    "backend": "wasm", "gpu": None, "gops": 23.4, "memory_mib": 512, "tasks_verified": 7, "ops_verified": 9 * 10**9,
    "gateway": "g1", "joined_ms": 1,
}  # fmt: skip
TRUST = {
    "probation": False, "checked_tasks": 7, "checked_ops": 9 * 10**9, "checked_ms": 1, "replication_probability": 0.1,
    "budget_ops": 2 * 10**9, "exposure_ops": 0, "alone_tasks": 0, "alone_ops": 0, "faults": 0,
}  # fmt: skip
RECORD = {"accepted": 12, "late": 1, "lost": 0, "failed": 0, "malformed": 0}
LETTER = {
    "entry": "task-t1", "cause": "unresolved", "state": "open", "subject": "task.t1.unresolved", "seq": 9, "at_ms": 1,
    "trace": "", "evidence": {"task": "t1", "job": "j1", "why": "12 leases ended without a verdict"}, "closed_by": None,
    "closed_ms": None, "outcome": None,
}  # fmt: skip


class FakeOperating:
    """What an operator works with; emptied with the fake mesh."""

    def __init__(self) -> None:
        self.verifiers = FakeVerifiers()

    def reset(self) -> None:
        self.verifiers.reset()
        self.letters = {"task-t1": dict(LETTER)}
        self.keys: dict[str, dict[str, Any]] = {}
        self.revoked: dict[str, dict[str, Any]] = {}
        self.ledger = [
            {
                "seq": n, "at_ms": n, "worker": WORKER["id"], "task": f"t{n}", "job": "j1", "ops": 10**9,
                "method": "quorum",
            }
            for n in range(1, 6)
        ]  # fmt: skip

    async def mesh(self, _: Request) -> Response:
        keys = [{"key": MESH_KEY, "since_ms": 1}]
        body = {"name": "fake", "version": "0.1.0", "gateway": "g1", "mesh_key": MESH_KEY, "mesh_keys": keys}
        more = {"policies": ["quorum", "audit", "adaptive", "proof"], "kinds": ["matmul"], "limits": {}, "pressure": {}}
        return JSONResponse(body | more)

    async def workers(self, request: Request) -> Response:
        assert set(request.query_params) <= {"limit", "after", "present"}
        return JSONResponse({"workers": [WORKER], "next": None})

    async def worker(self, request: Request) -> Response:
        if request.path_params["id"] != WORKER["id"]:
            return problem(404, "no-such-worker", "no device of this id ever joined")
        return JSONResponse({**WORKER, "credit": 9.0, "trust": TRUST, "record": RECORD, "frauds": [FRAUD]})

    async def credit(self, request: Request) -> Response:
        assert set(request.query_params) <= {"limit", "after"}
        one = {"worker": WORKER["id"], "name": WORKER["name"], "tasks": 5, "ops": 5 * 10**9, "credit": 5.0}
        total = {"tasks": 5, "ops": 5 * 10**9, "credit": 5.0}
        used = {"tasks": 2, "ops": 2 * 10**9, "credit": 2.0}
        return JSONResponse({"workers": [one], "total": total, "used": used, "next": None})

    async def entries(self, request: Request) -> Response:
        assert set(request.query_params) <= {"limit", "after", "worker", "job"}
        after, limit = int(request.query_params.get("after", 0)), int(request.query_params["limit"])
        found = [entry for entry in self.ledger if entry["seq"] > after]
        more = found[limit - 1]["seq"] if len(found) > limit else None
        return JSONResponse({"entries": found[:limit], "next": more})

    async def export(self, _: Request) -> Response:
        rows = [",".join(map(str, entry.values())) for entry in self.ledger]
        return PlainTextResponse("\n".join(["seq,at_ms,worker,task,job,ops,method", *rows]) + "\n")

    async def dlq(self, request: Request) -> Response:
        assert set(request.query_params) <= {"limit", "before", "cause", "state"}
        state = request.query_params.get("state")
        found = [letter for letter in self.letters.values() if state in (None, letter["state"])]
        return JSONResponse({"entries": found, "next": None})

    async def letter(self, request: Request) -> Response:
        letter, act = self.letters.get(request.path_params["entry"]), request.path_params.get("act")
        if letter is None:
            return problem(404, "no-such-entry", "there is no dead letter of this name")
        if act is None:
            return JSONResponse(letter)
        if letter["state"] != "open":
            return problem(409, "entry-closed", f"this dead letter is {letter['state']} already")
        if act == "replay":
            letter |= {"state": "replayed", "outcome": "job reopened"}
            return JSONResponse({"entry": letter["entry"], "outcome": letter["outcome"], "job": "j1"})
        assert (await request.json())["reason"]
        letter |= {"state": "discarded"}
        return JSONResponse({"entry": letter["entry"], "outcome": "discarded"})

    async def all_keys(self, request: Request) -> Response:
        if request.method == "GET":
            made = {"source": "log", "by": "k0", "replaces": None, "created_ms": 1}
            shown = [
                {k: v for k, v in key.items() if k != "key"}
                | made
                | {"ends_ms": key["expires_ms"], "state": "valid"}
                | self.revoked.get(name, {})
                for name, key in self.keys.items()
            ]
            return JSONResponse({"keys": shown, "next": None})
        body = await request.json()
        assert set(body) <= {"label", "scopes", "expires_s"} and body["scopes"]
        return JSONResponse(self._made(body["scopes"], body["label"], 5 if body.get("expires_s") else None), 201)

    def _made(self, scopes: list[str], label: str, expires_ms: int | None) -> dict[str, Any]:
        name = f"k{len(self.keys) + 1}"
        self.keys[name] = {
            "id": name, "key": f"shardy_{name}", "owner": "o1", "scopes": scopes, "label": label,
            "expires_ms": expires_ms,
        }  # fmt: skip
        return self.keys[name]

    async def one_key(self, request: Request) -> Response:
        key = self.keys.get(request.path_params["id"])
        if key is None:
            return problem(404, "no-such-key", "there is no key of this id")
        if request.method == "DELETE":
            self.revoked[key["id"]] = {"state": "revoked", "ends_ms": 86_400_000}
            return Response(status_code=204)
        assert set(await request.json()) <= {"grace_s"}
        return JSONResponse(self._made(key["scopes"], key["label"], None), 201)
