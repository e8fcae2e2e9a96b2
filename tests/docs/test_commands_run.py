"""The commands that the pages show run as they stand, on a real mesh with two workers and a dead letter.

Words in capitals are filled in; what starts a mesh or a worker is started, seen to work, and stopped. Pages whose
commands need containers are run by tests/compose, and docs/receipts.md and docs/sdk.md by tests of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from blake3 import blake3
from made_keys import made_vk
from proofkit import circuit_files

from shardy_client import AsyncMesh
from shardy_common.stack import Stack, free_port

pytestmark = pytest.mark.connected
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LASTING = ("shardy up", "shardy worker")
LINE = re.compile(r"(?m)^(?: {4})?((?:shardy|curl) (?:[^\\\n]|\\\n|\\.)*)$")


def commands(page: str) -> list[str]:
    """Lines of code that begin with a program that a user runs, with their continuations and without comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"(?ms)^```sh\n(.*?)^```", text) + re.findall(r"(?m)^ {4}\S.*$", text))
    return [re.split(r"\s{2,}# ", found.replace("\\\n", " "))[0].strip() for found in LINE.findall(code)]


async def poisoned(stack: Stack, count: int) -> list[str]:
    """Dead letters, of bytes in the log that nobody can read."""
    client = await stack.connect(role="matchmaker")
    for i in range(count):
        await client.jetstream().publish(f"task.created.odd-{i}", b"\xff not an event")
    await client.close()
    headers = {"Authorization": f"Bearer {stack.operator_key}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:
        for _ in range(600):
            entries = [e["entry"] for e in (await http.get("/v1/dlq")).json()["entries"]]
            if len(entries) == count:
                return entries
            await asyncio.sleep(0.1)
    raise AssertionError("no dead letters were written")


async def some_task(stack: Stack) -> str:
    """A task of a job that was computed."""
    ones = np.ones((4, 16), np.int8)
    async with AsyncMesh(stack.url, stack.api_key) as mesh:
        job = await mesh.submit_matmul(ones, ones.T)
        await job.wait(timeout_s=90)
        return str((await mesh.tasks(job))["tasks"][0]["id"])


async def sh(line: str, folder: Path, env: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", line),
        cwd=folder,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, out.decode()


async def lasts(line: str, sign: str, folder: Path, env: dict[str, str]) -> None:
    """Start what stays, wait until it says the sign, and end it as Ctrl-C does."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"exec {line}"),
        cwd=folder,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = ""
    started = time.monotonic()
    try:
        while sign not in said:
            piece = await asyncio.wait_for(process.stdout.readline(), 90)
            assert piece and time.monotonic() - started < 90, f"{line}: {said}"
            said += piece.decode()
    finally:
        process.send_signal(signal.SIGINT)
        rest = await asyncio.wait_for(process.stdout.read(), 30)
        code = await process.wait()
    assert code in (0, 130), f"{line} ended with {code}: {said}{rest.decode()}"


def environment(stack: Stack, folder: Path) -> dict[str, str]:
    """As in the folder in which a mesh was started: its keys are found, and its address is given."""
    (folder / ".data").symlink_to(stack.data_dir)
    env = {name: value for name, value in os.environ.items() if not name.startswith("SHARDY_")}
    return {**env, "PATH": f"{BIN}:{env['PATH']}", "SHARDY_URL": stack.url, "MESH": stack.url, "URL": stack.url}


@pytest.mark.slow
async def test_the_commands_of_the_readme_run(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    env = environment(stack, folder)
    rng = np.random.default_rng(5)
    a, b = rng.integers(-128, 128, (40, 32), np.int8), rng.integers(-128, 128, (32, 24), np.int8)
    np.save(folder / "A.npy", a)
    np.save(folder / "B.npy", b)
    np.save(folder / "X.npy", rng.normal(size=(50, 8)).astype(np.float32))
    job = ""
    shown = commands("README.md")
    assert len(shown) > 12
    for line in shown:
        if line.startswith("shardy up"):
            port = free_port("127.0.0.1")
            await lasts(f"{line} --data-dir other --port {port}", "Ctrl-C stops it", folder, env)
            continue
        if line.startswith("shardy worker "):
            await lasts(line.replace("http://127.0.0.1:8765", stack.url), "joined", folder, env)
            continue
        if "ID" in line.split() and not job:
            _, listed = await sh("shardy jobs --json", folder, env)
            job = next(j["id"] for j in json.loads(listed)["jobs"] if j["kind"] == "matmul")
        code, said = await sh(re.sub(r"\bID\b", job, line), folder, env)
        if line.startswith("shardy doctor"):  # what this machine lacks is no fault of the command
            assert code in (0, 1) and "Python" in said, said
        else:
            assert code == 0, f"{line}: {said}"
        if line.startswith("shardy verify"):
            assert "VERIFIED" in said and "the result as in the receipt" in said, said
    assert np.array_equal(np.load(folder / "C.npy"), a.astype(np.int32) @ b.astype(np.int32))


async def test_verification_keys_rotate_as_the_page_says(stack: Stack, tmp_path: Path) -> None:
    """docs/rotation.md."""
    folder = tmp_path / "here"
    folder.mkdir()
    env = environment(stack, folder)
    for number, name in enumerate(("VK.json", "VK2.json")):
        (folder / name).write_text(json.dumps(made_vk(number)))
    shown = commands("docs/rotation.md")
    assert len(shown) == 7
    for line in shown:
        code, said = await sh(line, folder, env)
        assert code == 0, f"{line}: {said}"
    _, listed = await sh("shardy verifiers --json", folder, env)
    statuses = {version["version"]: version["status"] for version in json.loads(listed)["verifiers"]}
    assert statuses == {"2026-01": "active", "2026-02": "revoked"}


@pytest.mark.slow
async def test_a_first_proof_as_the_page_says(tmp_path: Path) -> None:
    """docs/proofs.md, in the smallest circuit, which takes a second."""
    folder, name = tmp_path / "here", "v2-8x8x8"
    made = circuit_files(8, 8, 8, folder / name)
    shutil.copy(made.r1cs, folder / name)
    rng = np.random.default_rng(5)
    a, b = rng.integers(-128, 128, (20, 7), np.int8), rng.integers(-128, 128, (7, 12), np.int8)
    np.save(folder / "A.npy", a)
    np.save(folder / "B.npy", b)
    shown = commands("docs/proofs.md")
    assert [line.split()[1] for line in shown] == [
        "up", "worker", "verifiers", "verifiers", "matmul", "receipt", "verify", "matmul"
    ]  # fmt: skip
    async with Stack(tmp_path / "mesh", allow_same_address=True, env={"SHARDY_DEVELOPMENT": "true"}) as stack:
        env = environment(stack, folder)
        job = ""
        worker: asyncio.subprocess.Process | None = None
        try:
            for line in shown:
                if line.startswith("shardy up"):
                    port = free_port("127.0.0.1")
                    await lasts(f"{line} --data-dir other --port {port}", "Ctrl-C stops it", folder, env)
                elif line.startswith("shardy worker"):
                    worker = await asyncio.create_subprocess_exec(
                        *("bash", "-c", f"exec {line} --ephemeral >worker.log 2>&1"), cwd=folder, env=env
                    )
                else:
                    if "ID" in line.split():
                        _, listed = await sh("shardy jobs --json", folder, env)
                        job = json.loads(listed)["jobs"][0]["id"]
                    line = line.replace("circuits/build/", "").replace("32x32x32", "8x8x8")
                    code, said = await sh(re.sub(r"\bID\b", job, line), folder, env)
                    assert code == 0, f"{line}: {said}"
                    if line.startswith("shardy verify"):
                        assert "VERIFIED" in said and "2 hold, under a DEVELOPMENT key" in said, said
        finally:
            if worker is not None:
                worker.send_signal(signal.SIGINT)
                await worker.wait()
    assert np.array_equal(np.load(folder / "C.npy"), a.astype(np.int32) @ b.astype(np.int32))


@pytest.mark.slow
async def test_the_calls_of_the_pages_run(stack: Stack, tmp_path: Path) -> None:
    """docs/dead-letters.md by command and by curl, docs/operate.md by command, docs/api.md by curl."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    folder = tmp_path / "here"
    folder.mkdir()
    env = environment(stack, folder)
    entries = await poisoned(stack, 2)
    for line in commands("docs/dead-letters.md"):
        entry = entries[0] if line.startswith("shardy") else entries[1]
        told = {**env, "KEY": stack.operator_key, "ENTRY": entry, "NEXT": "999999"}
        if line.startswith("shardy"):
            code, said = await sh(line.replace("ENTRY", entry), folder, told)
            # what cannot be read does not become readable by asking again: the mesh says so, with exit code 4
            assert code == (4 if "replay" in line else 0), f"{line}: {said}"
        else:
            _, said = await sh(line.replace("curl ", "curl -s -w '%{http_code}' ", 1), folder, told)
            assert said.endswith("409" if "replay" in line else "200"), f"{line}: {said}"

    key, task = "", await some_task(stack)
    for line in commands("docs/operate.md"):
        if line.startswith("shardy"):
            code, said = await sh(re.sub(r"\bTASK\b", task, re.sub(r"\bKEY\b", key, line)), folder, env)
            assert code == 0, f"{line}: {said}"
            if "issue" in line:
                _, listed = await sh("shardy keys list --json", folder, env)
                key = next(k["id"] for k in json.loads(listed)["keys"] if k["label"] == "anna")

    rng = np.random.default_rng(6)
    a = rng.integers(-128, 128, (6, 16), np.int8)
    (folder / "a.bin").write_bytes(a.tobytes())
    digest = blake3(a.tobytes()).hexdigest()
    operand = {"digest": digest, "dtype": "int8", "rows": 6, "cols": 16}
    (folder / "job.json").write_text(json.dumps({"kind": "matmul", "policy": "audit", "a": operand, "b": operand}))
    (folder / "uuidgen").write_text("#!/bin/sh\necho a-fresh-one\n")
    (folder / "uuidgen").chmod(0o755)
    told = {**env, "KEY": stack.api_key, "digest": digest, "PATH": f"{folder}:{env['PATH']}"}
    job = ""
    for line in commands("docs/api.md"):
        _, said = await sh(line.replace("curl ", "curl -s -w ' %{http_code}' ", 1).replace("ID", job), folder, told)
        body, _, status = said.rpartition(" ")
        assert status in ("200", "201"), f"{line}: {said}"
        if "job.json" in line:
            job = json.loads(body)["id"]
    assert np.array_equal(np.load(folder / "c.npy"), a.astype(np.int32) @ a.astype(np.int32).T)


def test_make_runs_the_same_commands() -> None:
    """`make up` and `make worker` are `shardy up` and `shardy worker`; others are run elsewhere."""
    for target, wanted in (("up", "shardy up --data-dir .data --demo"), ("worker", "shardy worker")):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
        assert any(line.endswith(wanted) for line in done.stdout.splitlines()), done.stdout


async def test_the_mesh_of_the_fixture_is_a_real_one(stack: Stack) -> None:
    """A check that cannot fail shows nothing: a command that does not exist, and a wrong option, end in an error."""
    async with AsyncMesh(stack.url, stack.api_key) as mesh:
        assert (await mesh.listing("workers"))["workers"]
    for wrong in ("shardy fly", "shardy jobs --tomorrow"):
        code, _ = await sh(wrong, ROOT, {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"})
        assert code == 2
