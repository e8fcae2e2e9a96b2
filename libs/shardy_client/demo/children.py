"""Processes that the demonstration starts: each is stopped by its own id, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, urlencode

import httpx

from shardy_client.errors import ShardyError

STOP_S = 5.0
BROWSER_S = 30.0
CHROMIUM_FLAGS = (
    "--headless=new",
    "--enable-unsafe-webgpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)


class Children:
    """`async with Children(folder) as children:`; logs go to `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Children:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        # Shielded: a second Ctrl-C must not leave half of them running.
        await asyncio.shield(asyncio.gather(*(_stop(process) for process in self._running)))

    async def start(self, name: str, *argv: str) -> asyncio.subprocess.Process:
        """Start a program in a session of its own, so that Ctrl-C reaches it through us alone."""
        log = os.open(self._folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_us(),
            )
        finally:
            os.close(log)
        self._running.append(process)
        return process

    async def native(self, url: str, name: str, backend: str) -> None:
        """A native worker with an identity of its own."""
        options = ["--ephemeral", "--memory-mib", "512", "--backend", backend, "--url", url, "--name", name]
        await self.start(name, sys.executable, "-m", "shardy_client.cli", "worker", *options)

    async def liar(self, url: str, name: str) -> None:
        """A worker that cheats."""
        await self.start(name, sys.executable, "-m", "shardy_client.demo.liar", "--url", url, "--name", name)

    async def tabs(self, chromium: str, page_url: str, names: list[str], backend: str) -> None:
        """One headless browser with a tab for each name, each joining by itself; ShardyError when it does not start."""
        profile = self._folder / "profile"
        profile.mkdir()
        # A browser run by root has no sandbox to offer.
        sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        control = ["--remote-debugging-port=0", f"--user-data-dir={profile}"]
        browser = await self.start("chromium", chromium, *CHROMIUM_FLAGS, *sandbox, *control)
        port = await _control_port(browser, profile / "DevToolsActivePort")
        # A headless browser takes one address at its start; further tabs are opened through its control port.
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            for name in names:
                query = {"autostart": 1, "name": name, "memory": 512, "backend": backend}
                page = f"{page_url}?{urlencode(query)}"
                answer = await client.put(f"/json/new?{quote(page, safe='')}")
                if answer.is_error:
                    raise ShardyError(f"the browser opened no tab: it answered {answer.status_code}")


async def _control_port(browser: asyncio.subprocess.Process, file: Path) -> int:
    deadline = time.monotonic() + BROWSER_S
    while time.monotonic() < deadline and browser.returncode is None:
        try:
            return int(file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            await asyncio.sleep(0.05)
    raise ShardyError("the browser did not start; run without it: --no-browser")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _die_with_us() -> Callable[[], None] | None:
    """On Linux the kernel ends the child when this process ends, even by kill -9."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(1, signal.SIGKILL)
