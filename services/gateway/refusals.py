"""What this gateway refused: counted by kind, and written down with its trace, at a pace that a flood cannot break."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from typing import Any

from shardy_gateway.rates import Buckets, Rate

log = logging.getLogger("shardy.gateway.refused")
LINES_PER_S, LINES_BURST = 20, 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # what was sent must not end a line, or begin another
_TRACE = re.compile(rb"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\Z")


class Refusals:
    """calls: by the slug of their problem; sockets: worker sessions that the gateway ended, by close code."""

    def __init__(self) -> None:
        self.since_ms = time.time_ns() // 1_000_000
        self.calls: Counter[str] = Counter()
        self.sockets: Counter[int] = Counter()
        self.unwritten = 0
        self._lines = Buckets(Rate(LINES_PER_S, LINES_BURST))

    def call(self, scope: Any, slug: str, status: int, detail: str) -> None:
        """An HTTP call that was answered with a problem. The trace is that of its traceparent header."""
        self.calls[slug] += 1
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        match = _TRACE.match(given)
        who = scope.get("shardy.caller")
        self._write(
            "%s %s: %d %s: %s (key %s, trace %s)",
            scope["method"],
            scope["path"][:200],
            status,
            slug,
            detail[:300],
            who.key if who is not None else "-",
            match[1].decode() if match else "-",
        )

    def socket(self, code: int, reason: str, session: str, worker: str, address: str) -> None:
        """A worker's session that ended otherwise than by its own goodbye."""
        self.sockets[code] += 1
        self._write("session %s of %s at %s: %d %s", session, worker or "-", address, code, reason[:300])

    def _write(self, line: str, *values: object) -> None:
        if not self._lines.take("", time.monotonic()).ok:
            self.unwritten += 1
            return
        if self.unwritten:
            log.info("%d refusals more than can be written down", self.unwritten)
            self.unwritten = 0
        log.info(line, *(_CONTROL.sub("·", value) if isinstance(value, str) else value for value in values))

    def shown(self) -> dict[str, Any]:
        sockets = {str(code): count for code, count in sorted(self.sockets.items())}
        return {"since_ms": self.since_ms, "calls": dict(sorted(self.calls.items())), "sockets": sockets}
