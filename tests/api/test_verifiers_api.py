"""Verification keys over HTTP, at two gateways: registered, rotated, revoked, listed; and every refusal."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import httpx
import pytest
from apikit import another_gateway, keyed, problem
from blake3 import blake3
from made_keys import NOTE, made_vk

from shardy_common.stack import Stack

_names = itertools.count()


def fresh() -> str:
    """A circuit that nobody has."""
    return f"circuit-{next(_names)}"


def request(circuit: str, version: str, number: int = 0, **more: Any) -> dict[str, Any]:
    vk = made_vk(number or sum(version.encode()))
    return {"circuit": circuit, "version": version, "shape": [8, 384, 8], "vk": vk, **more}


async def registered(http: httpx.AsyncClient, circuit: str, *versions: str) -> None:
    for version in versions:
        answer = await http.post("/v1/verifiers", json=request(circuit, version))
        assert answer.status_code == 201, answer.text


async def rotate(http: httpx.AsyncClient, circuit: str, version: str, **more: Any) -> httpx.Response:
    return await http.post("/v1/verifiers/rotate", json={"circuit": circuit, "version": version, **more})


async def until_both(one: httpx.AsyncClient, other: httpx.AsyncClient, path: str) -> Any:
    """What both gateways say, once they say the same."""
    for _ in range(200):
        answers = [(await http.get(path)).json() for http in (one, other)]
        if answers[0] == answers[1]:
            return answers[0]
        await asyncio.sleep(0.02)
    raise AssertionError(answers)


@pytest.fixture
async def operators(stack: Stack, second: str) -> Any:
    async with keyed(stack.url, stack.operator_key) as one, keyed(second, stack.operator_key) as other:
        yield one, other


async def test_a_life_at_two_gateways(operators: tuple[httpx.AsyncClient, httpx.AsyncClient]) -> None:
    one, other = operators
    circuit = fresh()
    v1, v2 = f"{circuit}-v1", f"{circuit}-v2"
    body = request(circuit, v1)
    made = await one.post("/v1/verifiers", json=body)
    assert made.status_code == 201 and made.json()["status"] == "registered" and not made.json()["dev"]
    again = await other.post("/v1/verifiers", json=body)
    assert again.status_code in (200, 409), "the other gateway may still be behind"
    again = await one.post("/v1/verifiers", json=body)
    assert again.status_code == 200 and again.json() == made.json()
    await registered(other, circuit, v2)

    shown = await until_both(one, other, f"/v1/verifiers/{v1}")
    assert blake3(shown["vk"].encode()).hexdigest() == shown["vk_hash"] == made.json()["vk_hash"]
    first = await rotate(one, circuit, v1)
    assert first.json() == {"circuit": circuit, "version": v1, "former": None, "grace_until_ms": None}
    second = (await rotate(other, circuit, v2, grace_s=60)).json()
    assert second["former"] == v1 and second["grace_until_ms"] > 1e12

    listing = await until_both(one, other, f"/v1/verifiers?circuit={circuit}")
    assert [(v["version"], v["status"]) for v in listing["verifiers"]] == [(v1, "grace"), (v2, "active")]
    assert listing["next"] is None and listing["verifiers"][0]["grace_until_ms"] == second["grace_until_ms"]
    page = (await one.get("/v1/verifiers", params={"circuit": circuit, "limit": 1})).json()
    assert page["next"] == v1 and len(page["verifiers"]) == 1
    rest = (await one.get("/v1/verifiers", params={"circuit": circuit, "limit": 1, "after": v1})).json()
    assert rest["next"] is None and rest["verifiers"][0]["version"] == v2

    revoked = await one.post("/v1/verifiers/revoke", json={"version": v2, "successor": v1, "why": " leaked "})
    assert revoked.status_code == 200 and revoked.json()["status"] == "revoked"
    assert (revoked.json()["successor"], revoked.json()["why"]) == (v1, "leaked")
    once_more = await one.post("/v1/verifiers/revoke", json={"version": v2, "why": "again"})
    assert once_more.status_code == 200 and once_more.json()["why"] == "leaked", "nothing is written over"
    listing = await until_both(one, other, f"/v1/verifiers?circuit={circuit}")
    assert [(v["version"], v["status"]) for v in listing["verifiers"]] == [(v1, "active"), (v2, "revoked")]


async def test_refusals(operators: tuple[httpx.AsyncClient, httpx.AsyncClient]) -> None:
    one, _ = operators
    circuit = fresh()
    v1, v2 = f"{circuit}-v1", f"{circuit}-v2"
    await registered(one, circuit, v1, v2)
    taken = await one.post("/v1/verifiers", json=request(circuit, v1, 77))
    assert "another key" in problem(taken, 409, "version-is-taken")["detail"]
    problem(await one.post("/v1/verifiers", json=request(fresh(), v1)), 409, "version-is-taken")
    marked = made_vk(5, shardy=NOTE)
    for dev in (request(circuit, "d", dev=True), {**request(circuit, "d"), "vk": marked}):
        problem(await one.post("/v1/verifiers", json=dev), 409, "development-key")
    problem(await rotate(one, circuit, "none"), 404, "no-such-verifier")
    assert (await rotate(one, circuit, v1)).status_code == 200
    problem(await rotate(one, circuit, v1), 409, "version-is-active")
    problem(await one.post("/v1/verifiers/revoke", json={"version": v2, "successor": v1, "why": "x"}), 409,
            "version-is-not-active")  # fmt: skip
    assert (await one.post("/v1/verifiers/revoke", json={"version": v2, "why": "x"})).status_code == 200
    problem(await rotate(one, circuit, v2), 409, "version-is-revoked")
    problem(await one.get("/v1/verifiers/none"), 404, "no-such-verifier")
    problem(await one.get("/v1/verifiers/a.b"), 404, "no-such-verifier")
    problem(await one.get("/v1/verifiers", params={"after": "none"}), 422, "bad-cursor")


BAD: list[tuple[str, Any]] = [
    ("/v1/verifiers", {}),
    ("/v1/verifiers", {**request("c", "v"), "shape": [8, 8]}),
    ("/v1/verifiers", {**request("c", "v"), "shape": [8, True, 8]}),
    ("/v1/verifiers", {**request("c", "v"), "shape": "8x8x8"}),
    ("/v1/verifiers", {**request("c", "v"), "shape": [8, 0, 8]}),
    ("/v1/verifiers", {**request("c", "v"), "vk": None}),
    ("/v1/verifiers", {**request("c", "v"), "vk": "{}"}),
    ("/v1/verifiers", {**request("c", "v"), "vk": {**made_vk(1), "curve": "bls12381"}}),
    ("/v1/verifiers", {**request("c", "v"), "vk": {**made_vk(1), "vk_alpha_1": ["1", "3", "1"]}}),  # off its curve
    ("/v1/verifiers", {**request("c", "v"), "vk": {**made_vk(1), "vk_beta_2": [["1", "2"], ["3", "4"], ["1", "0"]]}}),
    ("/v1/verifiers", {**request("c", "v"), "dev": "no"}),
    ("/v1/verifiers", {**request("c", "v"), "status": "active"}),
    ("/v1/verifiers", request("c.d", "v")),
    ("/v1/verifiers", request("c", "*")),
    ("/v1/verifiers/rotate", {"circuit": "c"}),
    ("/v1/verifiers/rotate", {"circuit": "c", "version": "v", "grace_s": -1}),
    ("/v1/verifiers/rotate", {"circuit": "c", "version": "v", "grace_s": 30 * 86_400 + 1}),
    ("/v1/verifiers/rotate", {"circuit": "c", "version": "v", "grace_s": 1.5}),
    ("/v1/verifiers/rotate", {"circuit": "c", "version": "v", "former": "w"}),
    ("/v1/verifiers/revoke", {"version": "v"}),
    ("/v1/verifiers/revoke", {"version": "v", "why": ""}),
    ("/v1/verifiers/revoke", {"version": "v", "why": "x", "successor": 3}),
]


@pytest.mark.parametrize(("path", "body"), BAD)
async def test_bodies_that_are_none(operator: httpx.AsyncClient, path: str, body: Any) -> None:
    problem(await operator.post(path, json=body), 422, "refused")


async def test_a_body_over_the_limit(operator: httpx.AsyncClient) -> None:
    big = request("c", "v") | {"vk": {"x": "y" * 70_000}}
    problem(await operator.post("/v1/verifiers", json=big), 413, "body-too-large")
    problem(await operator.post("/v1/verifiers/rotate", content=b"{"), 400, "malformed-body")


async def test_two_circuits_claim_one_version_at_once(operators: tuple[httpx.AsyncClient, httpx.AsyncClient]) -> None:
    """Their appends expect nothing of each other: the log's order says whose the version is, and the other is told."""
    for _ in range(5):
        version, circuits = f"v-{fresh()}", (fresh(), fresh())
        bodies = [request(circuit, version) for circuit in circuits]
        both = await asyncio.gather(*(h.post("/v1/verifiers", json=b) for h, b in zip(operators, bodies, strict=True)))
        assert sorted(answer.status_code for answer in both) == [201, 409], [answer.text for answer in both]
        won, lost = sorted(both, key=lambda answer: answer.status_code)
        problem(lost, 409, "version-is-taken")
        shown = await until_both(*operators, f"/v1/verifiers/{version}")
        assert shown["circuit"] == won.json()["circuit"]


async def test_two_operators_rotate_at_once(operators: tuple[httpx.AsyncClient, httpx.AsyncClient]) -> None:
    circuit = fresh()
    versions = [f"{circuit}-v{number}" for number in range(4)]
    await registered(operators[0], circuit, *versions)
    await until_both(*operators, f"/v1/verifiers?circuit={circuit}")
    answers = await asyncio.gather(*(rotate(operators[i % 2], circuit, v, grace_s=60) for i, v in enumerate(versions)))
    assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]
    formers = [answer.json()["former"] for answer in answers]
    assert formers.count(None) == 1 and len(set(formers)) == 4, "each followed another one"
    listing = await until_both(*operators, f"/v1/verifiers?circuit={circuit}")
    assert sorted(v["status"] for v in listing["verifiers"]) == ["active", "grace", "grace", "grace"]
    last = next(v["version"] for v in listing["verifiers"] if v["status"] == "active")
    assert last not in formers


async def test_a_gateway_in_development_takes_development_keys(stack: Stack) -> None:
    circuit = fresh()
    version = f"{circuit}-dev"
    url = await another_gateway(stack, "development", SHARDY_DEVELOPMENT="true")
    async with keyed(url, stack.operator_key) as http, keyed(stack.url, stack.operator_key) as strict:
        made = await http.post("/v1/verifiers", json={**request(circuit, version), "dev": True})
        assert made.status_code == 201 and made.json()["dev"]
        await until_both(http, strict, f"/v1/verifiers/{version}")
        problem(await rotate(strict, circuit, version), 409, "development-key")
        assert (await rotate(http, circuit, version)).status_code == 200
