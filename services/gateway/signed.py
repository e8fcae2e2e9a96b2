"""A worker answers for its results with one signature a frame, over the tree of them (docs/protocol.md §5.1).

The signature binds lease, digest and length of each result to the worker's key. A lease belongs to one worker and one
task, so a signature that was seen elsewhere fits nothing else: under another key it does not verify, for another lease
the root differs, and the same frame again is the same results, which are recorded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shardy_common.wire import merkle
from shardy_gateway.session import CloseSession, Session


@dataclass(frozen=True, slots=True)
class SignedFrame:
    """sig: hex; batch: address of `leaves`, both empty for a frame of one result, whose leaf is the root."""

    sig: str
    batch: str = ""
    leaves: bytes = b""


def check_signature(session: Session, sig: Any, results: list[Any]) -> SignedFrame:
    """The frame's signature, if it is this session's key's over these results. CloseSession 4400 and 4401 otherwise."""
    if not results:
        return SignedFrame("")
    leaves = [_leaf(result) for result in results]
    if not isinstance(sig, bytes) or len(sig) != 64:
        raise CloseSession(4401, "a result frame carries sig, the 64 bytes of its Ed25519 signature")
    try:
        Ed25519PublicKey.from_public_bytes(session.key).verify(sig, merkle.RESULTS_TAG + merkle.root(leaves))
    except (InvalidSignature, ValueError):
        raise CloseSession(4401, "the signature does not fit these results and this session's key") from None
    if len(leaves) == 1:
        return SignedFrame(sig.hex())
    stored = b"".join(leaves)
    return SignedFrame(sig.hex(), blake3(stored).hexdigest(), stored)


def _leaf(result: Any) -> bytes:
    lease = result.get("lease") if isinstance(result, dict) else None
    if not isinstance(lease, str):
        raise CloseSession(4400, "a result without a lease id")
    digest, size = result.get("digest"), result.get("len")
    if not isinstance(digest, bytes) or len(digest) != 32 or type(size) is not int or not 0 <= size < 1 << 64:
        raise CloseSession(4400, "a result names its digest (32 bytes) and its length (a count of bytes)")
    try:
        return merkle.leaf(lease, digest, size)
    except UnicodeEncodeError:
        raise CloseSession(4400, "a lease id is text") from None
