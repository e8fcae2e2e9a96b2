"""`python -m shardy_common.make_streams`, with the operator's key: make a mesh's streams, or bring them up to date.

Run before the services of a new version start: the streams then take the subjects that came since, and are copied to as
many nodes as SHARDY_STREAM_REPLICAS says. Where nothing is to be done, nothing is.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from shardy_common.config import Settings, configure_logging
from shardy_common.log import JetStreamLog, StreamLimits, streams


async def make(url: str, replicas: int, limits: StreamLimits | None = None, **access: Any) -> None:
    """Both streams, however long the server lets one wait. limits: see JetStreamLog.open(); access: see connect()."""
    log = await JetStreamLog.open(url, name="streams", replicas=replicas, limits=limits, **access)
    try:
        await log.make_stream(streams.advisories(replicas))
    finally:
        await log.close()


def main() -> None:
    settings = Settings()
    configure_logging("streams", settings.log_level)
    try:
        limits = StreamLimits(settings.log_bytes_max, settings.log_events_max)
        asyncio.run(make(settings.nats_url, settings.stream_replicas, limits, **settings.access))
    except (OSError, RuntimeError) as error:
        sys.exit(f"the streams could not be made: {error}")


if __name__ == "__main__":
    main()
