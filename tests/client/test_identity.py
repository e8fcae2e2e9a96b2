"""Worker keys on disk: made once, private, refused when they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shardy_client import InvalidInput
from shardy_client.identity import Identity


def test_a_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "worker.key"
    first = Identity.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Identity.load_or_create(path).public == first.public
    signature = first.sign_join(bytes(32), "session")
    signed = b"shardy-join-v1\x00" + bytes(32) + first.public + b"session"
    Ed25519PublicKey.from_public_bytes(first.public).verify(signature, signed)
    assert Identity.ephemeral().public != first.public


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "worker.key"
    Identity.load_or_create(path)
    path.chmod(0o644)
    with pytest.raises(InvalidInput, match="chmod 600"):
        Identity.load_or_create(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "worker.key"
    path.write_text("not a key")
    path.chmod(0o600)
    with pytest.raises(InvalidInput, match="Ed25519"):
        Identity.load_or_create(path)
    with pytest.raises(InvalidInput, match="no file"):
        Identity.load_or_create(tmp_path)
