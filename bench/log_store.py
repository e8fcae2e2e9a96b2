"""What the parts of the suite `log` share: stores with a story in them, and what processes cost."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.log_story import VERSION, Story
from shardy_common.log import Append, Appended, JetStreamLog
from shardy_common.stack import Stack

OUT = Path(__file__).parent / "out"
CHUNK = 8_000
TICKS = os.sysconf("SC_CLK_TCK")
SAMPLER = Path(__file__).parent / "sampler"


class LogOnly(Stack):
    """The nats-server of a one-machine stack, which lets everybody in, and no service."""

    async def start(self) -> None:
        (self.data_dir / "logs").mkdir(parents=True, exist_ok=True)
        self._lock()
        self._start_log()

    def _log_keys(self) -> dict[str, str]:
        return {}

    async def log(self, name: str = "bench") -> JetStreamLog:
        return await JetStreamLog.open(self.nats_url, name=name)


def profiled() -> dict[str, str]:
    """Settings for a stack whose services write profiles (bench/sampler)."""
    OUT.mkdir(exist_ok=True)
    path = os.pathsep.join(filter(None, (str(SAMPLER), os.environ.get("PYTHONPATH", ""))))
    return {"PYTHONPATH": path, "SHARDY_BENCH_PROFILE": str(OUT)}


async def write_profiles(stack: Stack) -> None:
    """Let the services of a profiled stack write what was sampled, and begin anew."""
    for name, managed in stack.processes.items():
        if managed.process is not None and name != "nats-server":
            managed.process.send_signal(signal.SIGUSR2)
    await asyncio.sleep(0.5)


async def story_store(events: int) -> tuple[Path, dict[str, Any]]:
    """A folder with a nats-server's store that holds a story, kept between runs; and what is known of it."""
    folder = OUT / "stores" / f"{VERSION}-{events}"
    known = folder / "story.json"
    if not known.exists():
        shutil.rmtree(folder, ignore_errors=True)
        async with LogOnly(folder) as stack:
            log = await stack.log()
            facts = await _tell(log, events)
            await log.close()
        known.write_text(json.dumps(facts))
    return folder, json.loads(known.read_text())


async def _tell(log: JetStreamLog, events: int) -> dict[str, Any]:
    story = Story(events)
    started, busy = time.perf_counter(), 0.0
    chunk: list[Append] = []
    count = 0

    async def write() -> None:
        nonlocal busy, count
        began = time.perf_counter()
        outcomes = await log.appender.append(chunk)  # each a message, as logs were, so that its sequence is known
        busy += time.perf_counter() - began
        for item, outcome in zip(chunk, outcomes, strict=True):
            count += 1
            if not isinstance(outcome, Appended) or outcome.seq != count:
                raise RuntimeError(f"the log did not take {item} as event {count}: {outcome}")
        chunk.clear()

    for item in story:
        chunk.append(item)
        if len(chunk) == CHUNK:
            await write()
    await write()
    return {
        "events": count,
        "tasks": story.tasks,
        "jobs": story.jobs,
        "append_s": busy,
        "told_s": time.perf_counter() - started,
    }


@contextmanager
def copied(folder: Path, to: Path) -> Iterator[Path]:
    """A data folder of its own with the same log, and nothing else."""
    shutil.copytree(folder / "nats", to / "nats")
    yield to
    shutil.rmtree(to, ignore_errors=True)


# -- what processes cost ----------------------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def pss_kib(pid: int) -> int:
    """Memory of a process, with its share of what it shares with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} says nothing of its memory")


def costs(stack: Stack) -> dict[str, float]:
    return {name: cpu_s(managed.pid) for name, managed in stack.processes.items() if managed.pid}


def memory(stack: Stack) -> dict[str, int]:
    return {name: pss_kib(managed.pid) for name, managed in stack.processes.items() if managed.pid}


def figure(
    name: str, value: float, unit: str, compared_with: str = "", other: float | None = None, aim: str = ""
) -> dict[str, Any]:
    """A figure of the suite. other: the figure that it is compared with."""
    ratio = None if other is None else value / other if other else None
    return {"name": name, "value": value, "unit": unit, "compared_with": compared_with, "ratio": ratio, "aim": aim}


async def measured(argv: list[str]) -> dict[str, Any]:
    """A part of the suite in a process of its own; the JSON that it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *argv, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(argv)} ended with {process.returncode}")
    return json.loads(out)
