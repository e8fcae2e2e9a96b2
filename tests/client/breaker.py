"""A gateway's address whose connections break where a test says: bytes are handed on, then the line is cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit


class Breaker:
    """cuts: after so many bytes to the gateway, one number for each connection; then connections hold.

    `down` refuses and cuts everything, `up` listens at the same address again. answer_cuts: the same for bytes that
    come back.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._to = (parts.hostname, parts.port)
        self.cuts: list[int] = []
        self.answer_cuts: list[int] = []
        self.before_answer: Callable[[bytes], bool] = lambda _: False  # True: cut instead of handing the answer on
        self._live: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._port = 0
        self.connections = 0
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(64)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def down(self) -> None:
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for one in list(self._live):
            _cut(one)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._to)  # type: ignore[arg-type]
            self.connections += 1
            self._live |= {near, far}
            cut = self.cuts.pop(0) if self.cuts else -1
            answer_cut = self.answer_cuts.pop(0) if self.answer_cuts else -1
            threading.Thread(target=self._pump, args=(near, far, cut, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, answer_cut, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, cut: int, answers: bool) -> None:
        left = cut
        with suppress(OSError):
            while data := source.recv(1 << 16 if left < 0 else max(1, min(left, 1 << 16))):
                if answers and self.before_answer(data):
                    break
                if left >= 0 and len(data) >= left:
                    sink.sendall(data[:left])
                    break
                sink.sendall(data)
                left -= len(data) if left >= 0 else 0
        _cut(source)
        _cut(sink)
        self._live -= {source, sink}


def _cut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
