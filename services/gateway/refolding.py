"""Replaying the letter of an event that a service could not fold: its replicas fold the log anew, each in turn.

That takes as long as the log is long, so it goes on when whoever asked has gone, and who asks again gets its result.
Asked at another gateway, the replicas go on with the build that they are at.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError

from shardy_common import ids
from shardy_common.errors import Refused, Transient
from shardy_common.replies import REBUILD_S, statuses
from shardy_common.wire.subjects import control
from shardy_gateway.letters import Letter
from shardy_gateway.replays import refused

WAIT_S = 50.0  # then the caller is told to ask again
AT_ONCE_MAX = 8


class Refolds:
    """Builds that were asked for, by letter. A result is kept until somebody takes it. client: gives the connection."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client
        self._asked: dict[str, asyncio.Task[str]] = {}

    async def folded(self, letter: Letter) -> str:
        """In words how the event came to be folded. Refused when it still cannot be; Transient while nobody knows."""
        task = self._asked.get(letter.entry)
        if task is None:
            if len(self._asked) >= AT_ONCE_MAX:
                self._asked = {entry: task for entry, task in self._asked.items() if not task.done()}
            if len(self._asked) >= AT_ONCE_MAX:
                raise Transient(f"{AT_ONCE_MAX} replays are being made: try again when one of them has ended")
            task = self._asked[letter.entry] = asyncio.get_running_loop().create_task(
                fold_again(self._client(), letter)
            )
        await asyncio.wait({task}, timeout=WAIT_S)
        if not task.done():
            raise Transient(await self._progress(letter), retry_ms=5_000)
        self._asked.pop(letter.entry, None)
        return task.result()

    async def _progress(self, letter: Letter) -> str:
        service = letter.evidence["service"]
        for status in await statuses(self._client(), service):
            if status["build"]:
                done, of, left_s = (status["build"][name] for name in ("done", "of", "seconds_left"))
                return (
                    f"replica {status['instance']} of {service} folds the log anew: {done} of {of} events"
                    + (f", {left_s:.0f} s are left" if left_s is not None else "")
                    + "; ask again"
                )
        return f"the replicas of {service} fold the log anew; ask again"


async def fold_again(client: Client, letter: Letter) -> str:
    """Let each replica that lacks the event fold anew."""
    service = letter.evidence.get("service", "")
    if not ids.is_token(service):
        raise refused("the letter does not say which service could not fold the event: discard it")
    try:
        lacking = [s for s in await statuses(client, service) if lack_of(s, letter)]
        for status in sorted(lacking, key=lambda s: str(s["instance"])):
            reply = await client.request(control(service, f"rebuild.{status['instance']}"), b"{}", timeout=REBUILD_S)
            json.loads(reply.data)
        now = await statuses(client, service)
    except (NatsError, TimeoutError, OSError, ValueError):
        raise Transient(f"{service} does not answer; try again", retry_ms=5_000) from None
    if not now:
        raise Transient(f"no replica of {service} answers: start it, and try again", retry_ms=5_000)
    still = [(str(status["instance"]), why) for status in now if (why := lack_of(status, letter))]
    if still:
        instance, why = still[0]
        raise _cannot(letter, f"replica {instance} of {service} still cannot fold event {letter.seq}: {why}")
    if not lacking:
        return f"event {letter.seq} is folded by {service}, which had folded the log anew before"
    count = "one replica" if len(lacking) == 1 else f"{len(lacking)} replicas"
    return f"event {letter.seq} is folded: {count} of {service} folded the log anew"


def lack_of(status: dict[str, Any], letter: Letter) -> str:
    """Why this replica does without the letter's event, in words; empty when it does not."""
    standing = status.get("standing")
    if standing and standing["seq"] == letter.seq:
        return str(standing["error"])
    return next((str(s["error"]) for s in status.get("skipped", ()) if s["entry"] == letter.entry), "")


def _cannot(letter: Letter, why: str) -> Refused:
    return refused(f"{why}. Repair {letter.evidence.get('service')} first")
