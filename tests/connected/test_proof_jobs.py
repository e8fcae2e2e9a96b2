"""Jobs with policy proof on a real mesh: results proved by workers, checked by the mesh and by others; lies found; and
versions that change while proofs are on their way."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import pytest_asyncio
from meshkit import CIRCUIT, PATIENCE_S, Workers, api, check_log, client, int8, of_job, product, registered, same, until
from proofkit import Files, circuit_files

from bench.faults.logs import read_log
from shardy_client import AsyncMesh
from shardy_client.errors import Refused
from shardy_common.blobs import DirectoryStore
from shardy_common.log import Recorded
from shardy_common.proofs import pure
from shardy_common.proofs.parse import parse_vkey, proof_of_wire
from shardy_common.proofs.statement import Statement, Terms, drawn, publics_of
from shardy_common.receipts import check, check_arrays
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

pytestmark = pytest.mark.slow
VERSIONS = ("v1", "v2", "v3")


@dataclass
class Proved:
    stack: Stack
    files: dict[str, Files]  # by version


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    """A circuit with keys of several seeds: versions whose proofs do not pass for each other's."""
    folder = tmp_path_factory.mktemp("keys")
    return {v: circuit_files(8, 8, 8, folder / v, seed=f"{number:02x}") for number, v in enumerate(VERSIONS)}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mesh(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, Files]) -> AsyncIterator[Proved]:
    env = {"SHARDY_DEVELOPMENT": "true", "SHARDY_CANARY_EVERY": "0"}
    async with Stack(tmp_path_factory.mktemp("proofs"), allow_same_address=True, env=env, gateways=2) as stack:
        for version, files in keys.items():
            await registered(stack, version, files)
        async with AsyncMesh(stack.url, stack.operator_key) as operator:
            await operator.rotate_verifier(CIRCUIT, "v1", 600)
        yield Proved(stack, keys)


@pytest_asyncio.fixture(loop_scope="session")
async def crew(mesh: Proved, tmp_path: Path) -> AsyncIterator[Workers]:
    workers = Workers(mesh.stack, tmp_path)
    try:
        yield workers
    finally:
        await workers.stop()


async def events_of(stack: Stack, job: str) -> list[Recorded]:
    return of_job(await read_log(stack), job)


def kinds_of(events: list[Recorded]) -> list[str]:
    return [type(recorded.event).name for recorded in events]


async def test_every_tile_that_was_drawn_is_proved_to_anybody(
    mesh: Proved, crew: Workers, rng: np.random.Generator
) -> None:
    await crew.start("ada")
    a, b = int8(rng, 20, 7), int8(rng, 7, 12)
    async with client(mesh.stack) as requester:
        job = await requester.submit_matmul(a, b, policy="proof", proof_tiles=4)
        same(await job.result(timeout=PATIENCE_S), product(a, b))
    events = await events_of(mesh.stack, job.id)
    verified = [r.event for r in events if isinstance(r.event, ev.TaskVerified)]
    assert verified and {event.method for event in verified} == {"proof"}
    proved = [r.event for r in events if isinstance(r.event, ev.ProofVerified)]
    asked = {r.event.task: r for r in events if isinstance(r.event, ev.ProofChallenged)}
    handed = {r.event.task: r for r in events if isinstance(r.event, ev.ResultSubmitted)}
    assert len(proved) == len(verified) and all(asked[e.task].seq > handed[e.task].seq for e in proved)
    vkey = parse_vkey(mesh.files["v1"].vkey.read_bytes())
    blobs = DirectoryStore(mesh.stack.data_dir / "blobs")
    for event in proved:  # by py_ecc, from what the log and the store hold, without the operands
        statements = msgspec.json.decode(blobs.read(event.statements), type=list[Statement])
        terms, proofs = Terms.of(event), blobs.read(event.proofs)
        assert [s.index for s in statements] == drawn(terms) and len(proofs) == 256 * len(statements)
        proof = proof_of_wire(proofs[:256])
        publics = list(publics_of(terms, statements[0]))
        assert pure.verify(vkey, proof, publics)
        publics[3] += 1
        assert not pure.verify(vkey, proof, publics)
    blobs.close()
    await check_log(mesh.stack, job.id)
    async with client(mesh.stack) as requester:
        receipt = await requester.receipt(job.id)
    arrays = {"a": a, "b": np.ascontiguousarray(b.T), "c": product(a, b)}
    checked(receipt, mesh.stack.mesh_key, arrays, len(proved) * 4)


def checked(receipt: dict[str, Any], mesh_key: str, arrays: dict[str, Any], proofs: int) -> None:
    """The receipt holds, by compiled code and by py_ecc; and any change of what is proved is found."""
    report = check(receipt, mesh_keys=[mesh_key])
    assert (report.problems, report.vouched, report.proofs, report.development) == ([], True, proofs, True)
    assert check(receipt, mesh_keys=[mesh_key], verify_proof=pure.verify).ok
    found = check_arrays(receipt, arrays)
    assert (found.problems, found.proofs) == ([], proofs)
    other = dict(arrays, b=arrays["b"][::-1].copy())
    assert not check_arrays(receipt, other).ok

    def problems(change: Callable[[dict[str, Any]], object]) -> str:
        changed = copy.deepcopy(receipt)
        change(changed)
        return " ".join(check(changed, mesh_keys=[mesh_key]).problems)

    first = receipt["tasks"][0]["proof"]
    somebody = "12D3KooWGRUfH5eCWqx9m5wSZgY6sKvzDcBcBBzd9QaiwLkF4e4n"
    for what, change in {
        "does not hold": lambda r: r["tasks"][0]["proof"]["proofs"][0].update(input_commit="1"),
        "of tile": lambda r: r["tasks"][0]["proof"]["proofs"][1].update(proof=first["proofs"][0]["proof"]),
        "not prove just the tiles": lambda r: r["tasks"][0]["proof"].update(nonce="00" * 32),
        "does not bring the verification key": lambda r: r["tasks"][0]["proof"].update(vk_hash="00" * 32),
        "none of those credited": lambda r: r["tasks"][0]["proof"].update(lease="j-0-0-1-0"),
        "without a proof": lambda r: r["tasks"][0].update(proof=None),
        "is another peer's": lambda r: r["tasks"][0]["workers"][0].update(worker=somebody),
        "is no receipt": lambda r: r.update(keys={"x": 1}),
    }.items():
        assert what in problems(change), what
    assert "does not bring" in problems(lambda r: r.pop("keys"))


async def test_whoever_lies_is_found_by_its_proof_and_named_by_the_bytes(
    mesh: Proved, crew: Workers, rng: np.random.Generator
) -> None:
    await crew.start("liar", mode="liar")
    a, b = int8(rng, 8, 8), int8(rng, 8, 8)
    async with client(mesh.stack) as requester:
        job = await requester.submit_matmul(a, b, policy="proof", proof_tiles=1)
        assert await crew.exit_code("liar") == 4403 % 256
        await crew.start("bo")
        same(await job.result(timeout=PATIENCE_S), product(a, b))
        frauds = (await job.status())["frauds"]
    assert [(fraud["name"], fraud["method"]) for fraud in frauds] == [("native/0.1 liar", "audit")]
    events = await events_of(mesh.stack, job.id)
    rejected = [r.event for r in events if isinstance(r.event, ev.ProofRejected)]
    assert [event.cause for event in rejected] == ["wrong"]
    await check_log(mesh.stack, job.id, frauds=1)


async def test_a_revoked_version_counts_no_more_and_the_job_goes_on(
    mesh: Proved, crew: Workers, rng: np.random.Generator
) -> None:
    """The worker computes, and what it proves under the revoked version is refused at once; the same worker gets the
    task again, under the successor."""
    await crew.start("cy", delay_ms=400)
    a, b = int8(rng, 64, 8), int8(rng, 8, 8)
    async with client(mesh.stack) as requester, AsyncMesh(mesh.stack.url, mesh.stack.operator_key) as operator:
        job = await requester.submit_matmul(a, b, policy="proof", proof_tiles=1, task_rows=8)

        async def some() -> bool:
            return (await job.status())["progress"]["tasks_verified"] >= 2

        await until(some, "two tasks are proved")
        await operator.revoke_verifier("v1", "its randomness is known", "v2")
        same(await job.result(timeout=PATIENCE_S), product(a, b))
    events = await read_log(mesh.stack)
    revoked = next(r.seq for r in events if isinstance(r.event, ev.VerifierRevoked))
    for recorded in of_job(events, job.id):
        if isinstance(recorded.event, ev.ProofVerified):
            assert recorded.event.version == ("v1" if recorded.seq < revoked else "v2")
    assert kinds_of(of_job(events, job.id)).count("task.verified") == 8
    await check_log(mesh.stack, job.id)
    accepted = {r.event.task for r in events if isinstance(r.event, ev.ProofVerified) and r.event.version == "v1"}

    async def all_looked_at() -> list[ev.ProofReaudited]:
        found = [r.event for r in await read_log(mesh.stack) if isinstance(r.event, ev.ProofReaudited)]
        return found if {event.task for event in found} >= accepted else []

    again = await until(all_looked_at, "what was accepted under it is audited by its bytes")
    assert len(again) == len(accepted) >= 2 and {event.outcome for event in again} == {"right"}


async def test_jobs_that_cannot_be_proved_are_refused_in_words(mesh: Proved, rng: np.random.Generator) -> None:
    async with client(mesh.stack) as requester:
        with pytest.raises(Refused, match=f"no active circuit proves products with k = 9: {CIRCUIT} are active"):
            await requester.submit_matmul(int8(rng, 4, 9), int8(rng, 9, 4), policy="proof")
        a, b = int8(rng, 4, 8), int8(rng, 8, 4)
        with pytest.raises(Refused, match="circuit v2-16x16x16 has no active version to prove with"):
            await requester.submit_matmul(a, b, policy="proof", proof_circuit="v2-16x16x16")
        async with api(mesh.stack) as http:
            spec = {
                "kind": "matmul",
                "policy": "audit",
                "proof": {"tiles": 2},
                "a": {"digest": "0" * 64, "dtype": "int8", "rows": 1, "cols": 1},
                "b": {"digest": "0" * 64, "dtype": "int8", "rows": 1, "cols": 1},
            }
            answer = await http.post("/v1/jobs", json=spec)
            assert answer.status_code == 422 and "proof is for policy proof" in answer.json()["detail"]
            for tiles in (0, 65, "2", True):
                answer = await http.post("/v1/jobs", json={**spec, "policy": "proof", "proof": {"tiles": tiles}})
                assert answer.status_code == 422, tiles
        job = await requester.submit_matmul(a, b, policy="proof")
        assert "no device" in str((await job.status())["waiting_for"])
        await job.cancel()


async def test_ten_rotations_while_proofs_stream_in(mesh: Proved, crew: Workers, rng: np.random.Generator) -> None:
    """None is lost, none wrongly refused: no lease ends but by a verdict."""
    await crew.start("dee", url=mesh.stack.urls[0])
    await crew.start("eve", url=mesh.stack.urls[1])
    over = asyncio.Event()
    jobs: list[str] = []

    async def work(requester: AsyncMesh) -> None:
        while not over.is_set():
            a, b = int8(rng, 48, 8), int8(rng, 8, 8)
            job = await requester.submit_matmul(a, b, policy="proof", proof_tiles=1, task_rows=8)
            jobs.append(job.id)
            same(await job.result(timeout=PATIENCE_S), product(a, b))

    async with contextlib.AsyncExitStack() as held:
        keys, urls = (mesh.stack.api_key, mesh.stack.operator_key), mesh.stack.urls
        requesters, operators = [[await held.enter_async_context(AsyncMesh(url, key)) for url in urls] for key in keys]
        async with asyncio.TaskGroup() as group:
            for requester in requesters:
                group.create_task(work(requester))
            for number in range(10):
                await asyncio.sleep(0.7)
                await operators[number % 2].rotate_verifier(CIRCUIT, ("v3", "v2")[number % 2], 600)
            over.set()
    events = await read_log(mesh.stack)
    assert len(jobs) >= 4
    used: set[str] = set()
    for job in jobs:
        mine = of_job(events, job)
        assert "proof.rejected" not in kinds_of(mine) and "task.expired" not in kinds_of(mine)
        proved = [r.event for r in mine if isinstance(r.event, ev.ProofVerified)]
        assert kinds_of(mine).count("task.verified") == len(proved) == 6
        used |= {event.version for event in proved}
    assert used == {"v2", "v3"}
