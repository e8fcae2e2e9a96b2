"""Wiring shared by the folding services: open the log, run the fold loop, answer the control plane, stop on a signal.

The control plane is FastStream over NATS request/reply: `ctl.<service>.status` and `ctl.<service>.rebuild`, which every
replica of the service answers, `ctl.<service>.rebuild.<instance>`, which one does, and `ctl.<service>.again`
(again.py). The hot path does not pass through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from nats.aio.client import Client

from shardy_common.again import append_again
from shardy_common.config import Settings, configure_logging
from shardy_common.log import ArchiveError, JetStreamLog, StreamLimits
from shardy_common.log.client import connect
from shardy_common.permissions import again
from shardy_common.presence import Presence
from shardy_common.service import FoldLoop
from shardy_common.slots import SlotError, SomeSettings, settle
from shardy_common.wire.subjects import control

log = logging.getLogger("shardy.control")
BUILDING_S = 3.0  # a service that is not live by then can be asked how far it is
Build = Callable[[Settings, JetStreamLog], Awaitable[FoldLoop]]


async def control_plane(settings: Settings, service: str, loop: FoldLoop) -> None:
    """Answer status and rebuild requests, for ever. Comes up once the service is live, or takes long to become so:
    importing the framework takes longer than everything else at start, so it must not stand before the first event."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(loop.live.wait(), BUILDING_S)
    await asyncio.to_thread(importlib.import_module, "faststream.nats")
    from faststream.nats import NatsBroker

    class OurBroker(NatsBroker):
        """Connects as everything else does: with the service's key, its inbox, and the server's certificate checked."""

        async def _connect(self) -> Client:
            connection = await connect(settings.nats_url, name=f"{service}-control", role=service, **settings.access)
            self.config.connect(connection)
            return connection

    broker = OurBroker(logger=None)

    @broker.subscriber(control(service, "status"), title=f"{service} status")
    async def status(_: dict[str, Any] | None = None) -> dict[str, Any]:
        return await loop.status()

    @broker.subscriber(control(service, f"rebuild.{settings.instance}"), title=f"{service} rebuild of one replica")
    @broker.subscriber(control(service, "rebuild"), title=f"{service} rebuild")
    async def rebuild(_: dict[str, Any] | None = None) -> dict[str, Any]:
        return await loop.rebuild()

    @broker.subscriber(again(service), title=f"{service}: one of its events out of a dead letter")
    async def once_more(question: dict[str, Any]) -> None:
        refused = await append_again(loop.log, service, question)  # type: ignore[arg-type]
        if refused:
            log.warning("%s was asked to append an event again, and does not: %s", service, refused)

    try:
        await broker.start()
        await asyncio.Event().wait()
    except Exception:
        log.exception("%s: the control plane failed; the service goes on without it", service)
    finally:
        await broker.stop()


async def open_log(settings: Settings, service: str) -> JetStreamLog:
    """A connection that the server ends for good (its key is not known any more, say) ends the process: whoever
    restarts it shows that something is wrong, and a key that is back is used."""
    event_log = await JetStreamLog.open(
        settings.nats_url,
        name=f"{service}-{settings.instance}",
        role=service,
        replicas=settings.stream_replicas,
        archive=settings.archive_path,
        limits=StreamLimits(settings.log_bytes_max, settings.log_events_max),
        **settings.access,
    )

    def ended() -> None:
        log.error("the log's server ended the connection of %s for good: %s", service, event_log.client.last_error)
        os.kill(os.getpid(), signal.SIGTERM)

    event_log.client.on_end.append(ended)
    return event_log


async def serve(service: str, settings: Settings, build: Build) -> None:
    """Run until SIGTERM or SIGINT. An unexpected exception ends the process: the supervisor restarts it."""
    event_log = await open_log(settings, service)
    loop = await build(settings, event_log)
    loop.presence = loop.presence or Presence(event_log.client, service, settings.instance)
    beside = [
        asyncio.create_task(control_plane(settings, service, loop)),
        asyncio.create_task(loop.presence.run(loop.live.is_set)),
    ]
    for task in beside:
        task.add_done_callback(lambda done: _ended(done, loop))
    stopping = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        stopping.add_signal_handler(signum, loop.stop)
    try:
        await loop.run()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        event_log.client.on_end.clear()
        await event_log.close()
        loop.projection.close()


def _ended(task: asyncio.Task[None], loop: FoldLoop) -> None:
    """What runs beside the loop runs for ever: should it fail, the process ends, to be started again."""
    if not task.cancelled() and task.exception() is not None:
        log.error("%s stops to be restarted: %r", loop.name, task.exception())
        loop.stop()


def relax_gc() -> None:
    """Events and rows make no reference cycles: scan for them rarely, and never what was imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def main(service: str, settings: Settings, build: Build) -> None:
    """Entry point of a folding service."""
    configure_logging(service, settings.log_level)
    settings = slot(service, settings)
    relax_gc()
    try:
        runner(serve(service, settings, build))
    except ArchiveError as error:  # no restart mends it: somebody must put the files back
        sys.exit(f"{service}: {error}")


def slot(service: str, settings: SomeSettings) -> SomeSettings:
    """The settings with the name that this process holds until it ends; without one the process says why and ends."""
    try:
        return settle(service, settings)
    except SlotError as error:
        sys.exit(f"{service}: {error}")


def runner(work: Coroutine[Any, Any, None]) -> None:
    """asyncio.run on uvloop, where there is one."""
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(work)
    else:
        uvloop.run(work)
