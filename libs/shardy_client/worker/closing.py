"""How a worker goes on after a connection ended (protocol §1.2), and where it connects to."""

from __future__ import annotations

import random
from dataclasses import dataclass
from urllib.parse import urlsplit

from shardy_client.errors import InvalidInput, WorkerStopped

STOP_CODES = {
    4400: "the mesh found a frame malformed: {reason}. This worker and the mesh disagree on the protocol; update both",
    4401: "the mesh refused the signature or the probe: {reason}. Another key (--key) or a sound device is needed",
    4403: "this key is banned after proven fraud: {reason}",
    4406: "the mesh speaks no protocol version of this worker; update it",
    4409: "the same key joined elsewhere, so this worker stops; give each its own key (--key FILE or --ephemeral)",
    4413: "the mesh found a frame or result too large: {reason}",
}


@dataclass(slots=True, frozen=True)
class Retry:
    """When to connect again. reset: the back-off starts anew."""

    after_s: float | None
    reset: bool
    why: str


def after_close(code: int, reason: str) -> Retry:
    """What protocol §1.2 asks for after a close; WorkerStopped when it is to stop."""
    if code in STOP_CODES:
        raise WorkerStopped(STOP_CODES[code].format(reason=reason or "no reason given"), code)
    if code == 4429:
        return Retry(30.0, False, "the mesh asked to slow down")
    if code == 4408:
        return Retry(None, False, "too slow: handshake or heartbeat late")
    if code == 1012:
        return Retry(random.uniform(0.0, 1.0), True, "the mesh restarts")
    return Retry(None, False, f"connection closed ({code}{': ' + reason if reason else ''})")


def backoff_s(attempt: int) -> float:
    """Seconds before reconnecting: 0.5 doubling to 15, times 0.5 to 1.5."""
    return min(15.0, 0.5 * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.5)


def socket_url(url: str) -> str:
    """The address to join at, for a mesh at `url`. InvalidInput when it is no http(s) or ws(s) address."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise InvalidInput(f"{url!r} is no address of a mesh; expected something like http://127.0.0.1:8765")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/ws/worker-join"
