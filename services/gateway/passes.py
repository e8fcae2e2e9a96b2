"""Session tokens that every gateway of a mesh can check: a worker's HTTP calls may reach another than its socket did.

A token names session and worker, with a keyed BLAKE3 over both. The key lies beside the projections and is made by the
first gateway; if it is lost, workers join again.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path

from blake3 import blake3

KEY_BYTES = 32


class Passes:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, session: str, worker: str) -> str:
        return f"{session}.{worker}.{self._mac(session, worker)}"

    def read(self, token: str) -> tuple[str, str] | None:
        """Session and worker of a token that a gateway of this mesh made; None for any other."""
        session, _, rest = token.partition(".")
        worker, _, mac = rest.partition(".")
        if not token.isascii() or not hmac.compare_digest(mac, self._mac(session, worker)):
            return None
        return session, worker

    def _mac(self, session: str, worker: str) -> str:
        return blake3(f"shardy-pass-v1\0{session}\0{worker}".encode(), key=self._key).hexdigest(20)


def shared_key(path: Path) -> bytes:
    """The key in the file, which is made by whoever comes first: others see it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        aside = path.with_suffix(f".{secrets.token_hex(6)}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
        aside.unlink()
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} holds no key of {KEY_BYTES} bytes: delete it, and workers join again")
    return key
