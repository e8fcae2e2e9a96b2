"""Gateways beside this one: noticing that one is gone, and that somebody took this one for gone.

A gateway that stops in order says of each worker that it left, and one that comes back says so itself
(`gateway.started`). Only of one that died and that nobody replaced would the workers stay present for ever: so
whoever misses a gateway for GONE_S appends `gateway.started` in its name, with no instance. Should the missed one be
there after all, it reads that, and closes its sockets: its workers join again, and all is as the log says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from shardy_common.log import Append, JetStreamLog, Recorded
from shardy_common.presence import Presence
from shardy_common.wire.events import GatewayStarted
from shardy_gateway.hub import Hub
from shardy_gateway.session import CloseSession
from shardy_gateway.views import Views

GONE_S = 20.0  # longer than a restart takes
LOOK_S = 5.0
PREFIX = "gateway-"


class Missing:
    """Pure: whom to declare gone, from who has workers and who was heard. Times are seconds of a steady clock."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def look(self, holders: set[str], alive: set[str], now_s: float) -> list[str]:
        """holders: gateways that the log says hold workers. Those silent for GONE_S."""
        self._since = {name: self._since.get(name, now_s) for name in sorted(holders - alive)}
        return [name for name, since in self._since.items() if now_s - since >= GONE_S]

    def forget(self) -> None:
        """Nobody could be heard for a while, so silence says nothing."""
        self._since.clear()


class Siblings:
    """views: this gateway's present fold, which a rebuild replaces."""

    def __init__(
        self,
        name: str,
        instance: str,
        presence: Presence,
        event_log: JetStreamLog,
        hub: Hub,
        views: Callable[[], Views],
    ) -> None:
        self.name, self.instance = name, instance
        self._presence, self._log, self._hub, self._views = presence, event_log, hub, views
        self._missing = Missing()

    async def watch(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._log.client.is_connected:
                self._missing.forget()
                continue
            instances = {w.gateway: w.instance for w in self._views().workers.values() if w.present}
            alive = {PREFIX + name for name in self._presence.replicas.names} | {self.name}
            for gone in self._missing.look(set(instances), alive, time.monotonic()):
                msg_id = f"gateway/gone/{gone}/{instances[gone]}"  # several may notice; one says so
                await self._log.append([Append(GatewayStarted(gone, ""), msg_id)])

    def heard(self, batch: list[Recorded]) -> None:
        """Somebody else bears this gateway's name, or took it for gone: what the log says of its workers is over."""
        for recorded in batch:
            event = recorded.event
            if isinstance(event, GatewayStarted) and event.gateway == self.name and event.instance != self.instance:
                for session in list(self._hub.sessions.values()):
                    session.close(CloseSession(1012, "this gateway was taken for gone; reconnect", 500))
