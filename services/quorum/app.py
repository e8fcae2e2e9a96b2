"""The quorum as a service: fold, judge, propose. Audits run in one thread beside the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

from shardy_common.blobs import DirectoryStore
from shardy_common.config import Settings
from shardy_common.log import Append, JetStreamLog, Projection
from shardy_common.presence import Presence
from shardy_common.service import FoldLoop
from shardy_common.tracing import Tracer
from shardy_quorum.audit import Auditor
from shardy_quorum.core import TABLES, VERSION, QuorumCore
from shardy_quorum.task import Examination

log = logging.getLogger("shardy.quorum")


async def build(settings: Settings, event_log: JetStreamLog) -> FoldLoop:
    projection = Projection(settings.projection_path("quorum"), TABLES, version=VERSION)
    thread = ThreadPoolExecutor(1, "audit")
    auditor = await asyncio.get_running_loop().run_in_executor(
        thread, lambda: Auditor(DirectoryStore(settings.blob_dir))
    )
    tracer = Tracer("quorum")

    def replicas_changed() -> None:
        loop.core.quorum.review()  # type: ignore[attr-defined]
        loop.wake()

    presence = Presence(event_log.client, "quorum", settings.instance, changed=replicas_changed)
    waiting: list[Examination] = []
    running: list[asyncio.Task[None]] = []

    async def examine() -> None:
        """All examinations that wait, in one call; those that come meanwhile go into the next."""
        while waiting:
            batch = list(waiting)
            waiting.clear()
            started = time.time() * 1e3
            findings = await asyncio.get_running_loop().run_in_executor(thread, auditor.examine, batch)
            for found, examination in zip(findings, batch, strict=True):
                if tracer.enabled:
                    job = loop.core.quorum.jobs.get(examination.job)  # type: ignore[attr-defined]
                    attributes = {
                        "shardy.task": found.task,
                        "shardy.wrong": len(found.wrong),
                        "shardy.batch": len(batch),
                    }
                    tracer.record(examination.purpose, job.trace if job else "", started, time.time() * 1e3, attributes)
                loop.propose(loop.core.quorum.judge(found))  # type: ignore[attr-defined]
                for digest, row in found.wrong.items():
                    log.warning("task %s: result %s is wrong in row %d", found.task, digest[:16], row)

    async def react() -> None:
        appends, examinations = loop.core.quorum.decide()  # type: ignore[attr-defined]
        loop.propose(appends)
        waiting.extend(examinations)
        if waiting and (not running or running[-1].done()):
            if running and running[-1].exception() is not None:
                raise running[-1].exception()  # type: ignore[misc]  # a broken auditor must not look like a quiet one
            running[:] = [asyncio.get_running_loop().create_task(examine())]

    def settled(item: Append, accepted: bool) -> None:
        loop.core.quorum.settled(item, accepted)  # type: ignore[attr-defined]

    def make_core() -> QuorumCore:
        return QuorumCore(presence.replicas.owns)

    loop = FoldLoop(
        "quorum",
        event_log,
        projection,
        make_core,
        react=react,
        settled=settled,
        presence=presence,
        tick_s=0.5,
    )
    return loop
