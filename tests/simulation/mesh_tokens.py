"""Proofs of a simulated mesh: tokens in the place of Groth16. A token says what it proves, and none exists of a wrong
product; what it is about is what a real proof's context is about (shardy_common/proofs/statement.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blake3 import blake3

from shardy_common.proofs import tiles
from shardy_common.proofs.parse import PROOF_BYTES
from shardy_common.proofs.signals import Circuit
from shardy_common.proofs.statement import Terms, drawn, grid_of
from shardy_common.wire.job import Tile
from shardy_prover_verifier.state import Check, Checked, Draw, Drawn

if TYPE_CHECKING:
    from mesh_work import Work

    from shardy_common.proofs.tiles import Grid


def token(about: tuple[Any, ...], index: int, data: bytes) -> bytes:
    digest = blake3(f"{about} {index}".encode() + data).digest()
    return digest * (PROOF_BYTES // len(digest))


def prove(work: Work, job: str, tile: Tile, frame: dict[str, Any], worker: str) -> bytes:
    """From a `prove` frame alone: the worker computes each tile again, so what it proves is always right."""
    about = (frame["task"], worker, frame["nonce"].hex(), frame["circuit"], frame["version"], frame["vk"].hex())
    about += (frame["root"].hex(),)
    grid = grid_of(Circuit.named(frame["circuit"]), frame["rows"], frame["cols"])
    right = work.right(job, tile)[0]
    return b"".join(token(about, index, grid.tile_bytes(index, right)) for index in frame["tiles"])


def wrong_tiles(terms: Terms, tile: Tile, c: bytes, handed_in: bytes, asked: list[int]) -> list[int]:
    """Of those asked for, the tiles of c that what was handed in does not prove."""
    about = (terms.task, terms.worker, terms.nonce, terms.circuit, terms.version, terms.vk_hash, terms.root)
    grid = cut(terms.circuit, tile)
    if len(handed_in) != PROOF_BYTES * len(asked):
        return asked
    parts = [handed_in[at : at + PROOF_BYTES] for at in range(0, len(handed_in), PROOF_BYTES)]
    pairs = zip(asked, parts, strict=True)
    return [index for index, part in pairs if part != token(about, index, grid.tile_bytes(index, c))]


def cut(circuit: str, tile: Tile) -> Grid:
    return grid_of(Circuit.named(circuit), tile.rows, tile.cols)


# -- in place of the prover-verifier's examiner -----------------------------------------------------------------------


def draw(work: Work, asked: Draw, nonce: str, missing: bool) -> Drawn:
    if missing:
        return Drawn(asked, missing="the result's bytes cannot be read")
    assert asked.spec.proof is not None
    grid = cut(asked.spec.proof.circuit, asked.tile)
    return Drawn(asked, tiles.root(grid, work.blobs[asked.digest]).hex(), nonce, grid.count)


def check(work: Work, asked: Check, missing: bool) -> Checked:
    if missing:
        return Checked(asked, cause="missing", detail="the bytes cannot be read")
    terms = asked.terms
    wrong = wrong_tiles(terms, asked.tile, work.blobs[terms.digest], work.blobs[asked.proofs], drawn(terms))
    if wrong:
        return Checked(asked, cause="wrong", detail=f"no proof of tile {wrong} of {terms.tiles}")
    stated = statements(terms, drawn(terms))
    digest = blake3(stated).hexdigest()
    work.blobs[digest] = stated
    return Checked(asked, digest)


def statements(terms: Terms, asked: list[int]) -> bytes:
    return f"{terms} {asked}".encode()
