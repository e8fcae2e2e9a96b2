"""All API keys of a gateway: those of the file (to begin with) and those of the log; who may still be let in, and
which key must stay."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from shardy_common.errors import Refused
from shardy_gateway.keyring import OPERATE, SCOPES, SUBMIT, Key, Keyring

log = logging.getLogger("shardy.gateway")
KEYS_MAX = 10_000  # that may be used, in all
KEYS_PER_OWNER_MAX = 8  # an owner's own rotations with a grace make more of them
_HASH = re.compile(r"[0-9a-f]{64}\Z")


class KeyFile:
    """`sha256hex [scope,scope] # comment`, a key a line. Read again when it changes; the owner is the key itself."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] = (-1, -1)
        self._by_hash: dict[str, Key] = {}

    def by_hash(self) -> dict[str, Key]:
        try:
            stat = self._path.stat()
        except OSError:
            self._stamp, self._by_hash = (-1, -1), {}
            return self._by_hash
        stamp = (stat.st_mtime_ns, stat.st_size)
        if stamp != self._stamp:
            self._by_hash, self._stamp = read_keys(self._path.read_text(errors="replace")), stamp
        return self._by_hash


def read_keys(text: str) -> dict[str, Key]:
    """Keys by hash. A line that says something else is passed over, and logged by its number alone."""
    keys = {}
    for number, line in enumerate(text.splitlines(), 1):
        words, _, comment = line.partition("#")
        parts = words.split()
        if not parts:
            continue
        scopes = parts[1].split(",") if len(parts) > 1 else [SUBMIT]
        if len(parts) > 2 or not _HASH.match(parts[0]) or not set(scopes) <= set(SCOPES):
            log.warning("line %d of the API key file is no SHA-256 (hex) with scopes %s", number, ",".join(SCOPES))
            continue
        key_id = parts[0][:16]
        keys[parts[0]] = Key(key_id, parts[0], key_id, scopes, comment.strip()[:200], source="file")
    return keys


class Keybook:
    def __init__(self, file: KeyFile, ring: Callable[[], Keyring]) -> None:
        self._file, self._ring = file, ring

    @property
    def ring(self) -> Keyring:
        return self._ring()

    def find(self, secret: str, now_ms: int) -> Key | str:
        """The key of a secret, or why it opens nothing. What the log says of a key goes before the file."""
        digest = hashlib.sha256(secret.encode()).hexdigest()
        ring = self.ring
        key = ring.by_hash.get(digest) or self._file.by_hash().get(digest)
        if key is None:
            return "this API key is not known"
        end = ring.end_of(key)
        if end and end <= now_ms:
            return "this API key has expired" if end == key.expires_ms else "this API key has been revoked"
        return key

    def file_keys(self) -> list[Key]:
        return sorted(self._file.by_hash().values(), key=lambda key: key.id)

    def known(self, key_id: str) -> Key | None:
        """A key that may still be used, or is in the file."""
        key = self.ring.keys.get(key_id)
        return key or next((key for key in self._file.by_hash().values() if key.id == key_id), None)

    def valid(self, now_ms: int) -> list[Key]:
        ring = self.ring
        keys = {**self._file.by_hash(), **ring.by_hash}.values()
        return [key for key in keys if not ring.end_of(key) or ring.end_of(key) > now_ms]

    def check_room(self, owner: str, now_ms: int) -> None:
        valid = self.valid(now_ms)
        if len(valid) >= KEYS_MAX:
            raise too_many(f"{len(valid)} API keys are in use: revoke some", f"{KEYS_MAX} API keys")
        own = sum(key.owner == owner for key in valid)
        if own >= KEYS_PER_OWNER_MAX:
            raise too_many(
                f"{own} keys of this owner are in use: revoke some, or let them end",
                f"{KEYS_PER_OWNER_MAX} of an owner",
            )

    def check_may_end(self, key: Key, now_ms: int) -> None:
        """Refused if nobody could operate the mesh without this key: another key with the scope operate must be there,
        and one that never ends must be among the others if this one never ends."""
        if OPERATE not in key.scopes:
            return
        others = [other for other in self.valid(now_ms) if other.id != key.id and OPERATE in other.scopes]
        if not self._ends_anyway(key):
            others = [other for other in others if not self._ends_anyway(other)]
        if not others:
            raise Refused(
                "this is the last key that may operate the mesh for good: issue another one first, without expiry",
                status=409,
                title="Last operator key",
            )

    def _ends_anyway(self, key: Key) -> bool:
        return bool(self.ring.end_of(key)) or key.id in self.ring.replaced


def too_many(detail: str, limit: str) -> Refused:
    return Refused(detail, status=409, title="Too many keys", limit=limit)


def new_secret() -> tuple[str, str]:
    """(secret, its SHA-256): 192 random bits, so guessing is hopeless whatever the rate."""
    secret = "shardy_" + secrets.token_urlsafe(24)
    return secret, hashlib.sha256(secret.encode()).hexdigest()
