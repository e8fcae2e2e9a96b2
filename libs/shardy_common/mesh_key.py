"""The mesh's signing key: an Ed25519 key in a PEM file (PKCS 8), which only the mesh may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PEM_BYTES_MAX = 4_096


class MeshKeyError(RuntimeError):
    """The file is there, and must not be used; the text says what to do."""


def ensure_mesh_key(path: Path) -> str:
    """The public key (hex) of the key in `path`, made there with mode 600 if there is none; written to `path`.pub."""
    try:
        # O_EXCL and the mode at creation: at no moment can anybody else read the file
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(
                Ed25519PrivateKey.generate().private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
    except FileExistsError:
        pass
    key = load_mesh_key(path)
    assert key is not None
    public = key.public_key().public_bytes_raw().hex()
    path.with_name(path.name + ".pub").write_text(public + "\n")
    return public


def load_mesh_key(path: Path) -> Ed25519PrivateKey | None:
    """The private key in `path`, None when there is no such file. MeshKeyError when it is no key, or not a secret."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MeshKeyError(f"the mesh's key file {path} cannot be read: {error.strerror}") from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise MeshKeyError(f"the mesh's key file {path} is no file")
    with os.fdopen(handle, "rb") as file:
        if os.name == "posix":
            check_mode("mesh's key file", path, status.st_uid, stat.S_IMODE(status.st_mode), os.geteuid())
        text = file.read(PEM_BYTES_MAX)
    try:
        private = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise MeshKeyError(f"{path} holds no unencrypted Ed25519 key in PEM form (PKCS 8)")
    return private


def check_mode(what: str, path: Path, owner: int, mode: int, self_id: int) -> None:
    """A file of our own is closed to all others: we could close it, so an open one is a mistake.

    A file of somebody else, which we can read only because it is open to us, is what container runtimes mount as a
    secret (mode 444 or 440, below /run/secrets): who sees that folder is their business. It is taken if nobody but its
    owner can write it, or anybody could put his key in its place.
    """
    if owner == self_id and mode & 0o077:
        raise MeshKeyError(f"the {what} {path} is open to others (mode {mode:o}): chmod 600 {path}")
    if owner != self_id and mode & 0o022:
        raise MeshKeyError(f"the {what} {path} of another user can be written by others (mode {mode:o})")
