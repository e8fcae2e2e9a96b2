"""Receipts and credit of a real mesh: what a requester takes home checks without it, and the bill fits the log."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from blake3 import blake3
from meshkit import Workers, api, client, float32, int8, product, same

from bench.faults.logs import read_log
from shardy_client import AsyncMesh, PreExec
from shardy_common.receipts import check, check_arrays, load
from shardy_common.stack import Stack
from shardy_common.wire import events as ev


def written(value: Any) -> str:
    """Canonical JSON from scratch, after RFC 8785: a second opinion on the library's."""
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        out = ""
        for char in value:
            short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
            out += short.get(char) or (f"\\u{ord(char):04x}" if ord(char) < 32 else char)
        return f'"{out}"'
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return "{" + ",".join(f"{written(key)}:{written(value[key])}" for key in sorted(value)) + "}"


def openssl_verifies(folder: Path, key: str, sig: str, message: bytes) -> bool:
    """An Ed25519 signature by the openssl command."""
    der, sig_file, message_file = folder / "key.der", folder / "sig", folder / "message"
    der.write_bytes(bytes.fromhex("302a300506032b6570032100" + key))
    sig_file.write_bytes(bytes.fromhex(sig))
    message_file.write_bytes(message)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", str(der), "-rawin"]
    done = subprocess.run(
        [*command, "-in", str(message_file), "-sigfile", str(sig_file)], capture_output=True, check=False
    )
    assert (done.returncode == 0) == (b"Verified Successfully" in done.stdout), done
    return done.returncode == 0


def climbed(leaf: bytes, index: int, count: int, path: list[str]) -> bytes:
    """The root from a leaf, by the recursion of RFC 9162 §2.1: not the library's loop."""
    if count == 1:
        assert not path
        return leaf
    half = 1 << (count - 1).bit_length() - 1
    sibling = bytes.fromhex(path[-1])
    if index < half:
        return blake3(b"\x01" + climbed(leaf, index, half, path[:-1]) + sibling).digest()
    return blake3(b"\x01" + sibling + climbed(leaf, index - half, count - half, path[:-1])).digest()


async def receipt_of(http: httpx.AsyncClient, job: str) -> bytes:
    answer = await http.get(f"/v1/jobs/{job}/receipt")
    assert answer.status_code == 200, answer.text
    return answer.content


async def test_a_job_leaves_a_receipt_that_checks_and_that_nobody_can_change(
    honest: Workers, stack: Stack, mesh: AsyncMesh, http: httpx.AsyncClient, rng: np.random.Generator
) -> None:
    a, b = int8(rng, 47, 64), int8(rng, 64, 21)
    job = await mesh.submit_matmul(a, b, task_rows=4)
    await job.wait(timeout_s=90)
    c = await job.result()
    same(c, product(a, b))
    answer = await http.get(f"/v1/jobs/{job.id}/receipt")
    again = await http.get(f"/v1/jobs/{job.id}/receipt", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304 and again.headers["ETag"] == answer.headers["ETag"] and not again.content
    data = await receipt_of(http, job.id)
    assert data == answer.content and data.decode() == written(load(data))

    report = check(data, mesh_keys=[stack.mesh_key])
    assert report.ok and report.vouched, report.problems
    assert report.tasks == 12 and report.signed == 24 and report.unsigned == 0
    whole = {"a": a, "b": np.ascontiguousarray(b.T), "c": c}
    assert check_arrays(load(data), whole).ok and check_arrays(load(data), whole).tiles == 12
    c[5, 3] += 1
    assert [tile for _task, tile in check_arrays(load(data), {"c": c}).differing] == [[4, 4, 0, 21]]

    receipt = load(data)
    for task in receipt["tasks"]:
        alone = (await http.get(f"/v1/jobs/{job.id}/tasks/{task['task']}/receipt")).content
        assert load(alone)["statement"] == task and check(alone, mesh_keys=[stack.mesh_key]).vouched
    changed = copy.deepcopy(receipt)
    changed["tasks"][3]["result"]["digest"] = "0" * 64
    assert not check(changed, mesh_keys=[stack.mesh_key]).ok
    changed = copy.deepcopy(receipt)
    changed["statement"]["requester"] += "0"
    assert not check(changed, mesh_keys=[stack.mesh_key]).ok
    assert check(data.replace(b'"policy":"quorum"', b'"policy":"audit"'), mesh_keys=[stack.mesh_key]).problems


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")
async def test_a_receipt_checks_by_other_means(
    honest: Workers, stack: Stack, mesh: AsyncMesh, http: httpx.AsyncClient, rng: np.random.Generator, tmp_path: Path
) -> None:
    """Every signature of a receipt by the openssl command, over bytes that are put together here."""
    x = float32(rng, 40, 8)
    job = await mesh.submit_stream(x, PreExec(-1, 1), task_rows=8)
    await job.wait(timeout_s=90)
    receipt = json.loads(await receipt_of(http, job.id))
    statement, signature = receipt["statement"], receipt["signature"]
    message = b"shardy-receipt-v1\x00" + written(statement).encode()
    assert signature["key"] == stack.mesh_key == (stack.data_dir / "mesh_key.pub").read_text().strip()
    assert openssl_verifies(tmp_path, signature["key"], signature["sig"], message)
    assert not openssl_verifies(tmp_path, signature["key"], signature["sig"], message + b" ")
    level = [blake3(b"\x00shardy-receipt-task-v1\x00" + written(t).encode()).digest() for t in receipt["tasks"]]
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [blake3(b"\x01" + b"".join(pair)).digest() if len(pair) == 2 else pair[0] for pair in pairs]
    assert level[0].hex() == statement["tasks_root"]
    answers = 0
    for task in receipt["tasks"]:
        digest, size = bytes.fromhex(task["result"]["digest"]), task["result"]["bytes"].to_bytes(8, "little")
        for worker in task["workers"]:
            lease = worker["lease"].encode()
            leaf = blake3(b"\x00shardy-result-v2\x00" + lease + b"\x00" + digest + size).digest()
            root = climbed(leaf, worker["index"], worker["count"], worker["path"])
            assert openssl_verifies(tmp_path, worker["key"], worker["sig"], b"shardy-results-v2\x00" + root)
            answers += 1
    assert answers == 10


@pytest.mark.parametrize("policy", ["quorum", "audit"])
async def test_float_products_have_receipts_too(
    honest: Workers, stack: Stack, mesh: AsyncMesh, http: httpx.AsyncClient, rng: np.random.Generator, policy: str
) -> None:
    a, b = float32(rng, 9, 8), float32(rng, 8, 5)
    job = await mesh.submit_matmul(a, b, pre=PreExec(-1, 0.5), policy=policy)
    await job.wait(timeout_s=90)
    receipt = load(await receipt_of(http, job.id))
    report = check(receipt, mesh_keys=[stack.mesh_key])
    assert report.ok, report.problems
    parts = {name: await job.result(name) for name in ("c", "a_scale", "b_scale")}
    assert check_arrays(receipt, {"a": a, "b": np.ascontiguousarray(b.T), **parts}).ok
    bound = receipt["tasks"][0]["error_bound"]
    assert bound == ({"base": "2147483647", "exponent": 2} if policy == "audit" else None)


async def test_who_gets_which_receipt(
    honest: Workers, stack: Stack, mesh: AsyncMesh, http: httpx.AsyncClient, rng: np.random.Generator
) -> None:
    job = await mesh.submit_matmul(int8(rng, 4, 4), int8(rng, 4, 4))
    await job.wait(timeout_s=90)
    task = (await mesh.tasks(job.id))["tasks"][0]["id"]
    paths = (f"/v1/jobs/{job.id}/receipt", f"/v1/jobs/{job.id}/tasks/{task}/receipt")
    async with api(stack, "") as nobody, api(stack, stack.operator_key) as operator:
        for path in paths:
            assert (await http.get(path)).status_code == 200
            assert (await operator.get(path)).status_code == 200
            assert (await nobody.get(path)).status_code == 401
    assert (await http.get(f"/v1/jobs/{job.id}/tasks/{task}0/receipt")).status_code == 404
    assert (await http.get("/v1/jobs/j0000000000000000/receipt")).status_code == 404
    waiting = await mesh.submit_matmul(int8(rng, 4, 4), int8(rng, 4, 4), redundancy=7)
    refused = await http.get(f"/v1/jobs/{waiting.id}/receipt")
    assert refused.status_code == 409 and "once it has completed" in refused.json()["detail"]
    await waiting.cancel()
    cancelled = await http.get(f"/v1/jobs/{waiting.id}/receipt")
    assert cancelled.status_code == 409 and "cancelled" in cancelled.json()["detail"]


async def test_the_bill_fits_the_log(
    honest: Workers, stack: Stack, mesh: AsyncMesh, http: httpx.AsyncClient, rng: np.random.Generator
) -> None:
    """Credit, ledger, export and a job's usage, each against the verdicts in the log."""
    job = await mesh.submit_matmul(int8(rng, 30, 16), int8(rng, 16, 8), task_rows=3)
    await job.wait(timeout_s=90)
    status = (await http.get(f"/v1/jobs/{job.id}")).json()
    assert status["receipt"] == f"/v1/jobs/{job.id}/receipt"
    ops = 2 * 30 * 16 * 8
    assert status["usage"] == {"ops": ops, "ops_replicas": 2 * ops}

    table = list(csv.reader(io.StringIO((await http.get("/v1/credit/export")).text)))
    assert table[0] == ["seq", "at_ms", "worker", "task", "job", "ops", "method"]
    verdicts, over = [], set()
    for e in await read_log(stack):
        if isinstance(e.event, (ev.JobCompleted, ev.JobFailed, ev.JobCancelled)):
            over.add(e.event.job)
        elif isinstance(e.event, ev.JobReopened):
            over.discard(e.event.job)
        elif isinstance(e.event, ev.TaskVerified) and e.event.job not in over:  # a verdict too late counts for nobody
            verdicts += [(e.seq, w, e.event) for w in e.event.workers]
    said = {(int(seq), worker, task, int(ops), method) for seq, _at, worker, task, _job, ops, method in table[1:]}
    assert len(said) == len(table) - 1
    assert said == {(seq, worker, e.task, e.ops, e.method) for seq, worker, e in verdicts}

    listed, after = [], 0
    while True:
        page = (await http.get("/v1/credit/ledger", params={"job": job.id, "after": after, "limit": 7})).json()
        listed += page["entries"]
        if page["next"] is None:
            break
        after = page["next"]
    assert len(listed) == 20 and sum(entry["ops"] for entry in listed) == 2 * ops
    assert {entry["job"] for entry in listed} == {job.id}

    totals = (await http.get("/v1/credit", params={"limit": 1000})).json()
    assert totals["next"] is None and totals["total"]["ops"] == sum(w["ops"] for w in totals["workers"])
    assert totals["total"]["credit"] == totals["total"]["ops"] / 1e9
    for worker in totals["workers"]:
        own = [row for row in table[1:] if row[2] == worker["worker"]]
        assert worker["tasks"] == len(own) and worker["ops"] == sum(int(row[5]) for row in own)
        one = (await http.get(f"/v1/workers/{worker['worker']}")).json()
        assert one["credit"] == worker["credit"] == worker["ops"] / 1e9
        page = (await http.get("/v1/credit/ledger", params={"worker": worker["worker"], "limit": 1000})).json()
        assert [str(entry["seq"]) for entry in page["entries"]] == [row[0] for row in own][:1000]
    first = (await http.get("/v1/credit", params={"limit": 1})).json()
    rest = (await http.get("/v1/credit", params={"after": first["next"], "limit": 1000})).json()
    assert first["workers"] + rest["workers"] == totals["workers"]
    named = " ".join(worker["name"] for worker in totals["workers"])
    assert all(re.search(rf"\b{name}\b", named) for name in ("ada", "bo", "cy"))


async def test_another_key_signs_after_a_restart_and_the_old_one_stays_listed(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Rotation, and a gateway that must not use its key."""
    a, b = int8(rng, 5, 4), int8(rng, 4, 3)
    async with Stack(tmp_path / "data", allow_same_address=True) as stack:
        old, workers = stack.mesh_key, Workers(stack, tmp_path)
        try:
            await workers.start("ida", "jo")
            async with client(stack) as mesh, api(stack) as http:
                job = await mesh.submit_matmul(a, b)
                await job.wait(timeout_s=90)
                before = await receipt_of(http, job.id)
        finally:
            await workers.stop()
    (tmp_path / "data" / "mesh_key").rename(tmp_path / "mesh_key.old")
    async with Stack(tmp_path / "data", allow_same_address=True) as stack:
        async with api(stack) as http:
            after = await receipt_of(http, job.id)
        keyed = [e.event.key for e in await read_log(stack) if isinstance(e.event, ev.MeshKeyed)]
        assert keyed == [old, stack.mesh_key] and old != stack.mesh_key
        assert check(before, mesh_keys=keyed).vouched and check(after, mesh_keys=keyed).vouched
        assert load(before)["statement"] == load(after)["statement"]
        assert not check(after, mesh_keys=[old]).ok
    no_key = {"SHARDY_MESH_KEY_FILE": str(tmp_path / "nowhere")}
    async with Stack(tmp_path / "data", allow_same_address=True, env=no_key) as stack, api(stack) as http:
        refused = await http.get(f"/v1/jobs/{job.id}/receipt")
        assert refused.status_code == 503 and "SHARDY_MESH_KEY_FILE" in refused.json()["detail"]
