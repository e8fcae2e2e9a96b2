"""Clients that ask for small jobs, one after another, and write down what they saw."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import numpy as np
from blake3 import blake3

from bench.faults.history import ENDED, Seen
from shardy_client import AsyncMesh
from shardy_client.errors import Refused, ShardyError
from shardy_client.jobs import AsyncJob
from shardy_client.retry import Patience

# So that a client writes an error down and tries anew, in its own loop.
IMPATIENT = Patience(rounds=1, lost_s=2.0, retry_after_s_max=1.0)
POLICIES = ("quorum", "quorum", "audit", "adaptive")
POLL_S = 0.25


class History:
    """What all clients of one process saw, in order."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    def note(self, client: str, what: str, **more: object) -> None:
        self.seen.append(Seen(time.monotonic(), client, what, **more))  # type: ignore[arg-type]

    def jobs(self) -> list[str]:
        """Acknowledged ones."""
        return list(dict.fromkeys(s.job for s in self.seen if s.what == "acknowledged"))


def digest_of(result: np.ndarray) -> str:
    return blake3(np.ascontiguousarray(result).tobytes()).hexdigest()


class Client:
    """One requester. urls: the gateways that it may ask, in its own order; rows: of a job, one task each. Of its jobs,
    one in twelve is cancelled, and one in four is asked for twice with the same key, the second time elsewhere."""

    def __init__(
        self, name: str, history: History, urls: Callable[[], list[str]], key: str, seed: int, rows: int, pause_s: float
    ) -> None:
        self.name, self._history, self._urls, self._key = name, history, urls, key
        self._rng, self._rows, self._pause_s = random.Random(seed), rows, pause_s
        self._meshes: dict[str, AsyncMesh] = {}
        self._numbers = np.random.default_rng(seed)
        self.asked = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Until stopping; a job that runs then is left to the mesh."""
        try:
            while not stopping.is_set():
                await self._one(stopping)
                await asyncio.sleep(self._pause_s)
        finally:
            for mesh in self._meshes.values():
                await mesh.aclose()

    def _mesh(self) -> AsyncMesh:
        url = self._rng.choice(self._urls())
        if url not in self._meshes:
            self._meshes[url] = AsyncMesh(url, self._key, patience=IMPATIENT)
        return self._meshes[url]

    async def _one(self, stopping: asyncio.Event) -> None:
        a = self._numbers.integers(-128, 128, (self._rng.randint(2, 2 * self._rows), 32), np.int8)
        b = self._numbers.integers(-128, 128, (32, 12), np.int8)
        wanted = digest_of(a.astype(np.int32) @ b.astype(np.int32))
        self.asked += 1
        key = f"{self.name}-{self.asked}"
        policy, cancels, twice = self._rng.choice(POLICIES), self._rng.random() < 1 / 12, self._rng.random() < 1 / 4
        self._history.note(self.name, "submitting", key=key, digest=wanted)
        job = None
        for _ in range(1 + twice):
            while (job := await self._submit(a, b, policy, key)) is None:
                if stopping.is_set():
                    return
                await asyncio.sleep(POLL_S)
        assert job is not None
        while not stopping.is_set() and not await self._looked(job):
            if cancels and job.last["progress"]["tasks_verified"]:
                cancels = False
                await self._cancel(job)
            await asyncio.sleep(POLL_S)

    async def _submit(self, a: np.ndarray, b: np.ndarray, policy: str, key: str) -> AsyncJob | None:
        mesh = self._mesh()
        try:
            job = await mesh.submit_matmul(a, b, policy=policy, task_rows=1, idempotency_key=key)
        except ShardyError as error:
            self._history.note(self.name, "error", key=key, gateway=mesh.url, detail=str(error))
            return None
        self._history.note(self.name, "acknowledged", job=job.id, key=key, gateway=mesh.url)
        return job

    async def _cancel(self, job: AsyncJob) -> None:
        try:
            await job.cancel()
        except ShardyError as error:
            self._history.note(self.name, "error", job=job.id, detail=str(error))
        else:
            self._history.note(self.name, "cancelled", job=job.id)

    async def _looked(self, job: AsyncJob) -> bool:
        """Whether it is over, and its result, if it has one, was read."""
        return await look(self._history, self.name, self._mesh(), job.id, job)


async def look(
    history: History,
    client: str,
    mesh: AsyncMesh,
    job_id: str,
    told: AsyncJob | None = None,
    *,
    peace: bool = False,
    last: bool = False,
) -> bool:
    """Ask one gateway for a job's status, and for its result once there is one. Whether all there is was read. peace:
    the mesh is left alone, so an end that it tells is the end; last: and so is everything else that it tells now."""
    try:
        job = await mesh.job(job_id)
        state, verified = job.last["state"], job.last["progress"]["tasks_verified"]
        final = last or (peace and state in ENDED)
        history.note(client, "status", job=job_id, gateway=mesh.url, state=state, verified=verified, final=final)
        if told is not None:
            told.last = job.last
        if state == "completed":
            result = digest_of(await job.result())
            history.note(client, "answered", job=job_id, gateway=mesh.url, digest=result)
        return state in ENDED
    except Refused as error:  # another gateway may know of it a moment later
        history.note(client, "error", job=job_id, gateway=mesh.url, detail=str(error))
        if error.status == 404 and last:
            history.note(client, "status", job=job_id, gateway=mesh.url, state="unknown", final=True)
    except ShardyError as error:
        history.note(client, "error", job=job_id, gateway=mesh.url, detail=str(error))
    return False
