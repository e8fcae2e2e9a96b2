"""The Ed25519 key a worker joins with: its identity in the mesh, and what its record is kept under."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shardy_client.errors import InvalidInput
from shardy_common.wire import merkle

JOIN_TAG = b"shardy-join-v1\x00"


def default_key_path() -> Path:
    """Where a worker's key lies unless the user names a file: the platform's folder for user data."""
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "shardy" / "worker.key"


def cache_folder() -> Path:
    """The platform's folder for what can be had again."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "shardy"


class Identity:
    """A private key and what the protocol does with it: it joins, and answers for results."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def ephemeral(cls) -> Identity:
        """A key that is gone with the process."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load_or_create(cls, path: Path) -> Identity:
        """The key in `path` (PEM, PKCS 8), made there with mode 600 if there is none.

        InvalidInput when the file is no Ed25519 key, or others may read it.
        """
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return cls._create(path)
        except OSError as error:
            raise InvalidInput(f"cannot read the key file {path}: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise InvalidInput(f"cannot read the key file {path}: it is no file")
        with os.fdopen(handle, "rb") as file:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            if os.name == "posix" and mode & 0o077:
                raise InvalidInput(f"the key file {path} is open to others (mode {mode:o}): run chmod 600 {path}")
            text = file.read(65536)
        try:
            private = serialization.load_pem_private_key(text, password=None)
        except (ValueError, TypeError):
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            raise InvalidInput(f"{path} holds no unencrypted Ed25519 key in PEM form; name another file")
        return cls(private)

    @classmethod
    def _create(cls, path: Path) -> Identity:
        private = Ed25519PrivateKey.generate()
        text = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # O_EXCL and the mode at creation: at no moment can anybody else read the file.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(text)
        except FileExistsError:
            return cls.load_or_create(path)
        except OSError as error:
            raise InvalidInput(f"cannot write the key file {path}: {error.strerror}") from None
        return cls(private)

    def sign_join(self, nonce: bytes, session: str) -> bytes:
        """64 bytes: the signature of protocol §2 over tag, nonce, public key and session."""
        return self._private.sign(JOIN_TAG + nonce + self.public + session.encode())

    def sign_results(self, root: bytes) -> bytes:
        """64 bytes: the signature of protocol §5.1 over the root of a frame's results."""
        return self._private.sign(merkle.RESULTS_TAG + root)
