"""Real answers fit the OpenAPI document, which describes every call; pages meet everything once; events resume."""

from __future__ import annotations

import ast
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from apikit import keyed, problem, put, small_job
from jsonschema import Draft202012Validator

from shardy_common.stack import Stack
from shardy_gateway.app import make_app
from shardy_gateway.config import GatewaySettings
from shardy_gateway.openapi import example
from shardy_gateway.operations import OPERATIONS
from shardy_gateway.problems import PROBLEMS, slug_of

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT: dict[str, Any] = make_app(GatewaySettings()).openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]


def fits(value: Any, schema: dict[str, Any]) -> None:
    Draft202012Validator({**schema, "components": {"schemas": SCHEMAS}}).validate(value)


def said(method: str, path: str, answer: httpx.Response) -> None:
    """The answer is one that the document says for this call."""
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    assert str(answer.status_code) in responses, f"{method} {path}: {answer.status_code}"
    response = responses[str(answer.status_code)]
    for name in response.get("headers", ()):
        assert name in answer.headers, f"{method} {path} {answer.status_code}: no {name}"
    if "content" in response and method != "HEAD":
        media = answer.headers["content-type"].partition(";")[0]
        assert media in response["content"], f"{method} {path}: {media}"
        if media.endswith("json"):
            fits(answer.json(), response["content"][media]["schema"])


# -- the document -----------------------------------------------------------------------------------------------------


def test_every_call_is_described() -> None:
    assert DOCUMENT["openapi"] == "3.1.0" and DOCUMENT["servers"] and DOCUMENT["info"]["description"]
    names = set()
    for path, item in DOCUMENT["paths"].items():
        for method, call in item.items():
            where = f"{method} {path}"
            assert (method.upper(), path) in OPERATIONS, f"{where} has no entry in operations.py"
            assert call["summary"] and len(call["description"]) > 20 and call["tags"], where
            assert call["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}, where
            names.add(call["operationId"])
            for parameter in call.get("parameters", ()):
                assert parameter["schema"] and (parameter.get("description") or parameter["in"] == "path"), where
            for media in call.get("requestBody", {}).get("content", {}).values():
                assert media["schema"], where
            for status, response in call["responses"].items():
                assert response["description"], f"{where} {status}"
                for media, content in response.get("content", {}).items():
                    assert content["schema"], f"{where} {status}"
                    assert not media.endswith("json") or "example" in content or "examples" in content, where
    assert len(names) == sum(map(len, DOCUMENT["paths"].values())), "names of operations repeat"


def test_schemas_are_schemas_and_examples_fit_them() -> None:
    for name, schema in SCHEMAS.items():
        Draft202012Validator.check_schema(schema)
        fits(example(schema, SCHEMAS), {"$ref": f"#/components/schemas/{name}"})
        assert schema.get("description"), name
    for item in DOCUMENT["paths"].values():
        for call in item.values():
            for response in call["responses"].values():
                for content in response.get("content", {}).values():
                    for shown in content.get("examples", {}).values():
                        fits(shown["value"], content["schema"])


def test_a_wrong_answer_does_not_fit() -> None:
    good = example(SCHEMAS["JobStatus"], SCHEMAS)
    for wrong in ({**good, "state": "lost"}, {**good, "more": 1}, {k: v for k, v in good.items() if k != "usage"}):
        with pytest.raises(Exception, match=r"lost|more|usage"):
            fits(wrong, {"$ref": "#/components/schemas/JobStatus"})


def test_every_refusal_in_the_code_has_its_problem() -> None:
    """Titles of all Refused(…) in services and libraries are in the table, each with its status."""
    found = 0
    for path in [*(ROOT / "services/gateway").rglob("*.py"), ROOT / "libs/shardy_common/kinds.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refused"):
                continue
            keywords = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            if any(k.arg in ("title", "status") and k.arg not in keywords for k in node.keywords):
                continue  # both are given on, and stand where it was made
            slug = slug_of(keywords.get("title", "Refused"))
            assert slug in PROBLEMS, f"{path.name}:{node.lineno} {keywords}"
            assert keywords.get("status", 422) in PROBLEMS[slug].status, f"{path.name}:{node.lineno} {keywords}"
            found += 1
    assert found > 40


def test_the_document_keeps_no_secret() -> None:
    text = json.dumps(DOCUMENT)
    assert "api_keys" not in text and str(ROOT) not in text and "nats" not in text.lower()


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def devices(stack: Stack) -> AsyncIterator[None]:
    """Two honest workers, enough for a quorum."""
    command = [sys.executable, str(ROOT / "tests/connected/workerproc.py"), stack.url]
    quiet = asyncio.subprocess.DEVNULL
    running = [await asyncio.create_subprocess_exec(*command, f"w{n}", stdout=quiet, stderr=quiet) for n in range(2)]
    async with keyed(stack.url, stack.api_key) as http:
        for _ in range(600):
            workers = (await http.get("/v1/workers")).json()["workers"]
            if sum(bool(w["present"] and w["tier"]) for w in workers) >= 2:
                break
            await asyncio.sleep(0.1)
    yield
    for process in running:
        process.terminate()
        await process.wait()


async def test_answers_are_those_that_the_document_says(
    devices: None, stack: Stack, http: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    calls: list[tuple[httpx.AsyncClient, str, str, dict[str, str], dict[str, Any]]] = []

    async def call(client: httpx.AsyncClient, method: str, path: str, names: dict[str, str], **more: Any) -> Any:
        url = path
        for name, value in names.items():
            url = url.replace("{" + name + "}", value)
        answer = await client.request(method, url, **more)
        said(method, path, answer)
        calls.append((client, method, path, names, more))
        return answer

    job = await small_job(http, policy="quorum")
    digest = job["a"]["digest"]
    done = (await call(http, "POST", "/v1/jobs", {}, json=job, params={"wait": 60})).json()
    assert done["state"] == "completed", done
    assert done["usage"]["ops"] > 0 and done["usage"]["ops_replicas"] == 2 * done["usage"]["ops"]
    key = {"Idempotency-Key": "answers"}
    again = [await call(http, "POST", "/v1/jobs", {}, json=job, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in again] == [201, 200]
    for wrong in ({}, {"kind": "matmul"}, {**job, "a": {**job["a"], "digest": "1" * 64}}):
        await call(http, "POST", "/v1/jobs", {}, json=wrong)
    await call(http, "POST", "/v1/jobs", {}, content=b"{", headers={"Content-Type": "application/json"})
    await call(http, "POST", "/v1/jobs", {}, content=b"x", headers={"Content-Type": "text/plain"})
    await call(http, "GET", "/v1/jobs", {}, params={"limit": 1})
    await call(http, "GET", "/v1/jobs", {}, params={"state": "odd"})
    for ident in (done["id"], "j0"):
        await call(http, "GET", "/v1/jobs/{job_id}", {"job_id": ident})
        await call(http, "GET", "/v1/jobs/{job_id}/tasks", {"job_id": ident})
        await call(http, "GET", "/v1/jobs/{job_id}/events", {"job_id": ident})
        await call(http, "POST", "/v1/jobs/{job_id}/cancel", {"job_id": ident})
        for part in ("c", "q"):
            await call(http, "GET", "/v1/jobs/{job_id}/result/{part}", {"job_id": ident, "part": part})
    for value in (digest, "1" * 64, "x"):
        await call(http, "HEAD", "/v1/blobs/{digest}", {"digest": value})
        for ranges in ({}, {"Range": "bytes=0-3"}, {"Range": "bytes=999-"}, {"Range": "bytes=x"}):
            await call(http, "GET", "/v1/blobs/{digest}", {"digest": value}, headers=ranges)
        await call(http, "PUT", "/v1/blobs/{digest}", {"digest": value}, content=b"x")
        await call(http, "HEAD", "/v1/uploads/{digest}", {"digest": value})
        for offset in ("0", "5", "-1"):
            headers = {"Upload-Offset": offset, "Upload-Length": "9"}
            await call(http, "PATCH", "/v1/uploads/{digest}", {"digest": value}, content=b"abc", headers=headers)
        await call(http, "HEAD", "/v1/uploads/{digest}", {"digest": value})
        await call(http, "DELETE", "/v1/uploads/{digest}", {"digest": value})
    await call(http, "GET", "/v1/mesh", {})
    workers = (await call(http, "GET", "/v1/workers", {})).json()["workers"]
    for ident in (workers[0]["id"], "x"):
        await call(http, "GET", "/v1/workers/{worker_id}", {"worker_id": ident})
    await call(http, "GET", "/v1/frauds", {})
    await call(http, "GET", "/healthz", {})
    await call(http, "GET", "/problems/{slug}", {"slug": "refused"})
    made = (await call(operator, "POST", "/v1/keys", {}, json={"label": "x", "scopes": ["submit"]})).json()
    await call(operator, "POST", "/v1/keys", {}, json={})
    await call(operator, "GET", "/v1/keys", {})
    await call(operator, "POST", "/v1/keys/{key_id}/rotate", {"key_id": made["id"]})
    await call(operator, "POST", "/v1/keys/{key_id}/rotate", {"key_id": made["id"]})
    await call(operator, "DELETE", "/v1/keys/{key_id}", {"key_id": made["id"]})
    await call(operator, "GET", "/v1/dlq", {})
    for method, path in (("GET", "/v1/dlq/{entry}"), ("POST", "/v1/dlq/{entry}/replay")):
        await call(operator, method, path, {"entry": "none"})
    await call(operator, "POST", "/v1/dlq/{entry}/discard", {"entry": "none"}, json={"reason": "x"})
    await call(operator, "GET", "/v1/log", {})
    await call(operator, "GET", "/v1/log", {}, params={"event": "none"})
    await call(operator, "GET", "/v1/log/events", {}, params={"wait": 0, "after": 0})
    await call(operator, "GET", "/v1/log/tasks/{task_id}", {"task_id": "none"})
    async with keyed(stack.url, "") as stranger:
        for _, method, path, names, more in list(calls):
            await call(stranger, method, path, names, **more)


async def test_mesh_says_what_it_is(stack: Stack, http: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    mesh, there = (await http.get("/v1/mesh")).json(), (await other.get("/v1/mesh")).json()
    assert mesh["name"] == there["name"] and (mesh["gateway"], there["gateway"]) == ("gateway-0", "gateway-1")
    assert {"quorum", "audit"} <= set(mesh["policies"]) and mesh["kinds"] == ["matmul", "stream"]
    assert mesh["limits"]["k_max"] == 65_535 and mesh["limits"]["requests_per_s"] == 200


async def walk(http: httpx.AsyncClient, path: str, name: str, cursor: str, limit: int, **query: Any) -> list[Any]:
    found: list[Any] = []
    at = ""
    while True:
        page = (await http.get(path, params={**query, "limit": limit, **({cursor: at} if at else {})})).json()
        assert len(page[name]) <= limit
        found += page[name]
        if page["next"] is None:
            return found
        assert len(page[name]) == limit
        at = page["next"]


async def test_pages_meet_everything_once(
    devices: None, stack: Stack, http: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    rng = np.random.default_rng(3)
    job: dict[str, Any] = {"kind": "matmul", "task_rows": 1, "label": "paged"}
    for name in "ab":
        digest = await put(http, rng.integers(-128, 128, (23, 8), np.int8).tobytes())
        job[name] = {"digest": digest, "dtype": "int8", "rows": 23, "cols": 8}
    done = (await http.post("/v1/jobs?wait=60", json=job)).json()
    assert done["state"] == "completed"
    tasks = await walk(http, f"/v1/jobs/{done['id']}/tasks", "tasks", "after", 4)
    assert [(t["col0"], t["row0"]) for t in tasks] == sorted({(t["col0"], t["row0"]) for t in tasks})
    assert sum(t["rows"] * t["cols"] for t in tasks) == 23 * 23 and len(tasks) == done["progress"]["tasks_verified"]
    problem(await http.get(f"/v1/jobs/{done['id']}/tasks?after=nothing"), 422, "bad-cursor")
    workers = await walk(http, "/v1/workers", "workers", "after", 1)
    assert [w["id"] for w in workers] == sorted({w["id"] for w in workers}) and len(workers) >= 2
    assert len(await walk(http, "/v1/workers", "workers", "after", 1, present=True)) >= 2
    assert all(not w["present"] for w in await walk(http, "/v1/workers", "workers", "after", 1, present=False))
    made = (await operator.post("/v1/keys", json={"label": "lists", "scopes": ["submit"]})).json()
    async with keyed(stack.url, made["key"]) as theirs:
        ids = [(await theirs.post("/v1/jobs?wait=60", json=job)).json()["id"] for _ in range(3)]
        hopeless = (await theirs.post("/v1/jobs", json={**job, "redundancy": 7})).json()["id"]
        await theirs.post(f"/v1/jobs/{hopeless}/cancel")
        listed = [j["id"] for j in await walk(theirs, "/v1/jobs", "jobs", "before", 3)]
        assert listed == [hopeless, *ids[::-1]]
        states = {state: await walk(theirs, "/v1/jobs", "jobs", "before", 2, state=state) for state in
                  ("completed", "cancelled", "failed", "running", "waiting")}  # fmt: skip
        assert {state: [j["id"] for j in jobs] for state, jobs in states.items()} == {
            "completed": ids[::-1], "cancelled": [hopeless], "failed": [], "running": [], "waiting": [],
        }  # fmt: skip
        problem(await theirs.get("/v1/jobs?all=true"), 403, "scope-missing")
        problem(await theirs.get("/v1/jobs?state=odd"), 422, "bad-parameter")
    everybody = {j["id"] for j in await walk(operator, "/v1/jobs", "jobs", "before", 50, all=True)}
    assert {*ids, hopeless, done["id"]} <= everybody
    assert (await operator.get(f"/v1/jobs/{done['id']}")).json()["state"] == "completed"


async def hear(http: httpx.AsyncClient, job: str, last: str = "") -> tuple[int, list[tuple[str, str, Any]], str]:
    """(status, events as (id, name, data), the retry field)."""
    heard, ident, name, retry = [], "", "", ""
    headers = {"Last-Event-ID": last} if last else {}
    async with http.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
        async for line in answer.aiter_lines():
            field, _, value = line.partition(": ")
            if field == "id":
                ident = value
            elif field == "event":
                name = value
            elif field == "retry":
                retry = value
            elif field == "data":
                heard.append((ident, name, json.loads(value)))
        return answer.status_code, heard, retry


async def test_events_resume_at_any_gateway(stack: Stack, http: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    job = (await http.post("/v1/jobs", json=await small_job(http, redundancy=7))).json()["id"]
    listening = asyncio.create_task(hear(http, job))
    await asyncio.sleep(0.5)
    await http.post(f"/v1/jobs/{job}/cancel")
    status, heard, retry = await asyncio.wait_for(listening, 60)
    assert status == 200 and retry == "2000" and [name for _, name, _ in heard][-1] == "end" and len(heard) >= 2
    counts = [int(ident) for ident, _, _ in heard]
    assert counts == sorted(set(counts)), "each event counts on"
    for client in (http, other):
        _, newer, _ = await hear(client, job, heard[0][0])
        assert [(name, data["state"]) for _, name, data in newer] == [("end", "cancelled")]
        assert newer[0][0] == heard[-1][0], "the count is the same on every gateway"
        assert (await hear(client, job, heard[-1][0]))[0] == 204, "nothing more will come"
        for odd in ("x", "-1", "9" * 5_000):
            assert (await hear(client, job, odd))[1][-1][1] == "end"


async def test_streams_are_counted_and_given_back(stack: Stack, http: httpx.AsyncClient) -> None:
    job = (await http.post("/v1/jobs", json=await small_job(http, redundancy=7))).json()["id"]
    most = (await http.get("/v1/mesh")).json()["limits"]["streams_per_key_max"]
    async with httpx.AsyncClient(base_url=stack.url, headers=http.headers, limits=httpx.Limits(), timeout=60) as many:
        held = [many.stream("GET", f"/v1/jobs/{job}/events") for _ in range(most)]
        for stream in held:
            assert (await stream.__aenter__()).status_code == 200
        refused = await http.get(f"/v1/jobs/{job}/events")
        problem(refused, 429, "too-many-streams")
        assert refused.headers["retry-after"]
        for stream in held:
            await stream.__aexit__(None, None, None)
    for _ in range(100):
        async with http.stream("GET", f"/v1/jobs/{job}/events") as answer:
            if answer.status_code == 200:
                break
        await asyncio.sleep(0.1)
    assert answer.status_code == 200
    await http.post(f"/v1/jobs/{job}/cancel")
