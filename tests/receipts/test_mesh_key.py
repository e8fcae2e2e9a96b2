"""The mesh's key on disk: made once, secret, refused when it is not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from shardy_common.mesh_key import MeshKeyError, check_mode, ensure_mesh_key, load_mesh_key
from shardy_common.receipts import Signer


def test_a_key_is_made_once_and_is_secret(tmp_path: Path) -> None:
    path = tmp_path / "mesh_key"
    assert load_mesh_key(path) is None
    public = ensure_mesh_key(path)
    assert path.stat().st_mode & 0o777 == 0o600 and b"BEGIN PRIVATE KEY" in path.read_bytes()
    assert (tmp_path / "mesh_key.pub").read_text() == public + "\n"
    assert ensure_mesh_key(path) == public
    private = load_mesh_key(path)
    assert private is not None and Signer(private).key == public


@pytest.mark.skipif(os.name != "posix", reason="file modes")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "mesh_key"
    ensure_mesh_key(path)
    path.chmod(mode)
    with pytest.raises(MeshKeyError, match="chmod 600"):
        load_mesh_key(path)
    with pytest.raises(MeshKeyError):
        ensure_mesh_key(path)


@pytest.mark.parametrize(
    ("owner", "mode", "good"),
    [
        (1, 0o600, True),
        (1, 0o400, True),
        (1, 0o440, False),  # our own file: we could close it
        (1, 0o444, False),
        (2, 0o444, True),  # a container's secret
        (2, 0o440, True),
        (2, 0o644, True),
        (2, 0o664, False),
        (2, 0o666, False),
        (2, 0o646, False),
    ],
)
def test_whose_file_may_be_open_to_whom(owner: int, mode: int, good: bool) -> None:
    if good:
        check_mode("mesh's key file", Path("k"), owner, mode, 1)
    else:
        with pytest.raises(MeshKeyError):
            check_mode("mesh's key file", Path("k"), owner, mode, 1)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mesh_key"
    path.write_text("not a key")
    path.chmod(0o600)
    with pytest.raises(MeshKeyError, match="Ed25519"):
        load_mesh_key(path)
    with pytest.raises(MeshKeyError, match="no file"):
        load_mesh_key(tmp_path)


def test_a_key_made_by_openssl_is_taken(tmp_path: Path) -> None:
    """Whoever keeps keys elsewhere makes them with what he has."""
    path = tmp_path / "mesh_key"
    try:
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(path)], check=True)
    except FileNotFoundError:
        pytest.skip("openssl is not here")
    path.chmod(0o600)
    assert load_mesh_key(path) is not None
