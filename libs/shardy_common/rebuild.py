"""`shardy rebuild`: asks the services of a stack on this machine to fold the log anew."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from shardy_common.log.client import connect
from shardy_common.replies import OnStatus, rebuild
from shardy_common.stack import SERVICES, StackError


def rebuild_command(data_dir: Path, service: str, on_status: OnStatus | None = None) -> list[dict[str, object]]:
    """`shardy rebuild SERVICE`: tell each running replica of the service, one after another, to throw its projection
    away and fold the log anew. What each answers. on_status: hears how far the build is."""
    if service not in SERVICES:
        raise StackError(f"service {service!r} is not known: use one of {', '.join(SERVICES)}")
    try:
        runtime = json.loads((Path(data_dir) / "runtime.json").read_text())
    except (OSError, ValueError):
        raise StackError(f"no running stack on {data_dir}: start it with shardy up") from None

    async def ask() -> list[dict[str, object]]:
        client = await connect(
            runtime["nats_url"], name="rebuild", seed_file=Path(runtime["seed_file"]), reconnect=False
        )
        try:
            for _ in range(60):  # it may have just started, or be being started again
                answers = await rebuild(client, service, on_status)
                if answers:
                    return answers
            raise StackError(f"{service} does not answer: see its log in {Path(data_dir) / 'logs'}")
        finally:
            await client.close()

    return asyncio.run(ask())
