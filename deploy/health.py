"""`python health.py SERVICE`: exit code 0 when the service says over the control plane that it is live."""

from __future__ import annotations

import asyncio
import json
import sys

import nats

from shardy_common.config import Settings
from shardy_common.wire.subjects import control


async def live(service: str) -> bool:
    """What the service answers; an exception when it does not answer in time."""
    settings = Settings()
    client = await nats.connect(
        settings.nats_url,
        user=settings.nats_user,
        password=settings.password,
        allow_reconnect=False,
        connect_timeout=3,
    )
    try:
        reply = await client.request(control(service, "status"), b"{}", timeout=5)
        return bool(json.loads(reply.data)["live"])
    finally:
        await client.close()


if __name__ == "__main__":
    try:
        sys.exit(0 if asyncio.run(live(sys.argv[1])) else 1)
    except Exception as error:  # one line in the container's health log
        sys.exit(f"{sys.argv[1]}: {type(error).__name__} {error}")
