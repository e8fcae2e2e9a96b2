"""Replicas of a service tell each other that they are there: `ctl.<service>.alive`, plain NATS, no events.

Each says so every second while it is live (caught up with the log, not rebuilding), at once when it hears somebody new,
and says goodbye when it stops. A replica that starts asks first, so it knows the others before it decides anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import Callable

from shardy_common.log.client import LogClient
from shardy_common.replicas import Replicas
from shardy_common.wire.subjects import control

ALIVE_S = 1.0
STARTING_S = 0.1  # how soon a replica that has caught up says so
log = logging.getLogger("shardy.presence")


class Presence:
    """One for each process. changed: called when somebody came or went. Names survive restarts, lives do not."""

    def __init__(
        self, client: LogClient, service: str, name: str, *, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.replicas = Replicas(name)
        self._client, self._subject, self._life = client, control(service, "alive"), secrets.token_hex(6)
        self._changed = changed
        self._live: Callable[[], bool] = lambda: False
        self._spoke = False
        self._wake = asyncio.Event()
        self._warned_s = 0.0

    async def run(self, live: Callable[[], bool]) -> None:
        """Speak and listen, for ever. live: whether this replica takes its share now."""
        self._live = live
        subscription = await self._client.subscribe_raw(self._subject, self._hear)
        await self._say("asks")
        try:
            while True:
                if self._live():
                    await self._say("alive")
                elif self._spoke:
                    await self._say("bye")
                if self.replicas.sweep(time.monotonic()):
                    self._tell("went silent")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ALIVE_S if self._spoke else STARTING_S):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            if self._spoke:
                await self._say("bye")
            with contextlib.suppress(Exception):  # the connection may be gone before us
                await self._client.unsubscribe_raw(subscription)

    async def _say(self, state: str) -> None:
        """Nothing is kept for later: what was true while the connection was away is not news when it is back."""
        self._spoke = state == "alive"
        if self._client.is_connected:
            body = json.dumps({"name": self.replicas.me, "life": self._life, "state": state}).encode()
            with contextlib.suppress(Exception):  # the next second brings the next try
                await self._client.publish(self._subject, body)

    def _hear(self, _subject: bytes, _reply: bytes, data: bytes, _headers: bytes | None) -> None:
        try:
            said = json.loads(data)
            name, life, state = str(said["name"]), str(said["life"]), str(said["state"])
        except (ValueError, KeyError, TypeError):
            return
        if life == self._life:
            return
        if name == self.replicas.me:
            self._namesake(state)
        elif state == "alive":
            if self.replicas.heard(name, time.monotonic()):
                self._tell(f"{name} came")
        elif state == "bye":
            if self.replicas.left(name):
                self._tell(f"{name} left")
        elif state == "asks":
            self._wake.set()

    def _namesake(self, state: str) -> None:
        now = time.monotonic()
        if state == "alive" and now - self._warned_s > 60:
            self._warned_s = now
            log.warning(
                "another replica calls itself %r too, so both look after the same: give each its own SHARDY_INSTANCE "
                "(auto does, where they share a data folder)",
                self.replicas.me,
            )

    def _tell(self, what: str) -> None:
        log.info("replicas: %s; now %s", what, ", ".join(self.replicas.names))
        self._changed()
        self._wake.set()  # so that who is new hears of this one at once
