"""NATS keys: Ed25519 keys in the text form of nkeys (base32 of a prefix, the key, and a CRC-16).

A seed (`SU…`) stays in its file; the server knows the public key (`U…`) and asks for a signature of a nonce, so no
secret travels. Form: github.com/nats-io/nkeys. Only user keys are taken, for nothing else is needed here.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shardy_common.mesh_key import MeshKeyError, check_mode

_USER = 20 << 3
_SEED = 18 << 3
_SEED_PREFIX = bytes((_SEED | _USER >> 5, (_USER & 31) << 3))
SEED_BYTES_MAX = 256  # of a file, with white space


class NkeyError(RuntimeError):
    """A seed cannot be used; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Nkey:
    """public: as the server's configuration has it."""

    public: str
    _private: Ed25519PrivateKey

    def sign(self, nonce: str) -> bytes:
        """What CONNECT answers the server's nonce with."""
        return base64.b64encode(self._private.sign(nonce.encode()))


def encode_seed(raw: bytes) -> str:
    """`SU…` of the 32 bytes of a private key."""
    return _encode(_SEED_PREFIX + raw)


def from_seed(text: str) -> Nkey:
    """NkeyError for what is no user's seed; the text holds nothing of it."""
    try:
        data = base64.b32decode(text.strip() + "=" * (-len(text.strip()) % 8))
    except (ValueError, binascii.Error):
        raise NkeyError("it is not base32") from None
    if len(data) != 36 or data[:2] != _SEED_PREFIX:
        raise NkeyError("it is no seed of a user (SU…)")
    if _crc16(data[:-2]) != int.from_bytes(data[-2:], "little"):
        raise NkeyError("its checksum is wrong")
    private = Ed25519PrivateKey.from_private_bytes(data[2:34])
    return Nkey(_encode(bytes((_USER,)) + private.public_key().public_bytes_raw()), private)


def load_seed(path: Path) -> Nkey:
    """The key whose seed is in the file. NkeyError when there is none, or others can read a file of ours."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if os.name == "posix":
                check_mode("seed file", path, status.st_uid, status.st_mode & 0o777, os.geteuid())
            text = file.read(SEED_BYTES_MAX).decode("ascii", "replace")
        return from_seed(text)
    except OSError as error:
        raise NkeyError(f"the seed file {path} cannot be read: {error.strerror}") from None
    except (NkeyError, MeshKeyError) as error:
        raise NkeyError(f"the seed file {path}: {error}" if isinstance(error, NkeyError) else str(error)) from None


def ensure_seed(path: Path) -> str:
    """The public key of the seed in `path`, made there with mode 600 if there is none."""
    try:
        # O_EXCL and the mode at creation: at no moment can anybody else read the file
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(encode_seed(os.urandom(32)) + "\n")
    except FileExistsError:
        pass
    return load_seed(path).public


def _encode(data: bytes) -> str:
    return base64.b32encode(data + _crc16(data).to_bytes(2, "little")).decode().rstrip("=")


def _crc16(data: bytes) -> int:
    """CRC-16/XMODEM: polynomial 0x1021, start 0."""
    return binascii.crc_hqx(data, 0)
