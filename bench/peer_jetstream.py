"""`python -m bench.peer_jetstream URL BATCH`: pulls from the bare work queue and acknowledges, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import nats
from nats.errors import TimeoutError as NatsTimeout


async def main(url: str, batch: int) -> None:
    client = await nats.connect(url)
    queue = await client.jetstream().pull_subscribe_bind("all", stream="WORK")
    while True:
        with contextlib.suppress(NatsTimeout):
            for message in await queue.fetch(batch, timeout=1):
                await message.ack()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
