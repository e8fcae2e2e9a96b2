"""Keys over the API: issued, rotated, revoked, and known to both gateways of a mesh."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from apikit import keyed, problem, small_job

from shardy_common.stack import Stack


async def issue(operator: httpx.AsyncClient, *scopes: str, **more: Any) -> dict[str, Any]:
    answer = await operator.post("/v1/keys", json={"label": "test", "scopes": list(scopes) or ["submit"], **more})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


async def status_with(url: str, key: str, want: int, path: str = "/v1/jobs") -> int:
    """What the gateway answers to this key, once it is `want`, or after a moment."""
    async with keyed(url, key) as http:
        for _ in range(100):
            status = (await http.get(path)).status_code
            if status == want:
                break
            await asyncio.sleep(0.05)
    return status


async def test_both_gateways_see_a_key_come_and_go(stack: Stack, second: str, operator: httpx.AsyncClient) -> None:
    made = await issue(operator)
    async with keyed(stack.url, made["key"]) as http:
        assert (await http.get("/v1/jobs")).status_code == 200, "at once at the gateway that issued it"
    assert await status_with(second, made["key"], 200) == 200
    async with keyed(second, stack.operator_key) as there:
        assert (await there.delete(f"/v1/keys/{made['id']}")).status_code == 204
        assert (await there.delete(f"/v1/keys/{made['id']}")).status_code == 204, "to revoke it again changes nothing"
    for url in (stack.url, second):
        assert await status_with(url, made["key"], 401) == 401


async def test_a_rotation_keeps_the_jobs_and_grants_a_grace(stack: Stack, operator: httpx.AsyncClient) -> None:
    old = await issue(operator)
    async with keyed(stack.url, old["key"]) as http:
        job = (await http.post("/v1/jobs", json=await small_job(http))).json()
        answer = await http.post(f"/v1/keys/{old['id']}/rotate", json={"grace_s": 2})
        assert answer.status_code == 201
        new = answer.json()
        assert new["owner"] == old["owner"] == old["id"] != new["id"] and new["scopes"] == old["scopes"]
        assert (await http.get("/v1/jobs")).status_code == 200, "the old key lives through its grace"
        problem(await http.post(f"/v1/keys/{old['id']}/rotate"), 409, "key-is-ending")
    async with keyed(stack.url, new["key"]) as http:
        assert (await http.get(f"/v1/jobs/{job['id']}")).json()["id"] == job["id"]
        assert (await http.post(f"/v1/jobs/{job['id']}/cancel")).json()["state"] == "cancelled"
        problem(await http.post(f"/v1/keys/{stack.api_key[:16]}/rotate"), 403, "scope-missing")
        assert await status_with(stack.url, old["key"], 401) == 401
        assert (await http.delete(f"/v1/keys/{new['id']}")).status_code == 204, "anybody may revoke his own"
        problem(await http.get("/v1/jobs"), 401, "no-valid-api-key")


async def test_expiry(stack: Stack, operator: httpx.AsyncClient) -> None:
    made = await issue(operator, expires_s=1)
    assert abs(made["expires_ms"] - (time.time() + 1) * 1000) < 5_000
    assert await status_with(stack.url, made["key"], 401) == 401
    async with keyed(stack.url, made["key"]) as http:
        assert "expired" in problem(await http.get("/v1/jobs"), 401, "no-valid-api-key")["detail"]


async def test_the_last_operator_key_stays(stack: Stack, second: str, operator: httpx.AsyncClient) -> None:
    """Two gateways asked at once to revoke the two keys that are left: one of them stays."""
    listed = (await operator.get("/v1/keys?limit=1000")).json()["keys"]
    file_key = next(key for key in listed if key["source"] == "file" and "operate" in key["scopes"])
    for key in listed:
        if "operate" in key["scopes"] and key["state"] == "valid" and key != file_key:
            assert (await operator.delete(f"/v1/keys/{key['id']}")).status_code == 204
    problem(await operator.delete(f"/v1/keys/{file_key['id']}"), 409, "last-operator-key")
    brief = await issue(operator, "operate", expires_s=600)
    problem(await operator.delete(f"/v1/keys/{file_key['id']}"), 409, "last-operator-key")
    pair = [await issue(operator, "operate") for _ in range(2)]
    async with keyed(stack.url, pair[0]["key"]) as one, keyed(second, pair[1]["key"]) as two:
        assert await status_with(second, pair[1]["key"], 200, "/v1/keys") == 200
        # the file's key ends through its rotation, so that the two others are the last
        rotated = (await one.post(f"/v1/keys/{file_key['id']}/rotate", json={"grace_s": 600})).json()
        assert (await one.delete(f"/v1/keys/{rotated['id']}")).status_code == 204
        answers = await asyncio.gather(one.delete(f"/v1/keys/{pair[1]['id']}"), two.delete(f"/v1/keys/{pair[0]['id']}"))
        codes = sorted(answer.status_code for answer in answers)
        assert codes in ([204, 401], [204, 409]), [answer.text for answer in answers]
    left = [key for key in (await operator.get("/v1/keys")).json()["keys"] if key["state"] == "valid"]
    lasting = [key for key in left if "operate" in key["scopes"] and not key["ends_ms"]]
    assert (
        len(lasting) == 1 and lasting[0]["id"] in {key["id"] for key in pair} and brief["id"] in {k["id"] for k in left}
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"label": "x"},
        {"scopes": ["submit"]},
        {"label": "", "scopes": ["submit"]},
        {"label": "x" * 201, "scopes": ["submit"]},
        {"label": 1, "scopes": ["submit"]},
        {"label": "x", "scopes": []},
        {"label": "x", "scopes": ["root"]},
        {"label": "x", "scopes": "submit"},
        {"label": "x", "scopes": [["submit"]]},
        {"label": "x", "scopes": ["submit"], "expires_s": 0},
        {"label": "x", "scopes": ["submit"], "expires_s": 1.5},
        {"label": "x", "scopes": ["submit"], "expires_s": True},
        {"label": "x", "scopes": ["submit"], "expires_s": 10**12},
        {"label": "x", "scopes": ["submit"], "owner": "me"},
    ],
)
async def test_keys_that_cannot_be(stack: Stack, operator: httpx.AsyncClient, body: dict[str, Any]) -> None:
    problem(await operator.post("/v1/keys", json=body), 422, "refused")


async def test_pages_and_unknown_keys(stack: Stack, operator: httpx.AsyncClient) -> None:
    mine = [(await issue(operator))["id"] for _ in range(3)]
    whole = [key["id"] for key in (await operator.get("/v1/keys?limit=1000")).json()["keys"]]
    assert whole == sorted(set(whole)) and len(whole) >= 5
    walked: list[str] = []
    after = ""
    while True:
        page = (await operator.get("/v1/keys", params={"limit": 2, "after": after})).json()
        walked += [key["id"] for key in page["keys"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert walked == whole
    assert not any(set(key) & {"key", "hash"} for key in (await operator.get("/v1/keys")).json()["keys"])
    for key in ("0" * 16, "x", "a%20b"):
        problem(await operator.delete(f"/v1/keys/{key}"), 404, "no-such-key")
        problem(await operator.post(f"/v1/keys/{key}/rotate"), 404, "no-such-key")
    for body in ({"grace_s": -1}, {"grace_s": 10**9}, {"grace_s": "1"}, {"grace": 1}):
        problem(await operator.post(f"/v1/keys/{mine[0]}/rotate", json=body), 422, "refused")
