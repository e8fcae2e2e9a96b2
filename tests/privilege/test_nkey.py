"""NATS keys: the form that other programs read, and files that must not be used."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from shardy_common.nkey import NkeyError, encode_seed, ensure_seed, from_seed, load_seed

# from the documents of github.com/nats-io/nkeys
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_a_known_key() -> None:
    assert from_seed(SEED + "\n").public == PUBLIC


def test_what_is_made_is_read(tmp_path: Path) -> None:
    public = ensure_seed(tmp_path / "seed")
    assert public == ensure_seed(tmp_path / "seed") == load_seed(tmp_path / "seed").public
    assert public != ensure_seed(tmp_path / "other") and public[0] == "U" and len(public) == 56
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "seed").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("seed", "why"),
    [
        (PUBLIC, "no seed"),
        (SEED[:-1] + "A", "checksum"),
        (SEED[:20] + ("A" if SEED[20] != "A" else "B") + SEED[21:], "checksum"),
        ("", "no seed"),
        ("not base32!", "base32"),
        (encode_seed(bytes(31)), "no seed"),
    ],
)
def test_what_is_no_seed(tmp_path: Path, seed: str, why: str) -> None:
    path = tmp_path / "seed"
    path.touch(mode=0o600)
    path.write_text(seed)
    with pytest.raises(NkeyError, match=why) as found:
        load_seed(path)
    assert str(path) in str(found.value) and (not seed or seed not in str(found.value))


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_seed_that_others_can_read(tmp_path: Path) -> None:
    ensure_seed(tmp_path / "seed")
    (tmp_path / "seed").chmod(0o640)
    with pytest.raises(NkeyError, match="chmod 600"):
        load_seed(tmp_path / "seed")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NkeyError, match="cannot be read"):
        load_seed(tmp_path / "seed")
