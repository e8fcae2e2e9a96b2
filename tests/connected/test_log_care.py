"""A mesh whose log is archived while a job runs, copied, put back elsewhere, and folded for a trial."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from meshkit import PATIENCE_S, SLOW, Workers, api, client, int8, product, same, until
from test_rebuilt_projections import quiet, seen, works

from bench.faults.logs import opened_log
from shardy_client import AsyncMesh
from shardy_client.errors import Refused
from shardy_common.backup import BackupError, backup, restore
from shardy_common.log import read_all
from shardy_common.log.archive import Archive
from shardy_common.rebuild import rebuild_command
from shardy_common.receipts import check
from shardy_common.stack import SERVICES, Stack

pytestmark = pytest.mark.slow
SHARDY = Path(sys.executable).parent / "shardy"


async def shardy(stack: Stack, *words: str, code: int = 0) -> Any:
    """A command with --json on the stack's folder; what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(str(SHARDY), *words, "--json", "--data-dir", str(stack.data_dir)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == code, (out.decode(), err.decode())
    return json.loads(out) if code == 0 else err.decode()


async def rebuilt(stack: Stack) -> dict[str, tuple[int, str]]:
    found = {}
    for service in SERVICES:
        (answer,) = await asyncio.to_thread(rebuild_command, stack.data_dir, service)
        found[service] = (answer["checkpoint"], answer["checksum"])
    return found


async def test_archived_copied_put_back_and_replayed(tmp_path: Path, rng: np.random.Generator) -> None:
    env = {"SHARDY_CANARY_EVERY": "0"}
    async with Stack(tmp_path / "data", allow_same_address=True, env=env) as stack:
        crew = Workers(stack, tmp_path)
        try:
            await crew.start("una", "duo", "trey", **SLOW)
            await works(stack, rng)
            a, b = int8(rng, 120, 16), int8(rng, 16, 6)
            async with client(stack) as mesh:
                done = await mesh.submit_matmul(a, b, task_rows=1)
                await done.wait(timeout_s=PATIENCE_S)
                stories = await told(stack, done.id)
                active = await mesh.submit_matmul(int8(rng, 1_200, 16), b, task_rows=1)
                await until(lambda: _running(mesh, active.id), "the job runs")
                report = await shardy(
                    stack, *("log", "archive", "--older-than", "0s", "--keep-events", "0", "--epoch-events", "100")
                )
                assert report["active_jobs"] == 1 and report["archived"] > 100 and report["purged"] > 50, report
                assert report["archived"] <= report["floor"] < report["last"] and not report["waiting"]
                assert await told(stack, done.id) == stories, "archived events tell the same story"
                await listed(stack, done.id)
                await active.wait(timeout_s=PATIENCE_S)
                receipt = await mesh.receipt(done.id)
        finally:
            await crew.stop()
        before = await quiet(stack, list(SERVICES))
        async with opened_log(stack) as log:
            state = (await log.info())["state"]
            assert state["messages"] == state["last_seq"] - report["purged"]
        assert await rebuilt(stack) == before, "the fold of archive and stream is the fold of the log"
        verified = await shardy(stack, "log", "verify")
        assert verified["archived"] == report["archived"] and len(verified["files"]) == len(report["epochs"])
        replayed = (await shardy(stack, "log", "replay"))["services"]
        assert [(s["service"], s["equal"], s["error"]) for s in replayed] == [(name, True, "") for name in SERVICES]
        counted = await shardy(stack, "blobs", "--older-than", "1h")
        assert counted["kept_jobs"] == 3 and counted["unnamed_blobs"] == 0 < counted["blobs"]
        aged = await shardy(stack, "blobs", "--older-than", "0s")
        assert aged["kept_jobs"] == 0 and aged["unnamed_bytes"] == aged["bytes"] == counted["bytes"]
        async with api(stack) as http:
            shown = await seen(stack, http)
        made = await backup(stack.data_dir, tmp_path / "copy")
        again = await backup(stack.data_dir, tmp_path / "copy")
        assert {n: f for n, f in again.files.items() if ".snapshot" not in n and "index.db" not in n}.items() >= {
            n: f for n, f in made.files.items() if ".snapshot" not in n and "index.db" not in n
        }.items()
        trial = (await shardy(stack, "log", "replay", "--from", str(tmp_path / "copy")))["services"]
        assert {s["service"]: (s["checkpoint"], s["checksum"]) for s in trial} == before
        with pytest.raises(BackupError, match="is not empty"):
            await restore(tmp_path / "copy", stack.data_dir)

    made = await restore(tmp_path / "copy", tmp_path / "new")
    assert made.last_seq >= report["last"]
    assert oct((tmp_path / "new" / "operator_key").stat().st_mode & 0o777) == "0o600"
    async with Stack(tmp_path / "new", allow_same_address=True, env=env) as fresh:
        assert (fresh.api_key, fresh.mesh_key) == (stack.api_key, stack.mesh_key)
        async with api(fresh) as http, client(fresh) as mesh:
            assert await seen(fresh, http) == shown
            assert await mesh.receipt(done.id) == receipt
            report_of = check(json.dumps(receipt).encode(), mesh_keys=[fresh.mesh_key])
            assert report_of.ok and report_of.vouched, report_of.problems
            same(await (await mesh.job(done.id)).result(), product(a, b))
        crew = Workers(fresh, tmp_path)
        try:
            await crew.start("una", "duo")
            await works(fresh, rng)
        finally:
            await crew.stop()
    # without its archive the mesh does not start on a wrong fold: it says what is missing
    for path in (tmp_path / "new" / "archive").glob("*.log.gz"):
        path.unlink()
    for path in (tmp_path / "new" / "projections").glob("*.db*"):
        path.unlink()
    with pytest.raises(RuntimeError, match=r"are neither in the stream nor in the archive folder"):
        async with Stack(tmp_path / "new", allow_same_address=True, env=env):
            pass


async def _running(mesh: AsyncMesh, job: str) -> bool:
    status = await (await mesh.job(job)).status()
    return bool(status["progress"]["tasks_verified"])


async def told(stack: Stack, job: str) -> list[dict[str, Any]]:
    """The story of every task of a job: each event explained, and none missing that the log has."""
    async with AsyncMesh(stack.url, stack.operator_key) as mesh:
        tasks = [task["id"] for task in (await mesh.tasks(job))["tasks"]]
        stories = [await mesh.story(task) for task in tasks]
    async with opened_log(stack) as log:
        log.archive = Archive(stack.data_dir / "archive", log.stream)
        reader = log.read([], 0)
        events = [recorded async for recorded in read_all(reader)]
        await reader.close()
    for task, one in zip(tasks, stories, strict=True):
        lines = one["lines"]
        assert all(line["follows"] or line["context"] or line["event"] == "job.submitted" for line in lines), lines
        assert {e.seq for e in events if getattr(e.event, "task", "") == task} <= {line["seq"] for line in lines}
        assert any("verified" in line["words"] and "agree" in line["words"] for line in lines)
    return stories


async def listed(stack: Stack, job: str) -> None:
    """Pages over archive and stream meet every event once, both ways; filters; what comes is followed."""
    async with AsyncMesh(stack.url, stack.operator_key) as mesh:

        async def walk(cursor: str, **wanted: Any) -> list[int]:
            seqs: list[int] = []
            at: int | None = 0 if cursor == "after" else None
            while True:
                page = await mesh.log(1_000, **{cursor: at}, **wanted)
                seqs += [event["seq"] for event in page["events"]]
                at = page["next"]
                if at is None:
                    return seqs

        old = await walk("after", event="task.verified", job=job)
        assert len(old) == 120 and old == sorted(old) == sorted(await walk("before", event="task.verified", job=job))
        everything = await walk("after")
        assert everything[: len(everything)] == list(range(1, len(everything) + 1))
        page = await mesh.log(1, after=0, subject="task.verified.>")
        first = page["events"][0]
        assert first["data"]["method"] == "quorum" and first["event"] == "task.verified" and first["error"] is None
        at_ms = first["at_ms"]
        since = (await mesh.log(1_000, after=0, since_ms=at_ms, until_ms=at_ms + 1))["events"]
        assert {event["at_ms"] for event in since} == {at_ms} and first["seq"] in [event["seq"] for event in since]
        followed = []
        async for event in mesh.follow_log(after=first["seq"] - 1, event="task.verified"):
            followed.append(event["seq"])
            if len(followed) == 20:
                break
        assert followed == (await walk("after", event="task.verified"))[:20]
        refusals: list[tuple[dict[str, Any], str]] = [
            ({"subject": "task.ver*.x"}, "is no pattern"),
            ({"event": "task.sung"}, "is none of"),
            ({"subject": "nothing.>"}, "no subject begins with"),
            ({"job": "a b"}, "is no id of a job"),
        ]
        for wrong, words in refusals:
            with pytest.raises(Refused, match=words):
                await mesh.log(1, **wrong)
        for task, words in (
            ("j0-0-0-000000", "no task of this id was ever carved"),
            (f"{job}-0-9-000000", "never had a task"),
        ):
            with pytest.raises(Refused, match=words):
                await mesh.story(task)
    async with AsyncMesh(stack.url, stack.api_key) as mesh:
        with pytest.raises(Refused, match="needs the scope operate"):
            await mesh.log(1)
