"""The peer of the idle workers: a WebSocket echo on uvicorn as the gateway runs it, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn


async def echo(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    if scope["type"] != "websocket":
        return
    while True:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        else:
            return


if __name__ == "__main__":
    uvicorn.run(
        echo, port=int(sys.argv[1]), ws="websockets-sansio", ws_per_message_deflate=False, lifespan="off",
        log_config=None, access_log=False,
    )  # fmt: skip
