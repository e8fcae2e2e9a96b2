"""`python health.py SERVICE`: exit code 0 when the replica in this container says, over the control plane, that it is
live."""

from __future__ import annotations

import asyncio
import socket
import sys

import nats

from shardy_common.config import Settings
from shardy_common.replies import statuses


async def live(service: str, host: str) -> bool:
    """Whether the replica on this host answers and has caught up with the log. Its siblings answer too."""
    settings = Settings()
    client = await nats.connect(
        settings.nats_url,
        user=settings.nats_user,
        password=settings.password,
        allow_reconnect=False,
        connect_timeout=3,
    )
    try:
        return any(status["live"] for status in await statuses(client, service) if status["host"] == host)
    finally:
        await client.close()


if __name__ == "__main__":
    try:
        sys.exit(0 if asyncio.run(live(sys.argv[1], socket.gethostname())) else f"{sys.argv[1]}: not live")
    except Exception as error:  # one line in the container's health log
        sys.exit(f"{sys.argv[1]}: {type(error).__name__} {error}")
