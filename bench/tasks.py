"""Suite `tasks`: verified tasks a second through the real gateway, beside task frameworks with no-op tasks.

Ours: jobs of N tiny tasks (1×16 times 16×16) through HTTP, the event log on disk, real worker sockets and native
worker processes; every task is computed by two workers (or one, and audited) and every step is a durable event.
Peers (peers.py): no-op tasks on the same cores; the bare JetStream queue is durable, the others are not, and none
checks anything. Ours and peers alternate within the run, so that whatever else the machine does hits all of them; the
figures are medians of the rounds. Processor time a task says more than the rate does where the machine is shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import peers
from bench.mesh import Round, running
from bench.sink import trace_sink
from shardy_common.log import Append
from shardy_common.stack import Stack
from shardy_common.wire.events import TaskCreated, TaskExpired
from shardy_common.wire.job import Tile

TASKS = 8_000
ROUNDS = 3
SMALL_JOBS = 300
TOGETHER = 3  # of a task's four events, how many travel with others': its creation and two results
AIMS = {"dask": "≥ 8", "ray": "≥ 3"}
AIMS_R3 = {"dask": "≥ 4", "ray": "≥ 1.5"}
SERVICES = ("gateway", "matchmaker", "quorum", "dlq", "prover-verifier", "gossip-bridge")
DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "replicas2": {"gateways": 2, "replicas": {"matchmaker": 2, "quorum": 2}},
    "r3": {"nats_nodes": 3},
    "r3_replicas2": {"nats_nodes": 3, "gateways": 2, "replicas": {"matchmaker": 2, "quorum": 2}},
}
Figure = dict[str, Any]


class Seen:
    """What the rounds gave. rates: of the peers by name; missing: peers that could not be had."""

    def __init__(self) -> None:
        self.rounds: dict[str, list[Round]] = defaultdict(list)
        self.rates: dict[str, list[float]] = defaultdict(list)
        self.rates_r3: dict[str, list[float]] = defaultdict(list)
        self.missing: dict[str, str] = {}
        self.conflicts: dict[str, float] = {}
        self.small: list[float] = []
        self.limit = 0.0

    async def ask_peers(self, names: Iterable[str], into: dict[str, list[float]]) -> None:
        for name in names:
            if name in self.missing:
                continue
            try:
                into[name].append(await asyncio.to_thread(peers.PEERS[name]))
            except Exception as error:  # a peer that does not run here takes nothing from the figures of the others
                self.missing[name] = " ".join(f"{type(error).__name__}: {error}".split())
                print(f"{name} is left out: {self.missing[name]}", flush=True)

    def rate(self, name: str) -> float:
        return statistics.median(one.rate for one in self.rounds[name])

    def cpu_ms(self, name: str) -> float:
        return statistics.median(one.total_ms for one in self.rounds[name])


def run() -> list[Figure]:
    seen = Seen()
    asyncio.run(_all(seen))
    return [*_throughput(seen), *_costs(seen), *_latency(seen)]


async def _all(seen: Seen) -> None:
    with tempfile.TemporaryDirectory() as folder:
        await _one_of_each(Path(folder), seen)
    for name, options in DEPLOYMENTS.items():
        with tempfile.TemporaryDirectory() as folder:
            async with running(Path(folder), **options) as mesh:
                for _ in range(ROUNDS):
                    seen.rounds[name].append(await mesh.round(TASKS, "quorum"))
                    if name == "r3":
                        await seen.ask_peers(AIMS_R3, seen.rates_r3)
                seen.conflicts[name] = await mesh.conflicts() * 1000 / (TASKS * ROUNDS)


async def _one_of_each(folder: Path, seen: Seen) -> None:
    """One process of each service, without and with traces, and all peers, in turn."""
    async with contextlib.AsyncExitStack() as opened:
        endpoint = opened.enter_context(trace_sink())
        plain = await opened.enter_async_context(running(folder / "plain"))
        traced_env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        traced = await opened.enter_async_context(running(folder / "traced", traced_env))
        for _ in range(ROUNDS):
            seen.rounds["quorum2"].append(await plain.round(TASKS, "quorum"))
            seen.rounds["traced"].append(await traced.round(TASKS, "quorum"))
            seen.rounds["audit"].append(await plain.round(TASKS, "audit"))
            await seen.ask_peers(peers.PEERS, seen.rates)
        seen.small = await plain.small_jobs_ms(SMALL_JOBS)
        seen.limit = await _log_limit(plain.stack)


async def _log_limit(stack: Stack) -> float:
    """Tasks a second if the log did nothing but take their events, from one appender."""
    log = await stack.open_log("bench", "matchmaker")
    try:
        events = [
            Append(TaskCreated(f"bench{n}-{i}", f"bench{n}", Tile(i, 1, 0, 16), []), f"bench{n}-{i}")
            for n in range(TOGETHER)
            for i in range(TASKS)
        ]
        events += [
            Append(TaskExpired(f"bench-{i}", "bench", [], "bench"), f"bench-{i}", 0, f"task.*.bench-{i}")
            for i in range(TASKS)
        ]
        started = time.perf_counter()
        await log.append(events)
        return TASKS / (time.perf_counter() - started)
    finally:
        await log.close()


def _figure(
    name: str, value: float, unit: str, compared_with: str = "", other: float | None = None, aim: str = ""
) -> Figure:
    ratio = None if other is None else value / other
    return {"name": name, "value": value, "unit": unit, "compared_with": compared_with, "ratio": ratio, "aim": aim}


def _throughput(seen: Seen) -> list[Figure]:
    ours, audit = seen.rate("quorum2"), seen.rate("audit")
    rates = {name: statistics.median(some) for name, some in seen.rates.items() if some}
    figures = [
        _figure("verified_tasks_per_s_quorum2", ours, "1/s", f"{name}_tasks_per_s", rate, AIMS.get(name, ""))
        for name, rate in rates.items()
    ]
    figures.append(_figure("verified_tasks_per_s_quorum2", ours, "1/s", "log_limit_tasks_per_s", seen.limit))
    figures.append(_figure("verified_tasks_per_s_audit", audit, "1/s", "verified_tasks_per_s_quorum2", ours))
    for name in DEPLOYMENTS:
        label = f"verified_tasks_per_s_{name}"
        figures.append(_figure(label, seen.rate(name), "1/s", "verified_tasks_per_s_quorum2", ours))
    for name, some in seen.rates_r3.items():
        if some:
            beside = statistics.median(some)
            figures.append(
                _figure("verified_tasks_per_s_r3", seen.rate("r3"), "1/s", f"{name}_tasks_per_s", beside, AIMS_R3[name])
            )
    figures += [_figure(f"{name}_tasks_per_s", rate, "1/s") for name, rate in rates.items()]
    figures.append(_figure("log_limit_tasks_per_s", seen.limit, "1/s"))
    for name in ("replicas2", "r3_replicas2"):
        figures.append(_figure(f"conflicts_per_1k_tasks_{name}", seen.conflicts[name], "", aim="rare"))
    return figures


def _costs(seen: Seen) -> list[Figure]:
    """Processor time: what stays comparable on a machine that does other things too."""
    rounds = seen.rounds["quorum2"]
    figures = [_figure("cpu_ms_per_task", seen.cpu_ms("quorum2"), "ms", aim="≤ 0.6")]
    for name in (*SERVICES, "nats-server", "worker", "client"):
        value = statistics.median(one.cpu_ms.get(name, 0.0) for one in rounds)
        figures.append(_figure(f"cpu_ms_per_task_{name}", value, "ms"))
    for name in DEPLOYMENTS:
        figures.append(_figure(f"cpu_ms_per_task_in_all_{name}", seen.cpu_ms(name), "ms"))
    figures.append(_figure("log_messages_per_task", statistics.median(one.messages for one in rounds), ""))
    overhead = (seen.cpu_ms("traced") / seen.cpu_ms("quorum2") - 1) * 100
    figures.append(_figure("tracing_overhead_pct", overhead, "%", aim="< 15"))
    return figures


def _latency(seen: Seen) -> list[Figure]:
    small = seen.small
    return [
        _figure("small_job_p50_ms", small[len(small) // 2], "ms", aim="< 20"),
        _figure("small_job_p99_ms", small[int(len(small) * 0.99)], "ms"),
    ]
