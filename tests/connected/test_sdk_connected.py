"""The client and the command line on a real mesh: what the fake one of tests/client stands for."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from meshkit import Workers, int8, product, same

from shardy_client import AsyncMesh, Patience, Refused
from shardy_common.stack import Stack

sys.path.append(str(Path(__file__).resolve().parents[1] / "client"))
from breaker import Breaker

QUICK = Patience(pause_s=0.05, pause_s_max=0.2)


async def shardy(stack: Stack, folder: Path, *arguments: str) -> tuple[int, str]:
    """The program itself, in the folder of the stack's data; exit code and standard output."""
    keys = {"SHARDY_URL": stack.url, "SHARDY_KEY": stack.api_key, "SHARDY_OPERATOR_KEY": stack.operator_key}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "shardy_client.cli",
        *arguments,
        env=os.environ | keys,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_jobs_as_futures_with_progress(mesh: AsyncMesh, honest: Workers, rng: np.random.Generator) -> None:
    a, b = int8(rng, 300, 64), int8(rng, 64, 200)
    job = await mesh.submit(a, b, policy="adaptive", task_rows=50)
    seen = [now async for now in job.follow()]
    assert seen[-1].state == "completed" and seen[-1].fraction == 1.0
    assert [now.cells_done for now in seen] == sorted(now.cells_done for now in seen)
    same(await job, product(a, b))
    assert (await mesh.usage(job))["ops"] == 2 * 300 * 64 * 200


async def test_one_key_one_job(mesh: AsyncMesh, honest: Workers, rng: np.random.Generator) -> None:
    a, b = int8(rng, 4, 6), int8(rng, 6, 5)
    jobs = await asyncio.gather(*(mesh.submit(a, b, idempotency_key="one-job") for _ in range(4)))
    assert len({job.id for job in jobs}) == 1
    with pytest.raises(Refused) as caught:
        await mesh.submit(b.T.copy(), a.T.copy(), idempotency_key="one-job")
    assert caught.value.status == 422


async def test_a_large_upload_that_breaks_goes_on(stack: Stack, rng: np.random.Generator) -> None:
    big = int8(rng, 5_000, 4_003)
    breaker = Breaker(stack.url)
    breaker.cuts = [9_000_000, 3_000_000, 500]
    try:
        async with AsyncMesh(breaker.url, stack.api_key, patience=QUICK) as mesh:
            stored = await mesh.put(big)
            assert await mesh.http.exists(f"/v1/blobs/{stored.digest}")
            marks: list[int] = []
            await mesh.put(big, on_transfer=lambda now: marks.append(now.bytes_done))
            assert marks == [big.nbytes], "nothing was sent again"
    finally:
        breaker.down()


async def test_a_gateway_that_goes_away_in_the_middle(stack: Stack, honest: Workers, rng: np.random.Generator) -> None:
    a, b = int8(rng, 200, 64), int8(rng, 64, 100)
    breaker = Breaker(stack.url)
    try:
        async with AsyncMesh([breaker.url, stack.url], stack.api_key, patience=QUICK) as mesh:
            job = await mesh.submit(a, b, task_rows=20)
            breaker.down()
            same(await job, product(a, b))
            assert mesh.url == stack.url
    finally:
        breaker.down()


async def test_receipts_are_verified_by_the_program(
    stack: Stack, mesh: AsyncMesh, honest: Workers, rng: np.random.Generator, tmp_path: Path
) -> None:
    a, b = int8(rng, 30, 20), int8(rng, 20, 10)
    for name, array in (("a", a), ("b", b)):
        np.save(tmp_path / f"{name}.npy", array)
    code, out = await shardy(stack, tmp_path, "matmul", "a.npy", "b.npy", "-o", "c.npy", "--json")
    assert code == 0
    job = json.loads(out)["id"]
    assert (await shardy(stack, tmp_path, "receipt", job, "-o", "r.json"))[0] == 0
    arrays = ("--a", "a.npy", "--b", "b.npy", "--c", "c.npy")
    key = str((await mesh.info())["mesh_key"])
    assert (await shardy(stack, tmp_path, "verify", "r.json", *arrays, "--mesh-key", key))[0] == 0
    assert (await shardy(stack, tmp_path, "verify", "r.json", *arrays))[0] == 1
    wrong = np.load(tmp_path / "c.npy")
    wrong[3, 4] += 1
    np.save(tmp_path / "c.npy", wrong)
    assert (await shardy(stack, tmp_path, "verify", "r.json", *arrays, "--mesh-key", key))[0] == 1


async def test_every_list_and_the_operators_commands(stack: Stack, honest: Workers, tmp_path: Path) -> None:
    for command in ("jobs", "jobs --all", "workers", "frauds", "credit", "dlq", "keys", "credit --export ledger.csv"):
        code, out = await shardy(stack, tmp_path, *command.split(), "--json")
        assert code == 0 and isinstance(json.loads(out), dict), command
    code, out = await shardy(stack, tmp_path, "keys", "issue", "--label", "a test", "--json")
    issued = json.loads(out)
    async with AsyncMesh(stack.url, issued["key"]) as theirs:
        assert (await theirs.jobs())["jobs"] == []
        assert (await shardy(stack, tmp_path, "keys", "revoke", issued["id"]))[0] == 0
        with pytest.raises(Refused) as caught:
            await theirs.jobs()
        assert caught.value.status == 401
