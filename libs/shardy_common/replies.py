"""Asking all replicas of a service at once: the control plane's requests reach each of them, and each answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout

from shardy_common.wire.subjects import control

SERVICES = ("gateway", "matchmaker", "quorum", "prover-verifier", "gossip-bridge", "dlq")
PATIENCE_S = 1.0
REBUILD_S = 600.0
LOOK_S = 0.2  # between two looks at a build
OnStatus = Callable[[dict[str, Any]], None]


async def statuses(client: Client, service: str) -> list[dict[str, Any]]:
    """What each live replica says of itself: once each of those that the others know has answered, or PATIENCE_S have
    passed; one that has just died is waited for in vain."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    found: list[dict[str, Any]] = []
    try:
        await client.publish(control(service, "status"), b"{}", reply=inbox)
        deadline = time.monotonic() + PATIENCE_S
        while (left_s := deadline - time.monotonic()) > 0:
            with contextlib.suppress(NatsTimeout, asyncio.TimeoutError):
                message: Msg = await subscription.next_msg(timeout=left_s)
                if message.data:  # an empty one says that nobody listens
                    found.append(json.loads(message.data))
                else:
                    await asyncio.sleep(PATIENCE_S / 2)
                    break
                known = {name for status in found for name in status["replicas"]}
                if known <= {status["instance"] for status in found}:
                    break
    finally:
        await subscription.unsubscribe()
    return found


async def rebuild(client: Client, service: str, on_status: OnStatus | None = None) -> list[dict[str, Any]]:
    """Each replica folds the log anew, one after another, so that the others go on meanwhile. What each answers.

    on_status: gets the status of the replica whose turn it is, some times a second.
    """
    done = []
    for instance in sorted({str(status["instance"]) for status in await statuses(client, service)}):
        asked = asyncio.create_task(
            client.request(control(service, f"rebuild.{instance}"), b"{}", timeout=REBUILD_S)  # type: ignore[arg-type]
        )
        try:
            while on_status is not None and not (await asyncio.wait({asked}, timeout=LOOK_S))[0]:
                for status in await statuses(client, service):
                    if str(status["instance"]) == instance:
                        on_status(status)
            done.append(json.loads((await asked).data))
        finally:
            asked.cancel()
    return done
