"""What is proved of a task's result: which tiles, and what each proof states. For whoever asks, proves or checks.

A worker's result stands in the log before a challenge is drawn, so the signed digest of its bytes is the commitment.
The root over its tiles is made by whoever has the bytes; a proof's context carries it, for those who have them not.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from shardy_common import ids
from shardy_common.proofs import tiles
from shardy_common.proofs.signals import Circuit, Context, Signals, out_len, task_context
from shardy_common.proofs.tiles import Grid


class Terms(NamedTuple):
    """What a challenge fixes (`proof.challenged`). digest, vk_hash, root, nonce: hex."""

    task: str
    lease: str
    worker: str
    digest: str
    circuit: str
    version: str
    vk_hash: str
    root: str
    nonce: str
    tiles: int
    checked: int

    @classmethod
    def of(cls, event: object) -> Terms:
        """From a `proof.challenged` or `proof.verified`."""
        return cls(*(getattr(event, name) for name in cls._fields))


class Statement(msgspec.Struct, frozen=True, array_like=True):
    """What one proof states: tile `index` is the product of A's rows and B's rows with these digests.

    rows, k, cols: of the tile. a, b, c: hex BLAKE3 of the bytes of A, of B as stored, and of the tile. input_commit,
    result_digest: public signals 3 and 4, decimals.
    """

    index: int
    rows: int
    k: int
    cols: int
    a: str
    b: str
    c: str
    input_commit: str
    result_digest: str


def grid_of(circuit: Circuit, rows: int, cols: int) -> Grid:
    """The tiles of a result of rows×cols that this circuit proves. ValueError where they are too many."""
    return Grid(rows, cols, min(circuit.m, rows), min(circuit.n, cols))


def drawn(terms: Terms) -> list[int]:
    """The tiles that are to be proved, rising."""
    binding = terms.lease.encode() + b"\0" + bytes.fromhex(terms.digest)
    return tiles.challenge(bytes.fromhex(terms.root), binding, bytes.fromhex(terms.nonce), terms.tiles, terms.checked)


def context_of(terms: Terms, index: int, rows: int, k: int, cols: int, a: bytes, b: bytes, c: bytes) -> Context:
    """The context of the proof of one tile. a, b, c: BLAKE3 of its bytes. ValueError for terms that are none."""
    return Context(
        terms.task,
        ids.worker_key(terms.worker),
        bytes.fromhex(terms.nonce),
        terms.circuit,
        terms.version,
        bytes.fromhex(terms.vk_hash),
        rows,
        k,
        cols,
        b"",
        a,
        b,
        c,
        tiles.tile_field(bytes.fromhex(terms.root), index) if terms.tiles > 1 else b"",
    )


def publics_of(terms: Terms, s: Statement) -> Signals:
    """The public signals of what is stated. ValueError for statements that are none."""
    digests = (bytes.fromhex(s.a), bytes.fromhex(s.b), bytes.fromhex(s.c))
    context = context_of(terms, s.index, s.rows, s.k, s.cols, *digests)
    return Signals(task_context(context), out_len(s.rows, s.cols), int(s.input_commit), int(s.result_digest))
