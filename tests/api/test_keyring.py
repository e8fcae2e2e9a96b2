"""Keys as the log and the file tell of them: who is let in when, what a restart sees, and which key must stay."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from shardy_common.errors import Refused
from shardy_common.log import Append, MemoryLog, Projection
from shardy_common.wire import events as ev
from shardy_gateway.keybook import KEYS_PER_OWNER_MAX, Keybook, KeyFile, new_secret, read_keys
from shardy_gateway.keyring import Key, Keyring


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def issued(secret: str, *scopes: str, owner: str = "", expires_ms: int = 0, replaces: str = "") -> ev.KeyIssued:
    key = digest(secret)[:16]
    return ev.KeyIssued(key, digest(secret), owner or key, list(scopes) or ["submit"], "l", "by", expires_ms, replaces)


class Given:
    """A keybook over a log whose clock stands at `now`."""

    def __init__(self, folder: Path, file: str = "") -> None:
        self.now = 1_000
        self.path = folder / "api_keys"
        self.path.write_text(file)
        self.log, self.ring = MemoryLog(lambda: self.now), Keyring()
        self.projection = Projection(folder / "k.db", Keyring.tables, version=1)
        self.ring.load(self.projection)
        self.book = Keybook(KeyFile(self.path), lambda: self.ring)

    def then(self, *events: ev.Event) -> Given:
        for event in events:
            self.log.append_now(Append(event, f"m{len(self.log.events)}"))
            self.ring.evolve(self.log.events[-1])
        self.projection.commit(self.ring.rows(), len(self.log.events))
        return self

    def finds(self, secret: str, now: int) -> Any:
        return self.book.find(secret, now)


@pytest.fixture
def book(tmp_path: Path) -> Any:
    made = Given(tmp_path, f"{digest('file')} operate # mine\n{digest('plain')}\n")
    yield made
    made.projection.close()


def test_a_key_is_found_by_its_secret_alone(book: Given) -> None:
    book.then(issued("one", "submit"))
    assert book.finds("one", 5_000).id == digest("one")[:16]
    for wrong in ("", "One", "one ", "on", digest("one"), digest("one")[:16]):
        assert book.finds(wrong, 5_000) == "this API key is not known"


def test_expiry_and_revocation(book: Given) -> None:
    book.then(issued("brief", expires_ms=9_000), issued("gone"), ev.KeyRevoked(digest("gone")[:16], "by", 4_000))
    assert isinstance(book.finds("brief", 8_999), Key) and "expired" in book.finds("brief", 9_000)
    assert isinstance(book.finds("gone", 3_999), Key) and "revoked" in book.finds("gone", 4_000)
    book.then(ev.KeyRevoked(digest("gone")[:16], "by", 90_000))
    assert "revoked" in book.finds("gone", 4_000), "an end once set only comes nearer"
    book.now = 9_500
    book.then(issued("later"))
    assert book.finds("brief", 1) == "this API key is not known", "what ended is forgotten"
    assert {key.id for key, _ in book.ring.page("", 10)} == {digest(s)[:16] for s in ("brief", "gone", "later")}


def test_keys_of_the_file(book: Given) -> None:
    key = book.finds("file", 1)
    assert (key.id, key.owner, key.scopes, key.label) == (key.hash[:16], key.hash[:16], ["operate"], "mine")
    assert book.finds("plain", 1).scopes == ["submit"]
    book.then(ev.KeyRevoked(key.id, "by", 2_000))
    assert isinstance(book.finds("file", 1_999), Key) and "revoked" in book.finds("file", 2_000)
    book.path.write_text(f"{digest('new')} submit,operate\n")
    os.utime(book.path, ns=(1, 1))
    assert book.finds("new", 1).scopes == ["submit", "operate"] and isinstance(book.finds("plain", 1), str)
    book.path.unlink()
    assert isinstance(book.finds("new", 1), str)


@pytest.mark.parametrize(
    "line", ["xyz", "0" * 63, "0" * 65, "A" * 64, "0" * 64 + " root", "0" * 64 + " submit operate", "# " + "0" * 64]
)
def test_odd_lines_of_the_file_are_no_keys(line: str) -> None:
    assert read_keys(line + "\n\n" + digest("good") + "\n").keys() == {digest("good")}


def test_a_rotation_keeps_the_owner(book: Given) -> None:
    old = digest("file")[:16]
    book.then(issued("next", "operate", owner=old, replaces=old), ev.KeyRevoked(old, old, 7_000))
    assert book.finds("next", 5_000).owner == old == book.finds("file", 5_000).owner
    assert "revoked" in book.finds("file", 7_000) and book.finds("next", 7_000).owner == old


def may_end(book: Given, secret: str, now: int = 5_000) -> bool:
    try:
        book.book.check_may_end(book.book.find(secret, now), now)  # type: ignore[arg-type]
    except Refused as error:
        assert error.title == "Last operator key"
        return False
    return True


def test_the_last_operator_key_stays(book: Given) -> None:
    assert may_end(book, "plain") and not may_end(book, "file")
    book.then(issued("brief", "operate", expires_ms=9_000))
    assert not may_end(book, "file"), "the other one ends by itself"
    assert may_end(book, "brief")
    book.then(issued("good", "submit", "operate"))
    assert may_end(book, "file") and may_end(book, "good")
    book.then(ev.KeyRevoked(digest("good")[:16], "by", 6_000))
    assert not may_end(book, "file"), "the other one is about to end"
    book.then(issued("next", "operate", replaces=digest("file")[:16]))
    assert may_end(book, "file") and not may_end(book, "next"), "what was replaced does not count as one that stays"


def test_an_owner_has_so_many_keys(book: Given) -> None:
    for n in range(KEYS_PER_OWNER_MAX):
        book.book.check_room("o", 5_000)
        book.then(issued(f"s{n}", owner="o"))
    with pytest.raises(Refused) as refused:
        book.book.check_room("o", 5_000)
    assert refused.value.title == "Too many keys"
    book.book.check_room("p", 5_000)
    book.then(ev.KeyRevoked(digest("s0")[:16], "by", 4_000))
    book.book.check_room("o", 5_000)


def test_a_restart_sees_the_same(book: Given) -> None:
    book.then(issued("one", "operate"), issued("two", replaces=digest("one")[:16]))
    book.then(ev.KeyRevoked(digest("plain")[:16], "by", 4_000), ev.KeyRevoked(digest("one")[:16], "by", 8_000))
    again = Keyring()
    again.load(book.projection)
    assert (again.seq, again.keys, again.by_hash) == (book.ring.seq, book.ring.keys, book.ring.by_hash)
    assert (again.ends, again.replaced) == (book.ring.ends, book.ring.replaced)


def test_a_key_that_was_revoked_while_it_was_replaced_stays_so_after_a_restart(book: Given) -> None:
    """The end of a rotation comes late, with its grace: the key had been revoked in between."""
    key = digest("one")[:16]
    book.then(issued("one"), issued("two", replaces=key), ev.KeyRevoked(key, "by", 1_000))
    book.then(ev.KeyRevoked(key, "by", 90_000))
    again = Keyring()
    again.load(book.projection)
    assert again.end_in_log(key) == 1_000 and book.ring.ends == again.ends
    assert "revoked" in Keybook(KeyFile(book.path), lambda: again).find("one", 5_000)


def test_secrets_are_long_and_fresh() -> None:
    secrets = {new_secret()[0] for _ in range(50)}
    assert len(secrets) == 50 and all(len(secret) >= 32 for secret in secrets)
