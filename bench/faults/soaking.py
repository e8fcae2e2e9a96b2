"""A soak: steady load and faults drawn from a seed, for as long as one likes; memory and latency are watched.

In the first half everything may be killed. In the second the first process of each service is only frozen now and
then, so that its memory can be followed: a line is fitted to it.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.faults.crew import resume, rss_mib, stop
from bench.faults.history import ENDED, Seen
from bench.faults.mesh import ENV, Mesh, until
from shardy_common.stack import Stack

WATCHED = ("gateway", "matchmaker", "quorum", "dlq", "nats-server")
SPARED = ("gateway", "matchmaker", "quorum", "dlq", "nats-server")  # of kills, in the second half
SAMPLE_S = 1.0
PAUSE_S = (1.0, 5.0)  # between two faults
FROZEN_S = (0.3, 5.0)
WORKERS = ("ada", "bo", "cy")
SETTLING = 0.25  # of the second half is not looked at: caches fill, allocators find their size


@dataclass
class Outcome:
    """memory: name → (seconds, MiB) of the second half; latencies: (seconds since the start, of one job)."""

    seconds: float = 0.0
    jobs: int = 0
    events: int = 0
    verified: int = 0
    errors: int = 0
    faults: list[str] = field(default_factory=list)
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    latencies: list[tuple[float, float]] = field(default_factory=list)

    def growth_mib_per_min(self, name: str) -> float:
        """The slope of the line that fits a process's memory best, over what it lived in one go at the end."""
        points = self.memory[name]
        if len(points) < 5:
            return 0.0
        times, mib = np.array(points).T
        return float(np.polyfit(times, mib, 1)[0] * 60)


async def soak(folder: Path, seconds: float, seed: int) -> Outcome:
    """Run it and check it; AssertionError names what was violated."""
    outcome, rng = Outcome(seconds=seconds), random.Random(seed)
    replicas = {"matchmaker": 2, "quorum": 2}
    stack = Stack(folder / "data", allow_same_address=True, env=ENV, gateways=2, replicas=replicas)
    async with Mesh(folder, stack, seed=seed) as mesh:
        await mesh.join(*WORKERS)
        await until(mesh.live, "both of each see each other")
        mesh.load()
        started = time.monotonic()
        watching = asyncio.create_task(_watch(mesh, outcome, started))
        try:
            while (now := time.monotonic() - started) < seconds:
                await _fault(mesh, outcome, rng, started, late=now > seconds / 2)
                await asyncio.sleep(rng.uniform(*PAUSE_S))
        finally:
            watching.cancel()
        log = await mesh.in_peace(rebuilt=("gateway", "matchmaker", "quorum", "dlq"))
        outcome.events, outcome.jobs = len(log), len(mesh.history.jobs())
        outcome.verified = len(mesh.follower.verdicts())
        outcome.errors = sum(s.what == "error" for s in mesh.history.seen)
        outcome.latencies = latencies(mesh.history.seen, started)
    return outcome


async def _fault(mesh: Mesh, outcome: Outcome, rng: random.Random, started: float, *, late: bool) -> None:
    """One fault of the seed's choice, over when this returns: but for processes that are starting again."""
    names = sorted(mesh.stack.processes)
    killable = [name for name in names if not (late and name in SPARED)]
    kind = rng.choice(("kill", "kill", "kills", "worker", "freeze", "freeze worker"))
    if kind in ("kill", "kills"):
        victims = rng.sample(killable, 1 if kind == "kill" else 3)
        for name in victims:
            mesh.stack.kill(name)
    elif kind == "freeze":
        victims = rng.sample(names, rng.randint(1, 2))
        await _freeze([mesh.stack.processes[name].pid for name in victims], rng.uniform(*FROZEN_S))
    else:
        victims = [rng.choice(WORKERS)]
        process = mesh.crew.processes[victims[0]]
        if kind == "worker":
            mesh.crew.kill(victims[0])
            await process.wait()
            await mesh.crew.again(victims[0])
        else:
            await _freeze([process.pid], rng.uniform(*FROZEN_S))
    outcome.faults.append(f"{time.monotonic() - started:.1f} s: {kind} {', '.join(victims)}")


async def _freeze(pids: list[int], seconds: float) -> None:
    frozen = [pid for pid in pids if pid]  # one that is just being started has none
    for pid in frozen:
        stop(pid)
    try:
        await asyncio.sleep(seconds)
    finally:
        for pid in frozen:
            resume(pid)


async def _watch(mesh: Mesh, outcome: Outcome, started: float) -> None:
    """Memory of each process in its present life, once the second half has settled."""
    pids: dict[str, int] = {}
    begin_s = outcome.seconds * (0.5 + 0.5 * SETTLING)
    while True:
        now = time.monotonic() - started
        for name in WATCHED if now >= begin_s else ():
            pid = mesh.stack.processes[name].pid
            if pid and pid != pids.get(name):
                pids[name], outcome.memory[name] = pid, []
            if pid:
                outcome.memory[name].append((now, rss_mib(pid)))
        await asyncio.sleep(SAMPLE_S)


def latencies(seen: list[Seen], started: float) -> list[tuple[float, float]]:
    """From the first acknowledgement of each job to when its client saw its end, by when that was."""
    asked: dict[str, float] = {}
    found = []
    for s in seen:
        if s.what == "acknowledged":
            asked.setdefault(s.job, s.at_s)
        elif s.what == "status" and s.state in ENDED and s.job in asked and not s.client.startswith("reader"):
            found.append((s.at_s - started, s.at_s - asked.pop(s.job)))
    return found
