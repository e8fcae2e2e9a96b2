"""API keys that the log tells of: issued, ended at once, or after the grace of a rotation.

A key is found by the SHA-256 of its secret in a dictionary. That is no comparison whose time would tell anything of a
secret: whoever measures it learns at most about the hash of what he sent himself, and cannot choose hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shardy_common.log import Projection, Recorded, Table
from shardy_common.wire import events as ev
from shardy_gateway.side import SideFold

SUBMIT, OPERATE = "submit", "operate"
SCOPES = (SUBMIT, OPERATE)
_pack = msgspec.msgpack.Encoder(order="deterministic").encode


class Key(msgspec.Struct, frozen=True):
    """hash: SHA-256 (hex) of the secret, whose first 16 digits are the id. expires_ms: 0 for never.

    owner: whose jobs it sees, kept through rotations; replaces: the key that it follows; source: log | file.
    """

    id: str
    hash: str
    owner: str
    scopes: list[str]
    label: str = ""
    by: str = ""
    created_ms: int = 0
    expires_ms: int = 0
    replaces: str = ""
    source: str = "log"


_key = msgspec.msgpack.Decoder(Key).decode


class Keyring(SideFold):
    """In memory: keys that may still be used. In the tables: every key that ever was."""

    tables = [
        Table("keys", {"id": str, "seq": int, "body": bytes}),
        Table("key_ends", {"key": str, "seq": int, "at_ms": int, "by": str}),
    ]
    filters = ("key.*.*",)

    def __init__(self) -> None:
        super().__init__()
        self.seq = 0  # of the last event of any key: two changes at once are decided one after the other
        self.by_hash: dict[str, Key] = {}
        self.keys: dict[str, Key] = {}
        self.ends: dict[str, int] = {}  # key → when it ends; keys of the file too
        self.replaced: set[str] = set()
        self._touched: dict[str, tuple[str, int, bytes]] = {}
        self._ended: dict[str, tuple[str, int, int, str]] = {}

    def load(self, projection: Projection) -> None:
        super().load(projection)
        for key, seq, at_ms in projection.rows("SELECT key, seq, at_ms FROM key_ends"):
            self.ends[key] = at_ms
            self.seq = max(self.seq, seq)
        for seq, body in projection.rows("SELECT seq, body FROM keys"):
            self._take(_key(body))
            self.seq = max(self.seq, seq)

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ev.KeyIssued):
            self._forget(recorded.at_ms)
            key = Key(
                event.key,
                event.hash,
                event.owner,
                event.scopes,
                event.label,
                event.by,
                recorded.at_ms,
                event.expires_ms,
                event.replaces,
            )
            self._take(key)
            self._touched[key.id] = (key.id, recorded.seq, _pack(key))
        elif isinstance(event, ev.KeyRevoked):
            at_ms = min(event.at_ms, self.ends.get(event.key, event.at_ms))  # an end once set only comes nearer
            self.ends[event.key] = at_ms
            self._ended[event.key] = (event.key, recorded.seq, at_ms, event.by)
            self._forget(recorded.at_ms)
        else:
            return
        self.seq = recorded.seq

    def _take(self, key: Key) -> None:
        self.by_hash[key.hash] = key
        self.keys[key.id] = key
        if key.replaces:
            self.replaced.add(key.replaces)

    def _forget(self, now_ms: int) -> None:
        """Drop from memory what can never be used again. Ends of the file's keys stay: they are in no event."""
        gone = [key for key in self.keys.values() if self.end_of(key) and self.end_of(key) <= now_ms]
        for key in gone:
            del self.keys[key.id]
            self.by_hash.pop(key.hash, None)
            self.replaced.discard(key.id)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        out: dict[str, list[Sequence[Any]]] = {}
        if self._touched:
            out["keys"] = list(self._touched.values())
        if self._ended:
            out["key_ends"] = list(self._ended.values())
        self._touched, self._ended = {}, {}
        return out

    # -- look-ups -------------------------------------------------------------------------------------------------

    def end_of(self, key: Key) -> int:
        """When the key stops being valid, in Unix milliseconds; 0 for never."""
        ends = [at for at in (key.expires_ms, self.ends.get(key.id, 0)) if at]
        return min(ends, default=0)

    def page(self, after: str, limit: int) -> list[tuple[Key, int]]:
        """Keys that the log ever told of, by id, with the end that somebody set (0: nobody did)."""
        rows = self.read(
            "SELECT body, at_ms FROM keys LEFT JOIN key_ends ON key = id WHERE id > ? ORDER BY id LIMIT ?",
            (after, limit),
        )
        return [(_key(body), at_ms or 0) for body, at_ms in rows]

    def end_in_log(self, key_id: str) -> int | None:
        """When a key that was once issued ended or ends (0: not set); None: no event issued it."""
        rows = self.read("SELECT at_ms FROM keys LEFT JOIN key_ends ON key = id WHERE id = ?", (key_id,))
        return (rows[0][0] or 0) if rows else None
