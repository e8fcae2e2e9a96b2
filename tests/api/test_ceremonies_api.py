"""Ceremonies over HTTP: scopes, races, refusals, and the same transcript at every gateway. Keys here are any bytes: the
mesh does not look into them (tests/circuits/test_ceremony_on_mesh.py has real ones)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from apikit import keyed, problem, put

from shardy_common.stack import Stack

PTAU, HASH = "9" * 128, "5c" * 64


@pytest_asyncio.fixture(loop_scope="session")
async def other_operator(stack: Stack, second: str) -> AsyncIterator[httpx.AsyncClient]:
    async with keyed(second, stack.operator_key) as client:
        yield client


def fresh() -> str:
    return f"c-{secrets.token_hex(4)}"


async def stored(http: httpx.AsyncClient) -> str:
    return await put(http, secrets.token_bytes(40))


async def start(http: httpx.AsyncClient, operator: httpx.AsyncClient, circuit: str, **more: Any) -> dict[str, Any]:
    body = {"circuit": circuit, "r1cs": await stored(http), "ptau": PTAU, "zkey": await stored(http), **more}
    answer = await operator.post("/v1/ceremonies", json=body)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def step(told: dict[str, Any], name: str, zkey: str, **more: Any) -> dict[str, Any]:
    return {"run": told["run"], "name": name, "hash": HASH, "base": told["zkey"], "zkey": zkey, **more}


async def contribute(http: httpx.AsyncClient, told: dict[str, Any], name: str) -> dict[str, Any]:
    body = step(told, name, await stored(http))
    answer = await http.post(f"/v1/ceremonies/{told['circuit']}/contributions", json=body)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    return told


async def test_a_whole_ceremony_at_two_gateways(
    http: httpx.AsyncClient, other: httpx.AsyncClient, operator: httpx.AsyncClient, other_operator: httpx.AsyncClient
) -> None:
    circuit = fresh()
    told = await start(http, operator, circuit, powers="powersOfTau28_hez_final_12")
    assert (told["state"], told["run"], told["start"]) == ("open", 1, told["zkey"])
    for name, client in (("Ada", http), ("Bo", other), ("Cyd", http)):
        told = await contribute(client, told, name)
    repeated = step(told, "Cyd", told["zkey"], base=told["contributions"][2]["base"])
    again = await other.post(f"/v1/ceremonies/{circuit}/contributions", json=repeated)
    assert again.status_code == 200 and again.json() == told
    seal = {"run": 1, "value": "7b" * 32, "hash": HASH, "base": told["zkey"], "zkey": await stored(http)}
    sealed = await other_operator.post(f"/v1/ceremonies/{circuit}/beacon", json=seal)
    assert sealed.status_code == 201 and sealed.json()["state"] == "sealed"
    assert sealed.json()["beacon"]["iterations"] == 10
    finish = {"run": 1, "zkey": seal["zkey"], "vk_hash": "ab" * 32}
    early = await operator.post(f"/v1/ceremonies/{circuit}/finish", json=finish)
    assert "has not found this run good" in problem(early, 409, "ceremony-is-not-ready")["detail"]
    check = {"run": 1, "zkey": seal["zkey"], "good": True}
    for client in (http, operator):
        assert (await client.post(f"/v1/ceremonies/{circuit}/checks", json=check)).status_code == 201
    finished = await operator.post(f"/v1/ceremonies/{circuit}/finish", json=finish)
    assert finished.status_code == 201 and finished.json()["state"] == "finished"
    assert finished.json()["vk_hash"] == "ab" * 32 and len(finished.json()["checks"]) == 2

    told = await start(http, operator, circuit, again=True)
    assert told["run"] == 2
    for client in (http, other):
        for number, state in ((0, "open"), (2, "open"), (1, "finished")):
            shown = (await client.get(f"/v1/ceremonies/{circuit}", params={"run": number})).json()
            assert shown["state"] == state and (number != 1 or shown == finished.json())
    line = next(
        one
        for one in (await other.get("/v1/ceremonies", params={"limit": 1000})).json()["ceremonies"]
        if one["circuit"] == circuit
    )
    assert line["run"] == 2 and line["contributions"] == 0


async def test_contributions_at_once(
    http: httpx.AsyncClient, other: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    told = await start(http, operator, fresh())
    bodies = [step(told, f"n{number}", await stored(http)) for number in range(6)]
    path = f"/v1/ceremonies/{told['circuit']}/contributions"
    answers = await asyncio.gather(*(((http, other)[i % 2]).post(path, json=body) for i, body in enumerate(bodies)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409, 409]
    won = next(answer.json() for answer in answers if answer.status_code == 201)
    for answer in answers:
        if answer.status_code == 409:
            assert won["zkey"] in problem(answer, 409, "ceremony-has-moved-on")["detail"], (
                "it says where to begin again"
            )
    assert len(won["contributions"]) == 1
    await contribute(other, won, "late")


async def test_scopes(http: httpx.AsyncClient, operator: httpx.AsyncClient) -> None:
    told = await start(http, operator, fresh())
    path = f"/v1/ceremonies/{told['circuit']}"
    for call in ("", "/beacon", "/finish"):
        problem(await http.post(("/v1/ceremonies" if not call else path + call), json={}), 403, "scope-missing")
    problem(await operator.post(f"{path}/contributions", json={}), 403, "scope-missing")
    for client in (http, operator):
        assert (await client.get(path)).json()["circuit"] == told["circuit"]
        found = {"run": 1, "zkey": told["zkey"], "good": False, "fault": 0, "why": "it is none"}
        assert (await client.post(f"{path}/checks", json=found)).status_code == 201


async def test_refusals(http: httpx.AsyncClient, operator: httpx.AsyncClient) -> None:
    circuit = fresh()
    path = f"/v1/ceremonies/{circuit}"
    problem(await http.get(path), 404, "no-such-ceremony")
    problem(await http.get("/v1/ceremonies/a.b"), 404, "no-such-ceremony")
    zkey = await stored(http)
    body = {"run": 1, "name": "Ada", "hash": HASH, "base": "0" * 64, "zkey": zkey}
    problem(await http.post(f"{path}/contributions", json=body), 404, "no-such-ceremony")
    told = await start(http, operator, circuit)
    problem(await http.get(path, params={"run": 2}), 404, "no-such-ceremony")
    start_body = {"circuit": circuit, "r1cs": told["r1cs"], "ptau": PTAU, "zkey": zkey}
    problem(await operator.post("/v1/ceremonies", json=start_body), 409, "ceremony-is-running")
    missing = step(told, "Ada", "ab" * 32)
    answer = problem(await http.post(f"{path}/contributions", json=missing), 422, "refused")
    assert "PUT /v1/blobs/" in answer["detail"]
    seal = {"run": 1, "value": "7b" * 32, "hash": HASH, "base": told["zkey"], "zkey": zkey}
    problem(await operator.post(f"{path}/beacon", json=seal), 409, "ceremony-is-not-ready")
    problem(await http.post(f"{path}/contributions", json=step(told, "Ada", zkey, run=2)), 404, "no-such-ceremony")
    await start(http, operator, circuit, again=True)
    late = await http.post(f"{path}/contributions", json=step(told, "Ada", zkey))
    assert "was given up for run 2" in problem(late, 409, "ceremony-has-moved-on")["detail"]


BAD: list[tuple[str, Any]] = [
    ("contributions", {"name": 3}),
    ("contributions", {"run": "1"}),
    ("contributions", {"run": True}),
    ("contributions", {"hash": "5c"}),
    ("contributions", {"base": "x"}),
    ("contributions", {"zkey": "x"}),
    ("contributions", {"number": 1}),
    ("beacon", {"value": "7b"}),
    ("beacon", {"iterations": 9}),
    ("beacon", {"iterations": "10"}),
    ("checks", {"good": 1}),
    ("checks", {"fault": 1, "good": True}),
    ("checks", {"good": False}),
    ("checks", {"good": False, "why": "x" * 501}),
    ("finish", {"vk_hash": "x"}),
    ("start", {"again": "yes"}),
    ("start", {"again": 0}),
    ("start", {"ptau": "9" * 64}),
    ("start", {"circuit": "a.b"}),
    ("start", {"powers": "a b"}),
]


@pytest.mark.parametrize(("call", "changed"), BAD)
async def test_bodies_that_are_none(
    http: httpx.AsyncClient, operator: httpx.AsyncClient, call: str, changed: dict[str, Any]
) -> None:
    told = await start(http, operator, "bodies", again=True)  # one circuit for all: 64 may be
    whole: dict[str, dict[str, Any]] = {
        "contributions": step(told, "Ada", await stored(http)),
        "beacon": {
            "run": told["run"],
            "value": "7b" * 32,
            "hash": HASH,
            "base": told["zkey"],
            "zkey": await stored(http),
        },
        "checks": {"run": told["run"], "zkey": told["zkey"], "good": True},
        "finish": {"run": told["run"], "zkey": told["zkey"], "vk_hash": "ab" * 32},
        "start": {"circuit": fresh(), "r1cs": told["r1cs"], "ptau": PTAU, "zkey": told["zkey"]},
    }
    path = "/v1/ceremonies" if call == "start" else f"/v1/ceremonies/{told['circuit']}/{call}"
    client = http if call in ("contributions", "checks") else operator
    problem(await client.post(path, json=whole[call] | changed), 422, "refused")
