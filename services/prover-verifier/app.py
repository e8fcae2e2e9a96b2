"""The prover-verifier as a service: fold, draw, check, propose. Bytes are read in a thread beside the event loop."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from shardy_common.blobs import DirectoryStore
from shardy_common.config import Settings
from shardy_common.log import Append, JetStreamLog, Projection
from shardy_common.presence import Presence
from shardy_common.service import FoldLoop
from shardy_common.tracing import Tracer
from shardy_prover_verifier.core import Proving, Work
from shardy_prover_verifier.fold import TABLES, VERSION, ProverCore
from shardy_prover_verifier.state import Check, Checked, Draw, Drawn

EXAMINED_MAX = 32  # in one call


async def build(settings: Settings, event_log: JetStreamLog) -> FoldLoop:
    projection = Projection(settings.projection_path("prover-verifier"), TABLES, version=VERSION)
    thread = ThreadPoolExecutor(1, "proofs")
    tracer = Tracer("prover-verifier")
    waiting: list[Work] = []
    running: list[asyncio.Task[None]] = []
    examiner = _LateExaminer(settings)

    def proving() -> Proving:
        return loop.core.proving  # type: ignore[attr-defined,no-any-return]

    def replicas_changed() -> None:
        proving().review()
        loop.wake()

    presence = Presence(event_log.client, "prover-verifier", settings.instance, changed=replicas_changed)

    async def examine() -> None:
        while waiting:
            batch = waiting[:EXAMINED_MAX]
            del waiting[:EXAMINED_MAX]
            started = time.time() * 1e3
            found = await asyncio.get_running_loop().run_in_executor(thread, examiner.examine, batch)
            for one in found:
                _trace(tracer, proving(), one, started)
                drawn = isinstance(one, Drawn)
                loop.propose(proving().drawn(one, event_log.now_ms()) if drawn else proving().checked(one))

    async def react() -> None:
        appends, work = proving().decide(event_log.now_ms())
        loop.propose(appends)
        waiting.extend(work)
        if waiting and (not running or running[-1].done()):
            if running and running[-1].exception() is not None:
                raise running[-1].exception()  # type: ignore[misc]  # a broken examiner must not look like a quiet one
            running[:] = [asyncio.get_running_loop().create_task(examine())]

    def settled(item: Append, accepted: bool) -> None:
        proving().settled(item, accepted)

    def make_core() -> ProverCore:
        core = ProverCore(presence.replicas.owns, settings.development)
        core.verifiers.flush = lambda: loop.flush()  # noqa: PLW0108 - the loop is made below
        return core

    loop = FoldLoop(
        "prover-verifier",
        event_log,
        projection,
        make_core,
        react=react,
        settled=settled,
        presence=presence,
        tick_s=0.5,
    )
    return loop


class _LateExaminer:
    """Made with the first proof: compiling the verifier takes longer than the rest of a start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: object = None

    def examine(self, work: list[Work]) -> list[Drawn | Checked]:
        from shardy_prover_verifier.examine import Examiner

        if self._made is None:
            self._made = Examiner(DirectoryStore(self._settings.blob_dir))
        assert isinstance(self._made, Examiner)
        return self._made.examine(work)


def _trace(tracer: Tracer, proving: Proving, found: Drawn | Checked, started: float) -> None:
    if not tracer.enabled:
        return
    of: Draw | Check = found.draw if isinstance(found, Drawn) else found.check
    job = proving.jobs.get(of.job)
    attributes = {"shardy.task": of.task}
    if isinstance(found, Checked):
        attributes["shardy.refused"] = found.cause
    name = "challenge" if isinstance(found, Drawn) else "verify"
    tracer.record(name, job.trace if job else "", started, time.time() * 1e3, attributes)
