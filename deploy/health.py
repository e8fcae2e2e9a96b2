"""What the replicas of a service say of themselves, over the control plane; runs inside a container of the image.

`python health.py SERVICE`: exit code 0 when the replica in this container is live. `python health.py SERVICE status`:
all replicas' status, a line each. `python health.py SERVICE rebuild`: each in turn folds the log anew.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys

from shardy_common.config import Settings
from shardy_common.log.client import connect
from shardy_common.replies import rebuild, statuses


async def main(service: str, verb: str = "") -> int:
    settings = Settings()
    client = await connect(settings.nats_url, name="health", role=service, reconnect=False, **settings.access)
    try:
        if verb == "rebuild":
            answers = await rebuild(client, service)
        else:
            answers = await statuses(client, service)
        if verb:
            print("\n".join(json.dumps(answer) for answer in answers))
            return 0 if answers else 1
        # its siblings answer too: only the one in this container counts
        return 0 if any(a["live"] for a in answers if a["host"] == socket.gethostname()) else 1
    finally:
        await client.close()


if __name__ == "__main__":
    try:
        code = asyncio.run(main(*sys.argv[1:3]))
    except Exception as error:  # one line in the container's health log
        sys.exit(f"{sys.argv[1]}: {type(error).__name__} {error}")
    sys.exit(code)
