"""The quorum as a service: fold, judge, propose. Audits and canaries are made in one thread beside the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shardy_common.blobs import DirectoryStore
from shardy_common.engine import Engine
from shardy_common.log import Append, JetStreamLog, Projection
from shardy_common.presence import Presence
from shardy_common.service import FoldLoop
from shardy_common.tracing import Tracer
from shardy_common.wire.job import JobSpec
from shardy_quorum.audit import Auditor
from shardy_quorum.config import QuorumSettings
from shardy_quorum.core import TABLES, VERSION, QuorumCore
from shardy_quorum.prepare import Preparer
from shardy_quorum.state import Examination

EXAMINED_MAX = 1_024  # in one call: what it stacks is in memory at once
log = logging.getLogger("shardy.quorum")


async def build(settings: QuorumSettings, event_log: JetStreamLog) -> FoldLoop:
    projection = Projection(settings.projection_path("quorum"), TABLES, version=VERSION)
    thread = ThreadPoolExecutor(1, "audit")
    auditor, preparer = await asyncio.get_running_loop().run_in_executor(thread, _examiners, settings.blob_dir)
    tracer = Tracer("quorum")

    def replicas_changed() -> None:
        loop.core.quorum.review()  # type: ignore[attr-defined]
        loop.wake()

    presence = Presence(event_log.client, "quorum", settings.instance, changed=replicas_changed)
    waiting: list[Examination] = []
    running: list[asyncio.Task[None]] = []
    preparing: list[asyncio.Task[None]] = []  # held, so that it is not collected while it runs

    async def examine() -> None:
        """The examinations that wait, many in one call; those that come meanwhile go into the next."""
        while waiting:
            batch = waiting[:EXAMINED_MAX]
            del waiting[:EXAMINED_MAX]
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

    async def prepare(source: JobSpec) -> None:
        """A canary that cannot be made is asked for again later: nothing hangs on one."""
        try:
            draft = await asyncio.get_running_loop().run_in_executor(thread, preparer.prepare, source)
        except Exception:
            log.exception("a canary could not be made")
            return
        if draft is not None:
            loop.propose(loop.core.quorum.canaries.drafted(draft))  # type: ignore[attr-defined]

    async def react() -> None:
        now_ms = event_log.now_ms()
        appends, examinations = loop.core.quorum.decide(now_ms)  # type: ignore[attr-defined]
        loop.propose(appends)
        waiting.extend(examinations)
        if waiting and (not running or running[-1].done()):
            if running and running[-1].exception() is not None:
                raise running[-1].exception()  # type: ignore[misc]  # a broken auditor must not look like a quiet one
            running[:] = [asyncio.get_running_loop().create_task(examine())]
        source = loop.core.quorum.canaries.wanted(now_ms)  # type: ignore[attr-defined]
        if source is not None:
            preparing[:] = [asyncio.get_running_loop().create_task(prepare(source))]

    def settled(item: Append, accepted: bool) -> None:
        loop.core.quorum.settled(item, accepted)  # type: ignore[attr-defined]

    def make_core() -> QuorumCore:
        return QuorumCore(presence.replicas.owns, settings.pacing, settings.instance)

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


def _examiners(blob_dir: Path) -> tuple[Auditor, Preparer]:
    """Both in the thread that works with them: one engine, one store."""
    blobs, engine = DirectoryStore(blob_dir), Engine()
    return Auditor(blobs, engine=engine), Preparer(blobs, engine)
