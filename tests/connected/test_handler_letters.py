"""A service whose code fails at an event, in a real mesh: it goes on without it, and folds it once it is repaired."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from meshkit import Workers, api, client, int8, product, same, until

from bench.faults.logs import read_log
from shardy_client import doctor_mesh
from shardy_common import stack as stacking
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

HERE = Path(__file__).parent


async def shardy(stack: Stack, *words: str) -> tuple[int, str, str]:
    """The command line, run beside the mesh: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "shardy_client.cli",
        *words,
        env={**os.environ, "SHARDY_URL": stack.url, "SHARDY_OPERATOR_KEY": stack.operator_key, "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, out.decode(), err.decode()


async def quorums(stack: Stack) -> list[dict[str, Any]]:
    async with api(stack, stack.operator_key) as operator:
        services = (await operator.get("/v1/services")).json()["services"]
    return next(service["replicas"] for service in services if service["name"] == "quorum")


async def test_a_mesh_goes_on_and_folds_the_event_once_its_service_is_repaired(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    repaired = tmp_path / "repaired"
    monkeypatch.setitem(stacking.SERVICES, "quorum", "brokenquorum")
    env = {"PYTHONPATH": str(HERE), "REPAIRED": str(repaired), "SHARDY_CANARY_EVERY": "0"}
    async with Stack(tmp_path / "data", allow_same_address=True, env=env, replicas={"quorum": 2}) as stack:
        crew = Workers(stack, tmp_path)
        try:
            await crew.start("una", "cursed", "trey")
            a, b = int8(rng, 24, 16), int8(rng, 16, 5)
            async with client(stack) as mesh:
                same(await mesh.matmul(a, b, task_rows=6, timeout_s=150), product(a, b))

            async def both_without() -> str:
                found = [replica["skipped"] for replica in await quorums(stack)]
                alike = len(found) == 2 and found[0] == found[1] and len(found[0]) == 1
                return found[0][0]["entry"] if alike else ""

            entry = await until(both_without, "both quorums go on without the event")
            stack.kill("quorum")  # a restart meets the event no more, or knows it: no loop

            async def back() -> bool:
                return await both_without() == entry and all(r["live"] for r in await quorums(stack))

            await until(back, "the killed one is back")

            async with api(stack, stack.operator_key) as operator:
                letter = (await operator.get(f"/v1/dlq/{entry}")).json()
            assert letter["cause"] == "handler" and letter["state"] == "open"
            assert letter["evidence"]["exception"] == "LookupError" and "cursed" in letter["evidence"]["error"]
            assert letter["evidence"]["service"] == "quorum" and str(HERE) not in json.dumps(letter)
            assert letter["evidence"]["at"].startswith("shardy_") or "brokenquorum.py:" in letter["evidence"]["at"]
            monkeypatch.setenv("SHARDY_OPERATOR_KEY", stack.operator_key)
            checks = {check.name: check for check in await asyncio.to_thread(doctor_mesh.services, stack.url)}
            assert not checks["service quorum"].ok and entry in checks["service quorum"].remedy
            assert all(check.ok for name, check in checks.items() if name != "service quorum")

            code, _, err = await shardy(stack, "dlq", "replay", entry)
            assert code != 0 and "still cannot fold event" in err and "this name is cursed" in err
            assert await until(both_without, "both have looked again, and go on without it") == entry

            repaired.touch()
            code, out, err = await shardy(stack, "dlq", "replay", entry)
            assert code == 0 and "2 replicas of quorum folded the log anew" in out, err
            assert [replica["skipped"] for replica in await quorums(stack)] == [[], []]
            events = [e.event for e in await read_log(stack)]
            assert sum(isinstance(e, ev.DlqRecorded) and e.entry == entry for e in events) == 1
            assert sum(isinstance(e, ev.DlqReplayed) and e.entry == entry for e in events) == 1
        finally:
            await crew.stop()
