"""Which replica of a service looks after what: a pure fold of who was heard, and one owner for each id.

The owner of an id is the live replica whose name gives the highest hash with it (highest random weight, Thaler and
Ravishankar, "Using name-based mappings to increase hit rates", 1998): every replica that sees the same names finds
the same owner, and when one leaves only its ids move. It only spreads work. The log decides what holds, so replicas
that see different names for a while do some work twice, or a moment late, and never contradict each other
(docs/adr/0010-replicas.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

SILENCE_S = 3.0  # heard within: alive
KNOWN_MAX = 65_536  # owners remembered before they are forgotten together


def owner(names: Iterable[str], key: str) -> str:
    """The one of names that looks after key; names must not be empty."""
    return max(names, key=lambda name: (_weight(name, key), name))


def _weight(name: str, key: str) -> bytes:
    return blake2b(f"{name}\0{key}".encode(), digest_size=8).digest()


class Replicas:
    """Who is there, as one replica sees it. It always sees itself. Times are seconds of any steady clock."""

    def __init__(self, me: str) -> None:
        self.me = me
        self.names: tuple[str, ...] = (me,)
        self._heard: dict[str, float] = {}
        self._owned: dict[str, bool] = {}

    def heard(self, name: str, now_s: float) -> bool:
        """A replica says that it is there. True when that is news."""
        if name == self.me:
            return False
        fresh = name not in self._heard
        self._heard[name] = now_s
        return fresh and self._look()

    def left(self, name: str) -> bool:
        """A replica says goodbye. True when it was there."""
        return self._heard.pop(name, None) is not None and self._look()

    def sweep(self, now_s: float) -> bool:
        """Forget who has been silent for too long. True when somebody was."""
        silent = [name for name, at in self._heard.items() if now_s - at > SILENCE_S]
        for name in silent:
            del self._heard[name]
        return bool(silent) and self._look()

    def owns(self, key: str) -> bool:
        """Whether this replica looks after key. A replica alone looks after everything, without a thought."""
        if len(self.names) == 1:
            return True
        known = self._owned.get(key)
        if known is None:
            if len(self._owned) >= KNOWN_MAX:
                self._owned.clear()
            known = self._owned[key] = owner(self.names, key) == self.me
        return known

    def _look(self) -> bool:
        self.names = tuple(sorted((self.me, *self._heard)))
        self._owned.clear()
        return True
