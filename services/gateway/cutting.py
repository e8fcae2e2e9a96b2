"""Rows of stored operands as blobs of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from blake3 import blake3

from shardy_common.blobs import PACKED_BYTES_MAX, DirectoryStore, MissingBlob
from shardy_gateway.replays import Cut, refused

BLOCK_BYTES = 4 * 1024 * 1024


def cut(root: Path, cuts: Sequence[Cut]) -> dict[str, str]:
    """Digest by operand. Runs in a thread, with a store of its own; cutting again gives the same blobs."""
    with contextlib.closing(DirectoryStore(root)) as store:
        return {item.name: _cut_one(store, item) for item in cuts}


def _cut_one(store: DirectoryStore, item: Cut) -> str:
    size = store.size(item.digest)
    if size is None:
        raise refused(f"the bytes of operand {item.name} are no longer stored: discard the letter")
    if (item.offset, item.length) == (0, size):
        return item.digest
    try:
        if item.length <= PACKED_BYTES_MAX:
            data = store.read(item.digest, item.offset, item.length)
            digest = blake3(data).hexdigest()
            store.put_small([(digest, data)])
            return digest
        writer = store.writer()
        try:
            for at in range(item.offset, item.offset + item.length, BLOCK_BYTES):
                writer.write(store.read(item.digest, at, min(BLOCK_BYTES, item.offset + item.length - at)))
            return writer.finish()[0]
        except BaseException:
            writer.abandon()
            raise
    except MissingBlob:
        raise refused(f"the bytes of operand {item.name} are no longer stored: discard the letter") from None
