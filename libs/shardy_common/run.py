"""Wiring shared by the folding services: open the log, run the fold loop, answer the control plane, stop on a signal.

The control plane is FastStream over NATS request/reply: `ctl.<service>.status` and `ctl.<service>.rebuild`. The hot
path does not pass through it.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from faststream.nats import NatsBroker
from faststream.security import SASLPlaintext

from shardy_common.config import Settings, configure_logging
from shardy_common.log import JetStreamLog
from shardy_common.service import FoldLoop
from shardy_common.wire.subjects import control

Build = Callable[[Settings, JetStreamLog], Awaitable[FoldLoop]]


def make_broker(settings: Settings, service: str) -> NatsBroker:
    """The control plane's broker; it reconnects for ever."""
    return NatsBroker(
        settings.nats_url,
        name=f"{service}-control",
        security=SASLPlaintext(settings.nats_user, settings.password) if settings.nats_user else None,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.5,
        logger=None,
    )


def add_control(broker: NatsBroker, service: str, loop: FoldLoop) -> None:
    """status and rebuild of one service, the same for all."""

    @broker.subscriber(control(service, "status"), title=f"{service} status")
    async def status(_: dict[str, Any] | None = None) -> dict[str, Any]:
        return await loop.status()

    @broker.subscriber(control(service, "rebuild"), title=f"{service} rebuild")
    async def rebuild(_: dict[str, Any] | None = None) -> dict[str, Any]:
        return await loop.rebuild()


async def open_log(settings: Settings, service: str) -> JetStreamLog:
    return await JetStreamLog.open(
        settings.nats_url,
        name=f"{service}-{settings.instance}",
        user=settings.nats_user,
        password=settings.password,
        replicas=settings.stream_replicas,
    )


async def serve(service: str, settings: Settings, build: Build) -> None:
    """Run until SIGTERM or SIGINT. An unexpected exception ends the process: the supervisor restarts it."""
    event_log = await open_log(settings, service)
    loop = await build(settings, event_log)
    broker = make_broker(settings, service)
    add_control(broker, service, loop)
    await broker.start()
    stopping = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        stopping.add_signal_handler(signum, loop.stop)
    try:
        await loop.run()
    finally:
        await broker.stop()
        await event_log.close()
        loop.projection.close()


def relax_gc() -> None:
    """Events and rows make no reference cycles: scan for them rarely, and never what was imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def main(service: str, settings: Settings, build: Build) -> None:
    """Entry point of a folding service."""
    configure_logging(service, settings.log_level)
    relax_gc()
    try:
        import uvloop  # ty: optional on Windows

        uvloop.run(serve(service, settings, build))
    except ImportError:
        asyncio.run(serve(service, settings, build))
