"""WebSockets as the server speaks them, with a way to cut a connection whose peer does not read.

ASGI can only ask for a close, which waits until the peer has taken what was written before.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from shardy_gateway.session import ABORT

LINGER_S = 30.0  # for a goodbye to be read, once the session is over; the server itself ends those that answer it


class BoundedSocket(WebSocketsSansIOProtocol):
    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        scope = getattr(self, "scope", None)  # the task that reads it has not begun yet
        if scope is not None:
            scope["extensions"][ABORT] = self.transport.abort

    def on_task_complete(self, task: Any) -> None:
        super().on_task_complete(task)
        self.loop.call_later(LINGER_S, self.transport.abort)
