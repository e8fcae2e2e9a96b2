"""What the gateway's endpoints share: the log, the views, the sockets, and waiting for a job to change."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nats.errors import Error as NatsError

from shardy_common import limits
from shardy_common.blobs import DirectoryStore, StoreRoom, Uploads
from shardy_common.errors import Refused, Transient
from shardy_common.log import Append, Appended, Conflict, Full, JetStreamLog, LogRoom
from shardy_common.receipts import Signer
from shardy_common.service import FoldLoop
from shardy_common.wire import subjects
from shardy_gateway import admission
from shardy_gateway.config import GatewaySettings
from shardy_gateway.gates import Gates
from shardy_gateway.hub import Hub
from shardy_gateway.keybook import Keybook, KeyFile
from shardy_gateway.receipts import Receipts
from shardy_gateway.refolding import Refolds
from shardy_gateway.refusals import Refusals
from shardy_gateway.shapes import JobView
from shardy_gateway.views import Views

if TYPE_CHECKING:
    from shardy_gateway.join import Door


MESH = "shardy"
APPEND_TRIES = 3  # 17 s at most (log/appender.py): clients wait 30 s for an answer, and should read why there is none
LOG_ANSWER_S = 5.0
LAG_S = 5.0  # for this gateway to fold what the log held when it was asked
ROOM_S = 2.0  # how often the log is asked how full it is


class GatewayState:
    door: Door

    def __init__(
        self,
        name: str,
        event_log: JetStreamLog,
        blobs: DirectoryStore,
        hub: Hub,
        loop: FoldLoop,
        settings: GatewaySettings,
        signer: Signer | None = None,
    ) -> None:
        self.receipts = Receipts(lambda: self.views, blobs, MESH, signer)
        self.allow_same_address = settings.allow_same_address  # only for what a waiting job is told
        self.name, self.log, self.blobs, self.hub, self.loop = name, event_log, blobs, hub, loop
        self.settings = settings
        self.keys = Keybook(KeyFile(settings.api_keys_file), lambda: self.views.keyring)
        self.gates = Gates(settings)
        self.refusals = Refusals()
        self.uploads = Uploads(blobs)
        self.refolds = Refolds(lambda: self.log.client)
        self.store_room = StoreRoom(blobs.root, settings.blob_bytes_max, settings.blob_free_bytes_min)
        self.room = LogRoom()
        # when looked, operations a second of the devices here, how many they are
        self._able: tuple[float, float, int] = (0.0, 0.0, 0)
        self.bounds = admission.Bounds(
            settings.jobs_per_requester_max,
            settings.jobs_max,
            settings.backlog_s_max,
            settings.lag_events_max,
            settings.appends_max,
        )
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}

    @property
    def views(self) -> Views:
        return self.loop.core  # type: ignore[return-value]

    @property
    def mesh_key(self) -> str:
        """The public key (hex) that receipts are signed with now; empty where there is none."""
        return self.receipts.key

    def mesh_keys(self) -> list[dict[str, Any]]:
        """Every key that receipts were ever signed with, the oldest first."""
        return [{"key": key, "since_ms": since_ms} for key, since_ms in self.views.mesh_keys.known.items()]

    async def append(self, item: Append) -> Appended | Conflict:
        """Append, trying again while the log is away; Transient when it stays away.

        A conflict of a write-once event means that an earlier try, thought lost, is there.
        """
        for attempt in range(APPEND_TRIES):
            outcome = (await self.log.append([item]))[0]
            if isinstance(outcome, (Appended, Conflict)):
                return outcome
            if isinstance(outcome, Full):
                raise Refused(
                    f"the event log is full ({outcome.detail}), and nothing was recorded",
                    status=503,
                    title="Log full",
                    retry_s=admission.LOG_RETRY_S,
                )
            await asyncio.sleep(0.2 * 2**attempt)
        raise Transient("the event log does not answer; it may have taken nothing, so try again", retry_ms=5000)

    def pressure(self, owner: str = "") -> admission.Pressure:
        """How much the mesh has to do, as this gateway sees it."""
        load, now_ms = self.views.load_now, time.time_ns() // 1_000_000
        able, here = self._devices()
        return admission.Pressure(
            jobs_own=load.active[owner],
            jobs=len(self.views.jobs),
            queued_ops=load.queued_ops,
            drained_ops_s=load.drained_ops_s(now_ms),
            able_ops_s=able,
            workers=here,
            lag_events=self.loop.lag,
            appends=self.log.appender.in_flight + self.hub.queued,
            log_filled=self.room.filled,
        )

    def _devices(self) -> tuple[float, int]:
        """What the devices here can do, if each operation is done twice; and their number. Looked at once a second."""
        now = time.monotonic()
        if now - self._able[0] > 1.0:
            here = [w.gops for w in self.views.workers.values() if w.present and w.tier and not w.banned]
            self._able = (now, sum(here) * 1e9 / limits.REDUNDANCY_FACTOR, len(here))
        return self._able[1:]

    def stored(self) -> dict[str, float]:
        """How full the blob store is, for GET /v1/mesh."""
        free, floor = self.store_room.free()
        return {
            "blob_bytes": self.store_room.used,
            "blob_bytes_max": self.store_room.bytes_max,
            "disk_free_bytes": free,
            "disk_free_bytes_min": floor,
        }

    def admit(self, owner: str) -> None:
        """Refused when the mesh takes no further job of this owner now."""
        later = admission.decide(self.pressure(owner), self.bounds)
        if later is not None:
            raise Refused(
                later.detail, status=later.status, title=later.title, limit=later.limit, retry_s=later.retry_s
            )

    async def watch_room(self) -> None:
        """How full the log is, for ever."""
        while True:
            with contextlib.suppress(NatsError, TimeoutError, OSError):
                self.room = await self.log.room()
            await asyncio.sleep(ROOM_S)

    def notify(self, jobs: set[str]) -> None:
        """Wake everybody who waits for one of these jobs."""
        for job in jobs & self._waiters.keys():
            for future in self._waiters.pop(job):
                if not future.done():
                    future.set_result(None)

    async def changed(self, job_id: str, timeout_s: float, ready: Callable[[JobView], bool]) -> bool:
        """Wait until ready(job), at most timeout_s. False when the time ran out."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            job = self.views.job(job_id)
            if job is not None and ready(job):
                return True
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(job_id, []).append(future)
            try:
                await asyncio.wait_for(future, left)
            except TimeoutError:
                continue  # the deadline is looked at above, once more with the job as it is now
            finally:  # also when the client is gone
                waiting = self._waiters.get(job_id, [])
                if future in waiting:
                    waiting.remove(future)
                if not waiting:
                    self._waiters.pop(job_id, None)

    async def up_to_now(self, job_id: str) -> None:
        """Wait until all is folded here that happened to the job itself before now. Called before a request is refused
        for what a job is not: the caller may have heard more from another gateway, or from this one before it started
        again. Transient when that cannot be told."""
        try:
            async with asyncio.timeout(LOG_ANSWER_S):
                last = await self.log.last(subjects.of_entity("job", job_id))
        except (NatsError, TimeoutError, OSError):
            raise Transient("the event log does not answer, and the job may have changed meanwhile") from None
        if last is not None and not await self.changed(job_id, LAG_S, lambda job: job.seq >= last.seq):
            raise Transient(f"this gateway is {self.loop.lag} events behind the log; ask again, or another gateway")

    async def appeared(self, job_id: str) -> JobView:
        """The job, once this gateway has folded its submission."""
        await self.changed(job_id, 10, lambda _job: True)
        job = self.views.job(job_id)
        if job is None:
            raise Transient("the job is recorded but not yet visible here; ask for it again", retry_ms=1000)
        return job
