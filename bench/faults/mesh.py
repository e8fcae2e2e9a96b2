"""A mesh to be hurt: stack, workers and clients of one process, and the check of what they saw.

Faults are the caller's; `in_peace` waits until everything acknowledged has ended, asks every gateway for all of it once
more, and holds the whole history against the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import httpx

from bench.faults.crew import Crew
from bench.faults.history import Story, Violation, violations
from bench.faults.load import IMPATIENT, Client, History, look
from bench.faults.logs import Follower, opened_log, read_log
from shardy_client import AsyncMesh
from shardy_common.log import Recorded
from shardy_common.replies import rebuild, statuses
from shardy_common.stack import SERVICES, Stack

DIFFERENT_MAX = 3  # rows that are shown of a replay that gave others
READERS = 12  # questions at a time when everything is read again
PATIENCE_S = 120.0  # nothing here measures speed: the machine may be busy with other work
ENV = {"SHARDY_CANARY_EVERY": "0", "SHARDY_FAILED_AUTH_BURST": "100000"}
Found = TypeVar("Found")


async def until(look_: Callable[[], Awaitable[Found]], what: str, seconds: float = PATIENCE_S) -> Found:
    """The first truthy answer; what breaks meanwhile is what a mesh under faults does."""
    deadline = time.monotonic() + seconds
    error: Exception | None = None
    while True:
        try:
            if found := await look_():
                return found
        except (httpx.HTTPError, OSError, TimeoutError) as broken:
            error = broken
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened: {what} ({error!r})")
        await asyncio.sleep(0.1)


class Mesh:
    """`async with Mesh(folder, stack) as mesh:` has a started stack, workers, and clients once `load` is called."""

    def __init__(self, folder: Path, stack: Stack, *, seed: int = 1) -> None:
        self.stack, self.crew, self.history = stack, Crew(folder), History()
        self.liars: set[str] = set()
        self.seed = seed
        self.follower = Follower(stack)
        self._stopping = asyncio.Event()
        self._clients: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Mesh:
        await self.stack.start()
        self.follower.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.rest()
        await self.follower.stop()
        await self.crew.stop()
        await self.stack.stop()

    # -- work ---------------------------------------------------------------------------------------------------------

    async def join(self, *names: str, gateway: int = 0, delay_ms: float = 5.0) -> None:
        """Workers that join and get a tier."""
        await asyncio.gather(*(self.crew.start(name, self.stack.urls[gateway], delay_ms) for name in names))
        await until(lambda: self.tiered(*names), f"{', '.join(names)} joined")

    async def tiered(self, *names: str) -> bool:
        async with self.api() as http:
            listed = (await http.get("/v1/workers?limit=500")).json()["workers"]
        there = {w["id"] for w in listed if w["present"] and w["tier"]}
        return {self.crew.ids[name] for name in names} <= there

    def load(self, clients: int = 3, *, rows: int = 8, pause_s: float = 0.1) -> None:
        """Clients that ask for jobs until `rest`."""
        self._stopping.clear()
        for number in range(clients):
            seed = self.seed * 1_000 + len(self._clients)
            name = f"client-{len(self._clients)}"
            client = Client(name, self.history, lambda: self.stack.urls, self.stack.api_key, seed, rows, pause_s)
            self._clients.append(asyncio.create_task(client.run(self._stopping), name=f"{name}-{number}"))

    async def rest(self) -> None:
        """No new jobs."""
        self._stopping.set()
        await asyncio.gather(*self._clients)

    def api(self, *, operator: bool = False, url: str = "") -> httpx.AsyncClient:
        key = self.stack.operator_key if operator else self.stack.api_key
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.AsyncClient(base_url=url or self.stack.url, headers=headers, timeout=30, trust_env=False)

    # -- what goes on -------------------------------------------------------------------------------------------------

    async def goes_on(self, more: int = 10) -> None:
        """Wait until so many further tasks are verified."""
        since_s = time.monotonic()

        async def grown() -> bool:
            return len(self.follower.verdicts(since_s)) >= more

        await until(grown, f"{more} further tasks are verified")

    async def live(self) -> bool:
        """Every replica of every service answers, follows the log to its end, and sees the others."""
        wanted: dict[str, set[str]] = {}
        for name in (name for name in self.stack.processes if not name.startswith("nats-server")):
            service = next(s for s in sorted(SERVICES, key=len, reverse=True) if name.startswith(s))
            wanted.setdefault(service, set()).add(name.removeprefix(service).removeprefix("-") or "0")
        async with opened_log(self.stack) as log:
            for service, instances in wanted.items():
                found = await statuses(log.client, service)
                if {s["instance"] for s in found} != instances:
                    return False
                if not all(s["live"] and set(s["replicas"]) == instances for s in found):
                    return False
        return True

    async def idle(self) -> bool:
        """No job goes on: nothing will be recorded between the looks at the log, at credit and at what workers keep."""
        story = Story((), await read_log(self.stack))
        return all(story.state_of(job) != "running" for job in story.of_job)

    # -- another log --------------------------------------------------------------------------------------------------

    async def follow_anew(self) -> None:
        """Forget the log that was read so far: another one, or one with another end, has taken its place."""
        await self.follower.stop()
        self.follower = Follower(self.stack)
        self.follower.start()

    def forget_lost(self, log: list[Recorded]) -> list[str]:
        """Where the end of the log was lost, hold the mesh to what is left: jobs of which the log knows, and their
        answers, which must come out the same. The jobs that are not expected to be known any more."""
        known = Story((), log)
        lost = {job for job in self.history.jobs() if not known.state_of(job)}
        gone = {s.key for s in self.history.seen if s.job in lost}
        cancelled = {job for job in self.history.jobs() if known.state_of(job) == "cancelled"}
        self.history.seen = [
            s
            for s in self.history.seen
            if s.job not in lost
            and s.what not in ("status", "error")
            and (s.what != "cancelled" or s.job in cancelled)
            and not (s.what == "submitting" and s.key in gone)
        ]
        self.crew.forget()
        return sorted(lost)

    # -- the check ----------------------------------------------------------------------------------------------------

    async def in_peace(self, *, rebuilt: tuple[str, ...] = ()) -> list[Recorded]:
        """Stop the clients, wait for the end of everything acknowledged, read it again everywhere, and check. rebuilt:
        services whose projection is compared with a replay. The log; AssertionError names every violation."""
        log, found = await self.judged(rebuilt=rebuilt)
        assert not found, words(found)
        assert self.history.jobs(), "nothing was asked of this mesh: the check says nothing"
        return log

    async def judged(self, *, rebuilt: tuple[str, ...] = ()) -> tuple[list[Recorded], list[Violation]]:
        """As in_peace, with the violations."""
        await self.rest()
        await until(self.live, "every service is live")
        await self._read_again()
        await until(self.idle, "every job has ended, those too of which nobody was told")
        replays = await self._replays(rebuilt)
        log = await read_log(self.stack)
        credit = await self._credit()
        liars = frozenset(self.crew.ids[name] for name in self.liars)
        seen = [*self.history.seen, *self.crew.kept()]
        return log, violations(Story(seen, log, liars=liars, credit=credit, replays=replays))

    async def _read_again(self) -> None:
        """Every gateway's last word on every job."""
        slots = asyncio.Semaphore(READERS)
        async with contextlib.AsyncExitStack() as opened:
            reading = []
            for url in self.stack.urls:
                mesh = AsyncMesh(url, self.stack.api_key, patience=IMPATIENT)
                await opened.enter_async_context(mesh)
                reading += [self._read_one(slots, mesh, job) for job in self.history.jobs()]
            await asyncio.gather(*reading)

    async def _read_one(self, slots: asyncio.Semaphore, mesh: AsyncMesh, job: str) -> None:
        reader, deadline = f"reader-{mesh.url}", time.monotonic() + PATIENCE_S
        async with slots:
            while not await look(self.history, reader, mesh, job, peace=True):
                if time.monotonic() > deadline:
                    await look(self.history, reader, mesh, job, last=True)
                    break
                await asyncio.sleep(0.2)

    async def _credit(self) -> dict[str, int]:
        async with self.api(operator=True) as http:
            answer = (await http.get("/v1/credit?limit=1000")).json()
        return {worker["worker"]: worker["ops"] for worker in answer["workers"]}

    async def _replays(self, services: tuple[str, ...]) -> dict[str, tuple[object, object]]:
        """Rows of each replica that a replay gives otherwise: none, for folds that are folds. Asked again while the log
        grows between the two."""
        found: dict[str, tuple[object, object]] = {}
        async with opened_log(self.stack) as log:
            for service in services:
                for _ in range(5):
                    await asyncio.sleep(0.2)  # rows are written within COMMIT_S
                    live = rows_of(self.stack.data_dir, service)
                    instances = {answer["instance"] for answer in await rebuild(log.client, service)}
                    replayed = rows_of(self.stack.data_dir, service)
                    if all(live[i]["checkpoint"] == replayed[i]["checkpoint"] for i in instances):
                        break
                for instance in instances:  # projections of others, who have left, lie there still
                    found[f"{service}-{instance}"] = differences(live[instance], replayed[instance])
        return found


def words(found: list[Violation]) -> str:
    by_kind: dict[str, list[str]] = {}
    for violation in found:
        by_kind.setdefault(violation.kind, []).append(violation.text)
    return "\n".join(f"{kind} ({len(texts)}): " + "; ".join(texts[:5]) for kind, texts in by_kind.items())


def rows_of(data_dir: Path, service: str) -> dict[str, dict[str, object]]:
    """By instance: every row of the files that running services keep, by table and key, read beside them."""
    found = {}
    for path in sorted((data_dir / "projections").glob(f"{service}-*.db")):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            connection.execute("BEGIN")  # one moment for all tables
            rows: dict[str, object] = {"checkpoint": connection.execute("SELECT checkpoint FROM _meta").fetchone()}
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB '_*'")
            for (name,) in names.fetchall():
                rows |= {f"{name} {row[0]}": row for row in connection.execute(f"SELECT * FROM {name}")}
            found[path.stem.removeprefix(f"{service}-")] = rows
    return found


def differences(live: dict[str, object], replayed: dict[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """The first rows of each that the other has not, or has otherwise."""
    other = sorted(key for key in live.keys() | replayed.keys() if live.get(key) != replayed.get(key))[:DIFFERENT_MAX]
    return {key: live.get(key) for key in other}, {key: replayed.get(key) for key in other}


async def log_killed(mesh: Mesh) -> None:
    """nats-server is dead, and stays so until `log_started`."""
    server = mesh.stack.processes["nats-server"]
    server.held = asyncio.Event()
    mesh.stack.kill("nats-server")
    while server.pid:
        await asyncio.sleep(0.02)


def log_started(mesh: Mesh) -> None:
    """Let it be started again."""
    held = mesh.stack.processes["nats-server"].held
    assert held is not None
    held.set()
