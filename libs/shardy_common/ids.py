"""Identifiers. None holds `.`, `*`, `>` or white space, so each is a valid subject token.

A job id sorts by time of submission. A task id names its place in the job. A worker id is the libp2p peer id of its
key.
"""

from __future__ import annotations

import os
import re
import time

_B32 = "0123456789abcdefghjkmnpqrstvwxyz"
_B58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
# protobuf {type: Ed25519, data: 32 bytes} in an identity multihash: the libp2p peer-id form of an Ed25519 key
_PEER_PREFIX = bytes([0x00, 0x24, 0x08, 0x01, 0x12, 0x20])


def new_job_id(now_ms: int | None = None, entropy: bytes | None = None) -> str:
    """`j` and 17 characters: 45 bits of Unix milliseconds, then 40 random bits, in Crockford's base 32."""
    ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    n = (ms << 40) | int.from_bytes(entropy or os.urandom(5), "big")
    return "j" + "".join(_B32[(n >> s) & 31] for s in range(80, -1, -5))


def task_id(job_id: str, col0: int, row0: int, tag: int) -> str:
    """tag: 24 random bits of its decider; a void attempt at the same place has another id (see carving.py)."""
    return f"{job_id}-{col0}-{row0}-{tag:06x}"


def job_of(task: str) -> str:
    """The job that a task is of, by its id."""
    return task.partition("-")[0]


def lease_id(task: str, attempt: int) -> str:
    return f"{task}-{attempt}"


def worker_id(public_key: bytes) -> str:
    """libp2p peer id (base58btc of the identity multihash) of a 32-byte Ed25519 public key."""
    data = _PEER_PREFIX + public_key
    n = int.from_bytes(data, "big")
    out = []
    while n:
        n, r = divmod(n, 58)
        out.append(_B58[r])
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + "".join(reversed(out))


def worker_key(worker: str) -> bytes:
    """The 32-byte Ed25519 public key in a worker's id. ValueError for other text."""
    n = 0
    for character in worker:
        n = n * 58 + _B58.index(character)
    data = n.to_bytes(len(_PEER_PREFIX) + 32, "big") if n.bit_length() <= 8 * (len(_PEER_PREFIX) + 32) else b""
    if not data.startswith(_PEER_PREFIX):
        raise ValueError(f"{worker[:64]!r} is no worker's id")
    return data[len(_PEER_PREFIX) :]


def is_token(text: str) -> bool:
    return bool(_TOKEN.match(text))


def is_digest(text: str) -> bool:
    return bool(_HEX64.match(text))
