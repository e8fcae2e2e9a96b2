"""HTTP as the server reads it, with a bound on what comes before a call can look at it.

The parser gathers heads and trailers of any length; here a connection that sends more than UNREAD_BYTES_MAX without a
word of a body is closed. What the parser cannot read is answered by a problem too.
"""

from __future__ import annotations

import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from shardy_gateway import problems

UNREAD_BYTES_MAX = 64 * 1024


class BoundedHttp(HttpToolsProtocol):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unread = 0

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        if self._unread > UNREAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse(431, "Head too large", f"a request's head has at most {UNREAD_BYTES_MAX} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unread = 0

    def on_headers_complete(self) -> None:
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "Malformed request", "this is no HTTP/1.1 request, or its address is none")

    def _refuse(self, status: int, title: str, detail: str) -> None:
        body = json.dumps(problems.body_of(status, title, detail)).encode()
        head = f"content-type: {problems.MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
