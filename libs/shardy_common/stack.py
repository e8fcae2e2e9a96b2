"""The whole stack on one machine: an embedded nats-server and every service as a process, supervised.

A process that ends is started again with a growing delay; all are stopped by their own process id, and die with the
supervisor even if that is killed (on Linux).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import httpx

from shardy_common import nats_nodes as nats
from shardy_common.log import JetStreamLog, StreamLimits
from shardy_common.log.client import LogClient, connect
from shardy_common.log.stream import BYTES_MAX
from shardy_common.make_streams import make
from shardy_common.mesh_key import ensure_mesh_key
from shardy_common.nats_nodes import StackError, free_port
from shardy_common.nkey import NkeyError, ensure_seed
from shardy_common.patience import Patience, written
from shardy_common.permissions import OPERATOR, ROLES
from shardy_common.stack_keys import ensure_keys
from shardy_common.stack_store import keep_streams, keep_writing

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
READY_S = 60.0  # without any sign that something is folded


@dataclass(slots=True)
class Managed:
    """One supervised process. process is None between a death and the restart; held: what a restart waits for."""

    name: str
    argv: list[str]
    env: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    paused: bool = False
    task: asyncio.Task[None] | None = None
    held: asyncio.Event | None = None

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None and self.process.returncode is None else 0


class Stack:
    """`async with Stack(data_dir) as stack:` gives stack.url, stack.page_url, stack.api_key and stack.operator_key.

    port 0 takes a free one. allow_same_address lets devices of one network address check each other: for one-machine
    demonstrations. env: further settings for the services (SHARDY_…). gateways, and replicas of other services by name:
    how many of each; the second process of the matchmaker is `matchmaker-1`, and the second gateway serves urls[1].
    nats_nodes: 3 runs the log on a cluster, whose processes are `nats-server`, `nats-server-1`, `nats-server-2`, with
    three copies of each stream.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_same_address: bool = False,
        env: dict[str, str] | None = None,
        gateways: int = 1,
        replicas: dict[str, int] | None = None,
        nats_nodes: int = 1,
    ) -> None:
        self.data_dir = Path(data_dir).resolve()
        self.host, self.port = host, port or free_port(host)
        self._ports = [self.port, *(free_port(host) for _ in range(gateways - 1))]
        self._replicas = {**(replicas or {}), "gateway": gateways}
        self._nodes = nats.nodes(self.data_dir, nats_nodes)
        self.allow_same_address = allow_same_address
        self.processes: dict[str, Managed] = {}
        self._env = env or {}
        self._stopping = False
        self._watching: list[asyncio.Task[None]] = []
        self.api_key = self.operator_key = self.mesh_key = ""
        self.fresh_keys = False

    @property
    def url(self) -> str:
        return self.urls[0]

    @property
    def urls(self) -> list[str]:
        """One for each gateway."""
        return [f"http://{self.host}:{port}" for port in self._ports]

    @property
    def page_url(self) -> str:
        return self.url + "/"

    @property
    def nats_port(self) -> int:
        """Of the first node."""
        return self._nodes[0].port

    @property
    def nats_url(self) -> str:
        """Of all nodes, with commas: a client goes on with the next when one dies."""
        return ",".join(node.url for node in self._nodes)

    def seed_file(self, role: str = OPERATOR) -> Path:
        """The key with which a role is let in to the log."""
        return self.data_dir / "nkeys" / f"{role}.seed"

    async def connect(self, name: str = "test", role: str = OPERATOR) -> LogClient:
        """A connection to the log's server, which the caller closes. role: a service, whose events it may then append,
        or the operator, who appends none."""
        return await connect(self.nats_url, name=name, role=role, seed_file=self.seed_file(role))

    async def open_log(self, name: str = "test", role: str = OPERATOR) -> JetStreamLog:
        """The log with its archive, which the caller closes; for role see connect()."""
        return await JetStreamLog.open(
            self.nats_url,
            name=name,
            role=role,
            seed_file=self.seed_file(role),
            replicas=self.stream_replicas,
            archive=self.data_dir / "archive",
        )

    @property
    def stream_replicas(self) -> int:
        """Copies of each stream: on three nodes, whatever their number, for more would only cost."""
        return min(len(self._nodes), 3)

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
        self._start_log()
        for name in CORE:
            self._start_service(name)
        await self._made_and_ready()
        for name in SERVICES.keys() - set(CORE):  # nothing waits for these, so they start when the others have
            self._start_service(name)
        self._write_runtime()

    def _start_log(self) -> None:
        """The nodes of the log, each with the keys of all roles in its configuration."""
        commands = self.log_servers()
        for node in self._nodes:
            self._supervise(node.name, commands[node.name], dict(os.environ))
            watching = keep_writing(self.processes[node.name], node.store)
            self._watching.append(asyncio.get_running_loop().create_task(watching))

    async def stop(self) -> None:
        """Stop all processes, services first, each by its own process id."""
        self._stopping = True
        for watching in self._watching:
            watching.cancel()
        servers = {node.name for node in self._nodes}
        await asyncio.gather(*(self._stop_one(m) for n, m in self.processes.items() if n not in servers))
        await asyncio.gather(*(self._stop_one(m) for n, m in self.processes.items() if n in servers))
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

    def add_replica(self, service: str) -> str:
        """Start one more process of a service beside those that run; its name. A gateway's address is the last url."""
        taken = [int(m.env["SHARDY_INSTANCE"]) for name, m in self.processes.items() if name.startswith(service)]
        number = 1 + max(taken, default=-1)
        port = self.port if service != "gateway" else free_port(self.host)
        if service == "gateway":
            self._ports.append(port)
        name = f"{service}-{number}" if number else service
        self._supervise(name, [sys.executable, "-m", SERVICES[service]], self._service_env(service, number, port))
        return name

    async def remove_replica(self, name: str) -> None:
        """Stop one process in order, and let it be."""
        managed = self.processes.pop(name)
        if name.startswith("gateway"):
            self._ports.remove(int(managed.env["SHARDY_PORT"]))
        await self._stop_one(managed)

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

    def log_servers(self) -> dict[str, list[str]]:
        """The command of each node of the log, by the name of its process; its configuration is written."""
        public, found = self._log_keys(), {}
        for node in self._nodes:
            path = self.data_dir / f"{node.name.replace('nats-server', 'nats')}.conf"
            path.write_text(nats.config(node, self._nodes, public))
            found[node.name] = [nats.program(), "-c", str(path)]
        return found

    def _log_keys(self) -> dict[str, str]:
        """A key for each role, of which each process is told its own; their public halves, for the server."""
        (self.data_dir / "nkeys").mkdir(mode=0o700, exist_ok=True)
        try:
            return {role: ensure_seed(self.seed_file(role)) for role in ROLES}
        except NkeyError as error:
            raise StackError(str(error)) from None

    async def _made_and_ready(self) -> None:
        """The streams are made as soon as the server lets us; services wait for them."""
        making = asyncio.create_task(self._make_streams())
        try:
            await self._ready()
            await making
        except RuntimeError as error:
            raise StackError(str(error)) from None
        finally:
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)
        keeping = keep_streams(self.processes[self._nodes[0].name], self._make_streams)
        self._watching.append(asyncio.get_running_loop().create_task(keeping))

    async def _make_streams(self) -> None:
        told = {**os.environ, **self._env}
        limits = StreamLimits(
            int(told.get("SHARDY_LOG_BYTES_MAX", BYTES_MAX)), int(told.get("SHARDY_LOG_EVENTS_MAX", 0))
        )
        await make(self.nats_url, self.stream_replicas, limits, seed_file=self.seed_file())

    def _start_service(self, service: str) -> None:
        for number in range(self._replicas.get(service, 1)):
            name = f"{service}-{number}" if number else service
            env = self._service_env(service, number, self._ports[number] if service == "gateway" else self.port)
            self._supervise(name, [sys.executable, "-m", SERVICES[service]], env)

    def _service_env(self, service: str, number: int, port: int) -> dict[str, str]:
        return {
            **os.environ,
            "SHARDY_DATA_DIR": str(self.data_dir),
            "SHARDY_NATS_URL": self.nats_url,
            "SHARDY_NATS_SEED_FILE": str(self.seed_file(service)),
            "SHARDY_STREAM_REPLICAS": str(self.stream_replicas),
            "SHARDY_HOST": self.host,
            "SHARDY_PORT": str(port),
            "SHARDY_INSTANCE": str(number),
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
            if managed.held is not None:
                await managed.held.wait()
            _rotate(managed.log)
            with open(managed.log, "ab") as out:  # noqa: ASYNC230 - a local file, once a start
                managed.process = await asyncio.create_subprocess_exec(
                    *managed.argv,
                    env=managed.env,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    preexec_fn=_prepare_child(nice=0 if managed.name.startswith(("nats-server", *CORE)) else 10),
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
        projections = self.data_dir / "projections"
        patience = Patience(READY_S, time.monotonic())
        async with httpx.AsyncClient(timeout=2) as client:
            while patience.lasts(time.monotonic(), written(projections)):  # a long log may be folded anew
                with contextlib.suppress(httpx.HTTPError):
                    if all([(await client.get(url + "/healthz")).status_code == 200 for url in self.urls]):
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
                {"url": self.url, "nats_url": self.nats_url, "seed_file": str(self.seed_file()), "pid": os.getpid()}
            )
        )


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
