"""Submissions with an Idempotency-Key: repeated, changed, and raced at two gateways of one log."""

from __future__ import annotations

import asyncio
import secrets

import httpx
import msgspec
import pytest
from apikit import keyed, problem, small_job

from shardy_common.log import Append, MemoryLog, Projection
from shardy_common.stack import Stack
from shardy_common.wire import events as ev
from shardy_common.wire import frame
from shardy_gateway.idempotency import KEPT_MS, Idempotency, Named, body_of, idem_of
from shardy_gateway.jobs import FRAME_TYPE, read_spec


def fresh() -> dict[str, str]:
    return {"Idempotency-Key": secrets.token_hex(16)}


async def test_the_same_key_gives_the_same_job(stack: Stack, http: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    job, key = await small_job(http), fresh()
    first = await http.post("/v1/jobs", json=job, headers=key)
    assert first.status_code == 201 and "idempotent-replayed" not in first.headers
    spelled = {**job, "policy": "quorum", "redundancy": 2}  # what the defaults say anyway
    packed = frame.encode({"t": "job", **job}, ())
    for client, content, media in (
        (http, msgspec.json.encode(job), "application/json"),
        (http, msgspec.json.encode(spelled), "application/json"),
        (http, packed, FRAME_TYPE),
        (other, msgspec.json.encode(job), "application/json; charset=utf-8"),
    ):
        again = await client.post("/v1/jobs", content=content, headers={**key, "Content-Type": media})
        assert again.status_code == 200 and again.headers["idempotent-replayed"] == "true", again.text
        assert again.json()["id"] == first.json()["id"]
    for client in (http, other):
        body = problem(
            await client.post("/v1/jobs", json={**job, "label": "else"}, headers=key), 422, "idempotency-key-reused"
        )
        assert first.json()["id"] in body["detail"]
    await http.post(f"/v1/jobs/{first.json()['id']}/cancel")
    again = await http.post("/v1/jobs", json=job, headers=key)
    assert again.status_code == 200 and again.json()["state"] == "cancelled", "it names the job, whatever became of it"
    assert (await http.post("/v1/jobs", json=job, headers=fresh())).json()["id"] != first.json()["id"]


async def test_two_owners_share_no_keys(stack: Stack, http: httpx.AsyncClient, operator: httpx.AsyncClient) -> None:
    job, key = await small_job(http), fresh()
    made = (await operator.post("/v1/keys", json={"label": "another", "scopes": ["submit"]})).json()
    async with keyed(stack.url, made["key"]) as theirs:
        answers = [await client.post("/v1/jobs", json=job, headers=key) for client in (http, theirs)]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json()["id"] != answers[1].json()["id"]


async def test_a_race_has_one_winner(stack: Stack, http: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    """Requests at once at both gateways, some with another body: one job, and everybody hears which."""
    job = await small_job(http)
    for _ in range(5):
        key, odd = fresh(), {**job, "label": "another body"}
        posts = [client.post("/v1/jobs", json=job, headers=key) for client in (http, other) for _ in range(4)]
        posts += [client.post("/v1/jobs", json=odd, headers=key) for client in (http, other)]
        answers = await asyncio.gather(*posts)
        codes = sorted(answer.status_code for answer in answers)
        assert codes.count(201) == 1, codes
        winner = next(answer.json() for answer in answers if answer.status_code == 201)
        for answer in answers:
            if answer.status_code == 422:
                problem(answer, 422, "idempotency-key-reused")
            else:
                assert answer.json()["id"] == winner["id"] and answer.json()["label"] == winner["label"]
        assert codes.count(422) == (2 if winner["label"] == "" else 8)
        listed = [j["id"] for j in (await http.get("/v1/jobs?limit=100")).json()["jobs"]]
        assert listed.count(winner["id"]) == 1
        await http.post(f"/v1/jobs/{winner['id']}/cancel")


@pytest.mark.parametrize("key", ["", "x" * 129, "a b", "tab\there", "é"])
async def test_keys_that_are_none(stack: Stack, http: httpx.AsyncClient, key: str) -> None:
    job = await small_job(http)
    problem(
        await http.post("/v1/jobs", json=job, headers=[(b"Idempotency-Key", key.encode())]), 422, "bad-idempotency-key"
    )


def test_keys_are_kept_a_day(tmp_path: object) -> None:
    now = 10_000
    log, idem = MemoryLog(lambda: now), Idempotency()
    projection = Projection(f"{tmp_path}/i.db", Idempotency.tables, version=1)
    idem.load(projection)
    spec = read_spec(
        {"kind": "matmul", **{n: {"digest": "0" * 64, "dtype": "int8", "rows": 2, "cols": 2} for n in "ab"}}
    )
    name = idem_of("owner", "key")
    for job in ("j1", "j2"):
        log.append_now(Append(ev.JobSubmitted(job, spec, "owner", name, body_of(spec)), job))
        idem.evolve(log.events[-1])
        projection.commit(idem.rows(), len(log.events))
        assert idem.find(name, now + KEPT_MS - 1) == Named(job, body_of(spec))
        assert idem.find(name, now + KEPT_MS) is None
        now += KEPT_MS
    assert idem.find(idem_of("owner", "keY"), now) is None and idem_of("a", "b") != idem_of("b", "a")
    projection.close()
