"""Worker processes, and what is done to processes."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from bench.faults.history import Seen

ROOT = Path(__file__).resolve().parent.parent.parent


class Crew:
    """Worker processes. Names, keys and what was acknowledged survive their deaths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.ids: dict[str, str] = {}
        self._argv: dict[str, list[str]] = {}
        self._env: dict[str, dict[str, str]] = {}

    async def start(
        self, name: str, url: str, delay_ms: float = 5.0, *, lies: bool = False, env: dict[str, str] | None = None
    ) -> None:
        """env: what its environment has besides this one's."""
        self._env[name] = {**os.environ, **(env or {})}
        module = [sys.executable, "-m", "bench.faults.worker", url, name]
        files = [str(self.folder / f"{name}.{suffix}") for suffix in ("key", "kept")]
        self._argv[name] = [*module, *files, str(delay_ms), *(["lies"] if lies else [])]
        await self.again(name)

    async def again(self, name: str) -> None:
        """Start it as it was started before."""
        with open(self.folder / f"{name}.log", "ab") as log:  # noqa: ASYNC230 - a moment
            process = await asyncio.create_subprocess_exec(
                *self._argv[name],
                cwd=ROOT,
                env=self._env[name],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                preexec_fn=_die_with_us(),
            )
        self.processes[name] = process
        assert process.stdout is not None
        self.ids[name] = (await process.stdout.readline()).decode().strip()
        assert self.ids[name], f"worker {name} did not start: see {self.folder / (name + '.log')}"

    def kill(self, name: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.processes[name].kill()

    async def stop(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()

    def kept(self) -> list[Seen]:
        """What was acknowledged to all of them. The last line of a killed one may be half."""
        found = []
        for name, worker in self.ids.items():
            path = self.folder / f"{name}.kept"
            for line in path.read_text().splitlines() if path.exists() else ():
                lease, _, digest = line.partition(" ")
                if len(digest) == 64:
                    found.append(Seen(0.0, worker, "kept", lease=lease, digest=digest))
        return found

    def forget(self) -> None:
        """Hold nobody to what was acknowledged so far."""
        for name in self.ids:
            (self.folder / f"{name}.kept").write_text("")


def _die_with_us() -> Callable[[], None] | None:
    """On Linux the kernel ends the worker with this process, however that ends."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(1, signal.SIGKILL)


def rss_mib(pid: int) -> float:
    """Resident memory of a process; 0 where it has ended."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        status = Path(f"/proc/{pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024
    return 0.0


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def resume(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
