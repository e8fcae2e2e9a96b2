"""Suite `chaos`: how long a mesh under load stands still after each kind of kill.

`recovery_<what>`: from the kill to the end of the longest silence that begins within SOON_S of it; a silence is a time
without a verified task. `stall_one_of_two_<service>`: of the jobs that were running at the kill, the one that waited
longest for its next verified task. SHARDY_CHAOS_REPEATS: kills of each kind (8).
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.faults.history import Violation
from bench.faults.mesh import ENV, Mesh, until, words
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

REPEATS = 8
SOON_S = 1.0  # what was under way at the kill may still be verified so long after it
AFTER_S = 1.5  # of steady work before the next kill
WORKERS = ("ada", "bo", "cy")
ONE = ("gateway", "matchmaker", "quorum", "dlq", "nats-server")
OF_TWO = ("gateway-1", "matchmaker-1", "quorum-1")
LOST = ("lost job", "lost result", "lost cancel", "unended job")
Kill = Callable[[Mesh, int], Awaitable[None]]


def run() -> list[dict[str, Any]]:
    repeats = int(os.environ.get("SHARDY_CHAOS_REPEATS", REPEATS))
    with tempfile.TemporaryDirectory() as folder:
        single, found = asyncio.run(_single(Path(folder) / "one", repeats))
        pair, more = asyncio.run(_pair(Path(folder) / "two", repeats))
    figures = [figure for name, seen in {**single, **pair}.items() for figure in _figures(name, seen)]
    found += more
    if found:
        print(words(found), file=sys.stderr, flush=True)
    figures.append(_figure("tasks_lost", sum(v.kind in LOST for v in found), "", "0"))
    figures.append(_figure("verdicts_repeated", sum(v.kind == "verdict repeated" for v in found), "", "0"))
    figures.append(_figure("violations", len(found), "", "0"))
    return figures


async def _single(folder: Path, repeats: int) -> tuple[dict[str, list[float]], list[Violation]]:
    """One of each service."""
    folder.mkdir()
    seen: dict[str, list[float]] = {}
    async with Mesh(folder, Stack(folder / "data", allow_same_address=True, env=ENV)) as mesh:
        await _begin(mesh)
        for name in ONE:
            seen[f"recovery_{name.removesuffix('-server')}"] = await _kills(mesh, _process(name), repeats)
            _told(name, seen[f"recovery_{name.removesuffix('-server')}"])
        for name, kill in (("worker", _worker), ("everything", _everything)):
            seen[f"recovery_{name}"] = await _kills(mesh, kill, repeats)
            _told(name, seen[f"recovery_{name}"])
        _, found = await mesh.judged(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))
    return seen, found


async def _pair(folder: Path, repeats: int) -> tuple[dict[str, list[float]], list[Violation]]:
    """Two of each that can be."""
    folder.mkdir()
    seen: dict[str, list[float]] = {}
    replicas = {"matchmaker": 2, "quorum": 2}
    async with Mesh(
        folder, Stack(folder / "data", allow_same_address=True, env=ENV, gateways=2, replicas=replicas)
    ) as mesh:
        await _begin(mesh)
        for name in OF_TWO:
            stalls: list[float] = []
            kind = name.removesuffix("-1")
            seen[f"recovery_one_of_two_{kind}"] = await _kills(mesh, _process(name), repeats, stalls)
            seen[f"stall_one_of_two_{kind}"] = stalls
            _told(f"one of two: {kind}", seen[f"recovery_one_of_two_{kind}"])
            _told(f"one of two: {kind}, the longest stall of a job", stalls)
        _, found = await mesh.judged(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))
    return seen, found


async def _begin(mesh: Mesh) -> None:
    await mesh.join(*WORKERS)
    await until(mesh.live, "everything is live")
    mesh.load(4, rows=24, pause_s=0.0)
    await mesh.goes_on(100)


async def _kills(mesh: Mesh, kill: Kill, repeats: int, stalls: list[float] | None = None) -> list[float]:
    """Seconds that each took to recover from."""
    found = []
    for number in range(repeats):
        await asyncio.sleep(AFTER_S)
        await mesh.goes_on()
        fault_s = time.monotonic()
        await kill(mesh, number)
        await asyncio.sleep(SOON_S)
        await until(mesh.live, "everything is live again")
        await mesh.goes_on()
        found.append(recovery([at for at, _ in mesh.follower.verdicts(fault_s)], fault_s))
        if stalls is not None:
            stalls.append(_stall(mesh, fault_s))
    return found


def _told(name: str, seen: list[float]) -> None:
    """A suite of minutes says how far it is."""
    print(f"{name}: {', '.join(f'{s:.2f}' for s in seen)} s", file=sys.stderr, flush=True)


def recovery(verdicts_s: list[float], fault_s: float) -> float:
    """From the fault to the end of the longest silence that begins within SOON_S of it."""
    times = [fault_s, *verdicts_s]
    silences = [(b - a, b) for a, b in pairwise(times) if a <= fault_s + SOON_S]
    return max(silences)[1] - fault_s


def _stall(mesh: Mesh, fault_s: float) -> float:
    """The longest time until a job that was running got its next verified task, or its end."""
    running, waits = set(), {}
    for at, recorded in mesh.follower.came:
        event = recorded.event
        job = getattr(event, "job", "")
        if at <= fault_s:
            if isinstance(event, ev.TaskCreated):
                running.add(job)
            elif isinstance(event, ev.JobCompleted | ev.JobCancelled | ev.JobFailed):
                running.discard(job)
        elif job in running and isinstance(event, ev.TaskVerified | ev.JobCompleted | ev.JobCancelled):
            waits.setdefault(job, at - fault_s)
    return max(waits.values(), default=0.0)


def _process(name: str) -> Kill:
    async def kill(mesh: Mesh, _number: int) -> None:
        assert mesh.stack.kill(name), f"{name} was not running"

    return kill


async def _worker(mesh: Mesh, number: int) -> None:
    name = WORKERS[number % len(WORKERS)]
    mesh.crew.kill(name)
    await mesh.crew.processes[name].wait()
    await mesh.crew.again(name)


async def _everything(mesh: Mesh, _number: int) -> None:
    for name in mesh.stack.processes:
        mesh.stack.kill(name)
    for name in WORKERS:
        mesh.crew.kill(name)
        await mesh.crew.again(name)


def _figures(name: str, seen: list[float]) -> list[dict[str, Any]]:
    ordered = sorted(seen)
    p99 = ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]
    return [_figure(f"{name}_p50_s", ordered[len(ordered) // 2], "s"), _figure(f"{name}_p99_s", p99, "s")]


def _figure(name: str, value: float, unit: str, aim: str = "") -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "compared_with": "", "ratio": None, "aim": aim}
