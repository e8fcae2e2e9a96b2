"""Memory and processor time of idle workers: a real mesh with thousands of them, beside a bare WebSocket server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.log_store import costs, cpu_s, figure, memory, profiled, pss_kib, write_profiles
from shardy_common.stack import Stack, free_port

FEW = 10
JOINS_PER_S = 400
IDLE_S = 30
SETTLE_S = 5
LIMITS = {
    "SHARDY_JOINS_PER_S": "100000",
    "SHARDY_JOINS_BURST": "100000",
    "SHARDY_SESSIONS_PER_ADDRESS_MAX": "100000",
}
MESH_MIB_MAX = 500


async def run(sockets: int) -> list[dict[str, Any]]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    bare = await _bare(sockets)
    return [figure("bare_socket_kib_each", bare, "KiB"), *await _mesh(sockets, bare)]


@contextlib.asynccontextmanager
async def _workers(url: str, count: int) -> AsyncIterator[dict[str, Any]]:
    """So many idle workers in a process of their own, all joined."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.log_client", url, str(count), str(JOINS_PER_S),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    try:
        line = await process.stdout.readline()
        said = json.loads(line or b'{"joined": 0, "failed": "the client ended"}')
        if said["joined"] != count:
            raise RuntimeError(f"{count} workers should join: {said}")
        yield said
    finally:
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 20)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _bare(sockets: int) -> float:
    """KiB of a server for each socket that does nothing."""
    port = free_port("127.0.0.1")
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.log_echo", str(port), cwd=Path(__file__).parents[1]
    )
    try:
        await _listening(port)
        async with _workers(f"http://127.0.0.1:{port}", FEW):
            before = pss_kib(server.pid)
            async with _workers(f"http://127.0.0.1:{port}", sockets - FEW):
                await asyncio.sleep(1)
                return (pss_kib(server.pid) - before) / (sockets - FEW)
    finally:
        server.kill()
        await server.wait()


async def _listening(port: int) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.1)
    raise RuntimeError("the bare server does not listen")


async def _mesh(sockets: int, bare: float) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        async with Stack(folder, env={**LIMITS, **profiled()}) as stack, _workers(stack.url, FEW):
            await asyncio.sleep(SETTLE_S)
            empty = memory(stack)
            few = await _idle(stack)
            before = costs(stack)
            async with _workers(stack.url, sockets - FEW) as joined:
                used = {name: cost - before[name] for name, cost in costs(stack).items()}
                await asyncio.sleep(SETTLE_S)
                full = memory(stack)
                await write_profiles(stack)
                idle = await _idle(stack)
                await write_profiles(stack)
            grown = {name: full[name] - empty[name] for name in empty}
            each = {name: kib / (sockets - FEW) for name, kib in grown.items()}
    figures += [
        figure("socket_kib_each", each["gateway"], "KiB", "bare_socket_kib_each", bare),
        figure(f"mesh_mib_{sockets}_workers", sum(grown.values()) / 1024, "MiB", aim=f"< {MESH_MIB_MAX} above empty"),
        figure("mesh_mib_empty", sum(empty.values()) / 1024, "MiB"),
        figure(f"joins_per_s_{sockets}", (sockets - FEW) / joined["s"], "1/s"),
        figure("probes_per_join", joined["probes"] / (sockets - FEW), ""),
    ]
    figures += [figure(f"worker_kib_each_{name}", kib, "KiB") for name, kib in each.items() if name != "gateway"]
    figures += [figure(f"join_cpu_ms_{name}", 1e3 * s / (sockets - FEW), "cpu ms") for name, s in used.items()]
    for name, percent in idle.items():
        other = f"idle_cpu_pct_{FEW}_{name}"
        figures.append(figure(f"idle_cpu_pct_{sockets}_{name}", percent, "%", other, few[name]))
    figures.append(figure(f"idle_cpu_pct_{sockets}", sum(idle.values()), "%", f"idle_cpu_pct_{FEW}", sum(few.values())))
    figures.append(figure(f"idle_cpu_pct_{FEW}", sum(few.values()), "%"))
    return figures


async def _idle(stack: Stack) -> dict[str, float]:
    """Per cent of one core that each process takes while nothing is asked of it."""
    before = costs(stack)
    await asyncio.sleep(IDLE_S)
    return {
        name: 100 * (cpu_s(managed.pid) - before[name]) / IDLE_S
        for name, managed in stack.processes.items()
        if managed.pid
    }
