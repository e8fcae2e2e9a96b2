"""What gateways share: session tokens that each of them can check, and who is missed for how long."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardy_gateway.passes import KEY_BYTES, Passes, shared_key
from shardy_gateway.siblings import GONE_S, Missing

WORKER = "12D3KooWGRUfH5eCWqx9m5wSZgY6sKvzDcBcBBzd9QaiwLkF4e4n"
TOKEN = Passes(bytes(KEY_BYTES)).make("0123456789abcdef", WORKER)


def test_a_token_is_read_with_the_key_that_made_it_only(tmp_path: Path) -> None:
    first, second = (Passes(shared_key(tmp_path / "gateway.key")) for _ in range(2))
    token = first.make("0123456789abcdef", WORKER)
    assert second.read(token) == ("0123456789abcdef", WORKER)
    assert Passes(shared_key(tmp_path / "other.key")).read(token) is None
    assert (tmp_path / "gateway.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".key")] == []


@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_a_token_with_one_character_changed_is_refused(at: int, character: str) -> None:
    changed = TOKEN[:at] + character + TOKEN[at + 1 :]
    found = Passes(bytes(KEY_BYTES)).read(changed)
    assert found is None if changed != TOKEN else found is not None


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c.d", TOKEN[:-1], TOKEN + "0", "é" + TOKEN])
def test_other_tokens_are_refused(token: str) -> None:
    assert Passes(bytes(KEY_BYTES)).read(token) is None


def test_parts_cannot_be_moved_between_session_and_worker() -> None:
    passes = Passes(bytes(KEY_BYTES))
    mac = passes.make("ab", "c").rpartition(".")[2]
    assert passes.read(f"a.bc.{mac}") is None


def test_a_broken_key_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "gateway.key").write_bytes(b"short")
    with pytest.raises(ValueError, match="delete it"):
        shared_key(tmp_path / "gateway.key")


def test_a_gateway_is_gone_after_it_was_missed_all_the_while() -> None:
    missing = Missing()
    assert missing.look({"gateway-0", "gateway-1"}, {"gateway-0"}, 0.0) == []
    assert missing.look({"gateway-1"}, {"gateway-0"}, GONE_S - 0.1) == []
    assert missing.look({"gateway-1"}, {"gateway-0"}, GONE_S) == ["gateway-1"]
    assert missing.look(set(), {"gateway-0"}, GONE_S + 1) == [], "it holds nobody any more"


def test_one_that_is_heard_in_between_is_not_missed() -> None:
    missing = Missing()
    missing.look({"gateway-1"}, set(), 0.0)
    missing.look({"gateway-1"}, {"gateway-1"}, 10.0)
    assert missing.look({"gateway-1"}, set(), GONE_S) == []
    missing.look({"gateway-1"}, set(), GONE_S)
    missing.forget()
    assert missing.look({"gateway-1"}, set(), 3 * GONE_S) == []
