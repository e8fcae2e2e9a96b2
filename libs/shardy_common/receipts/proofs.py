"""The proofs in a receipt: what they state, from which anybody computes the public signals, and whether they hold.

Checking one needs the verification key, which the receipt brings under its hash (`keys`), and no operand. With the
arrays at hand the signals are computed from those too (arrays.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from blake3 import blake3
from msgspec import Meta

from shardy_common import limits
from shardy_common.proofs import tiles
from shardy_common.proofs.parse import PROOF_BYTES, Proof, VerificationKey, parse_vkey, proof_of_wire
from shardy_common.proofs.signals import Circuit, out_len
from shardy_common.proofs.statement import Statement, Terms, drawn, grid_of, publics_of
from shardy_common.proofs.tiles import Tile
from shardy_common.wire import events as ev
from shardy_common.wire import merkle

if TYPE_CHECKING:
    from shardy_common.receipts.statements import TaskStatement

Hash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,160}\Z")]
Signal = Annotated[str, Meta(pattern=r"\A(?:0|[1-9][0-9]{0,76})\Z")]
Bytes = Annotated[str, Meta(pattern=rf"\A[0-9a-f]{{{2 * PROOF_BYTES}}}\Z")]
Side = Annotated[int, Meta(ge=1, le=limits.SIDE_MAX)]
KEYS_MAX = 256
Verify = Callable[[VerificationKey, Proof, Sequence[int]], bool]


class ProvedTile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tile of the task's result, and its proof: A, B and C as hex (docs/proofs.md). The other fields are those of
    `proofs.statement.Statement`."""

    index: Annotated[int, Meta(ge=0, le=1 << 24)]
    rows: Side
    k: Side
    cols: Side
    a: Hash
    b: Hash
    c: Hash
    input_commit: Signal
    result_digest: Signal
    proof: Bytes


class Proved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """lease: whose result was proved. The other fields are those of `proof.verified`."""

    lease: Name
    circuit: Name
    version: Name
    vk_hash: Hash
    root: Hash
    nonce: Hash
    tiles: Annotated[int, Meta(ge=1, le=1 << 24)]
    checked: Annotated[int, Meta(ge=1, le=limits.PROOF_TILES_MAX)]
    proofs: Annotated[list[ProvedTile], Meta(min_length=1, max_length=limits.PROOF_TILES_MAX)]


def proved_of(event: ev.ProofVerified, statements: bytes, proofs: bytes) -> Proved:
    """From the log's event and its two blobs. ValueError where they do not fit together."""
    stated = msgspec.json.decode(statements, type=list[Statement])
    if len(proofs) != PROOF_BYTES * len(stated):
        raise ValueError(f"{len(stated)} statements, and {len(proofs)} bytes of proofs")
    proved = [
        ProvedTile(**msgspec.structs.asdict(s), proof=proofs[PROOF_BYTES * at : PROOF_BYTES * (at + 1)].hex())
        for at, s in enumerate(stated)
    ]
    named = {name: getattr(event, name) for name in Proved.__struct_fields__ if name != "proofs"}
    return Proved(**named, proofs=proved)


class ProofChecker:
    """keys: canonical texts by hash, as the receipt brings them. verify: another verifier, as `pure.verify`."""

    def __init__(self, keys: Mapping[str, Any], verify: Verify | None = None) -> None:
        self._texts, self._verify = keys, verify
        self._keys: dict[str, VerificationKey] = {}
        self._handles: dict[str, int] = {}
        self._verifier: Any = None

    def problems(self, task: TaskStatement) -> list[str]:
        """What is wrong with the proofs of a task's statement; its other fields are checked elsewhere."""
        proved = task.proof
        assert proved is not None
        if task.kind != "matmul" or task.pre is not None:
            return ["only products of int8 matrices are proved"]
        try:
            worker = next(entry.worker for entry in task.workers if entry.lease == proved.lease)
        except StopIteration:
            return [f"lease {proved.lease}, whose result was proved, is none of those credited"]
        terms = Terms(
            task.task,
            proved.lease,
            worker,
            task.result.digest,
            *(getattr(proved, name) for name in Terms._fields[4:]),
        )
        try:
            key = self._key(proved.vk_hash)
            circuit = Circuit.named(proved.circuit)
            grid = grid_of(circuit, task.tile[1], task.tile[3])
            asked = drawn(terms)
        except ValueError as error:
            return [str(error)]
        if grid.count != proved.tiles:
            return [f"{proved.tiles} tiles, where circuit {proved.circuit} makes {grid.count} of this result"]
        if [tile.index for tile in proved.proofs] != asked:
            return ["it does not prove just the tiles that were drawn"]
        k = task.operands["a"].cols
        if k > circuit.k:
            return [f"circuit {circuit.name} has no room for an inner length of {k}"]
        problems = _unbound(task, proved)
        for tile in proved.proofs:
            place: Tile = grid.tile(tile.index)
            if (tile.rows, tile.k, tile.cols) != (place.rows, k, place.cols):
                problems.append(f"tile {tile.index} is {tile.rows}×{tile.k}×{tile.cols}: there is none like this")
            elif not self._holds(terms, key, proved.vk_hash, tile):
                problems.append(f"the proof of tile {tile.index} does not hold")
        return problems

    def development(self, vk_hash: str) -> bool:
        """Whether the key says that its randomness is known."""
        return self._key(vk_hash).dev

    def _key(self, vk_hash: str) -> VerificationKey:
        known = self._keys.get(vk_hash)
        if known is None:
            text = self._texts.get(vk_hash)
            if not isinstance(text, str) or blake3(text.encode()).hexdigest() != vk_hash:
                raise ValueError(f"the receipt does not bring the verification key {vk_hash}")
            known = self._keys[vk_hash] = parse_vkey(text.encode())
        return known

    def _holds(self, terms: Terms, key: VerificationKey, vk_hash: str, tile: ProvedTile) -> bool:
        stated = Statement(*msgspec.structs.astuple(tile)[:-1])
        try:
            publics = list(publics_of(terms, stated))
            proof = proof_of_wire(bytes.fromhex(tile.proof))
            if self._verify is not None:
                return self._verify(key, proof, publics)
            if self._verifier is None:
                from shardy_common.proofs.verifier import Verifier  # only here: most receipts have no proof

                self._verifier = Verifier()
            if vk_hash not in self._handles:
                self._handles[vk_hash] = self._verifier.add_key(key)
            return bool(self._verifier.verify(self._handles[vk_hash], proof, publics))
        except ValueError:
            return False


def _unbound(task: TaskStatement, proved: Proved) -> list[str]:
    """Digests of tiles that are not of what the receipt is about, as far as it holds what they follow from."""
    problems = []
    for tile in proved.proofs:
        for name, rows, digest in (("a", tile.rows, tile.a), ("b", tile.cols, tile.b)):
            whole = task.operands[name]
            if whole.rows == rows and whole.digest != digest:
                problems.append(f"tile {tile.index} is of another operand {name}")
    if len(proved.proofs) == proved.tiles:
        leaves = [tiles.leaf_of(t.index, out_len(t.rows, t.cols), bytes.fromhex(t.c)) for t in proved.proofs]
        if merkle.root(leaves).hex() != proved.root:
            problems.append("the root is not that of the tiles")
        if proved.tiles == 1 and proved.proofs[0].c != task.result.digest:
            problems.append("the tile is not the result")
    return problems


def keys_of(document: dict[str, Any]) -> Mapping[str, Any]:
    """The verification keys that a receipt brings: canonical text by hash. ValueError for anything else."""
    keys = document.get("keys", {})
    if not isinstance(keys, dict) or len(keys) > KEYS_MAX or not all(isinstance(text, str) for text in keys.values()):
        raise ValueError(f"keys is a map from hashes to texts of verification keys, {KEYS_MAX} at most")
    return keys
