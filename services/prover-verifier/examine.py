"""Looking at the bytes: roots and challenges of results, and the check of proofs against what the store holds.

Nothing that a worker says is believed: every public signal is computed here from the bytes of A, B and C, so the check
is whether the pairing holds for those.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from blake3 import blake3

from shardy_common import kinds
from shardy_common.blobs import DirectoryStore, MissingBlob
from shardy_common.proofs import tiles
from shardy_common.proofs.parse import PROOF_BYTES, parse_vkey, proof_of_wire
from shardy_common.proofs.signals import Circuit, Signals, public_signals
from shardy_common.proofs.statement import Statement, context_of, drawn, grid_of
from shardy_common.proofs.verifier import BATCH_MAX, Claim, Verifier
from shardy_common.wire.job import JobSpec, Tile
from shardy_prover_verifier.state import Check, Checked, Draw, Drawn

NONCE_BYTES = 32
KEYS_MAX = 64  # prepared: some hundred KiB each
log = logging.getLogger("shardy.prover_verifier")


class Prepared:
    """A `Verifier` with the keys used last. Not thread-safe."""

    def __init__(self) -> None:
        self.verifier = Verifier()
        self._handles: OrderedDict[str, int] = OrderedDict()

    def handle(self, vk: str) -> int:
        handle = self._handles.get(vk)
        if handle is None:
            while len(self._handles) >= KEYS_MAX:
                self.verifier.drop_key(self._handles.popitem(last=False)[1])
            handle = self._handles[vk] = self.verifier.add_key(parse_vkey(vk.encode()))
        self._handles.move_to_end(vk)
        return handle


@dataclass
class Read:
    """A check whose bytes are read: what is stated, the proofs with their signals, and which of them hold."""

    check: Check
    statements: list[Statement]
    claims: list[Claim]
    held: list[bool] = field(default_factory=list)


class Examiner:
    """One thread, one verifier. entropy gives the challenges' nonces."""

    def __init__(self, blobs: DirectoryStore, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._blobs, self._entropy = blobs, entropy
        self._prepared = Prepared()

    def examine(self, work: list[Draw | Check]) -> list[Drawn | Checked]:
        """In the order of what was asked. The pairings of all that is under one key are checked together."""
        read = [self.draw(one) if isinstance(one, Draw) else self._read(one) for one in work]
        waiting = [one for one in read if isinstance(one, Read)]
        for vk in dict.fromkeys(one.check.vk for one in waiting):
            self._pair(vk, [one for one in waiting if one.check.vk == vk])
        return [self._said(one) if isinstance(one, Read) else one for one in read]

    def draw(self, draw: Draw) -> Drawn:
        try:
            c = self._result(draw.spec, draw.tile, draw.digest)
            assert draw.spec.proof is not None
            grid = grid_of(Circuit.named(draw.spec.proof.circuit), draw.tile.rows, draw.tile.cols)
            root = tiles.root(grid, c)
        except (MissingBlob, ValueError) as error:
            return Drawn(draw, missing=f"the result's bytes cannot be read: {error}")
        return Drawn(draw, root.hex(), self._entropy(NONCE_BYTES).hex(), grid.count)

    def _read(self, check: Check) -> Read | Checked:
        """Never raises: bytes that are gone are `missing`, and what is no proof is `wrong`."""
        try:
            statements, publics = self._statements(check)
        except (MissingBlob, ValueError) as error:
            return Checked(check, cause="missing", detail=f"the bytes cannot be read: {error}")
        size = self._blobs.size(check.proofs)
        if size != PROOF_BYTES * len(statements):
            found = "nothing" if size is None else f"{size} bytes"
            return Checked(check, cause="wrong", detail=f"{len(statements)} proofs were asked for, and {found} came")
        handed_in = self._blobs.read(check.proofs)
        try:
            proofs = [proof_of_wire(handed_in[at : at + PROOF_BYTES]) for at in range(0, size, PROOF_BYTES)]
        except ValueError as error:
            return Checked(check, cause="wrong", detail=f"what came is no proof: {error}")
        return Read(check, statements, list(zip(proofs, publics, strict=True)))

    def _pair(self, vk: str, found: list[Read]) -> None:
        """Say of each proof whether it holds, all of them under one key. A wrong one costs the others nothing but time:
        halves are tried until it is found."""
        handle, verifier = self._prepared.handle(vk), self._prepared.verifier
        claims = [claim for one in found for claim in one.claims]
        if len(claims) == 1:
            held = [verifier.verify(handle, *claims[0])]
        else:
            held = [
                holds
                for at in range(0, len(claims), BATCH_MAX)
                for holds in verifier.verify_batch(handle, claims[at : at + BATCH_MAX])
            ]
        for one in found:
            one.held, held = held[: len(one.claims)], held[len(one.claims) :]

    def _said(self, found: Read) -> Checked:
        check, statements = found.check, found.statements
        wrong = [statement for statement, holds in zip(statements, found.held, strict=True) if not holds]
        if wrong:
            named = ", ".join(str(statement.index) for statement in wrong[:8])
            log.warning("task %s: %d of %d proofs do not hold", check.terms.task, len(wrong), len(statements))
            return Checked(check, cause="wrong", detail=f"no proof of tile {named} of {check.terms.tiles}")
        data = msgspec.json.encode(statements)
        digest = blake3(data).hexdigest()
        self._blobs.put([(digest, data)])
        return Checked(check, digest)

    def _statements(self, check: Check) -> tuple[list[Statement], list[Signals]]:
        terms, tile = check.terms, check.tile
        circuit = Circuit.named(terms.circuit)
        c = self._result(check.spec, tile, terms.digest)
        grid = grid_of(circuit, tile.rows, tile.cols)
        statements, publics = [], []
        for index in drawn(terms):
            part = grid.tile(index)
            a = self._rows(check.spec, "a", tile.row0 + part.row0, part.rows)
            b = self._rows(check.spec, "b", tile.col0 + part.col0, part.cols)
            k = check.spec.operands["a"].cols
            data = grid.tile_bytes(index, c)
            digests = (blake3(a).digest(), blake3(b).digest(), blake3(data).digest())
            context = context_of(terms, index, part.rows, k, part.cols, *digests)
            try:
                found = public_signals(circuit, context, a, b, data, self._prepared.verifier.poseidon)
            except ValueError:  # a sum that no product of int8 gives: nothing proves it
                found = Signals(0, 0, 0, 0)
            publics.append(found)
            hexes = [digest.hex() for digest in digests]
            commits = (str(found.input_commit), str(found.result_digest))
            statements.append(Statement(index, part.rows, k, part.cols, *hexes, *commits))
        return statements, publics

    def _result(self, spec: JobSpec, tile: Tile, digest: str) -> bytes:
        c = self._blobs.read(digest)
        wanted = kinds.KINDS[spec.kind].result_bytes(spec, tile.rows, tile.cols)
        if len(c) != wanted:
            raise ValueError(f"it has {len(c)} bytes, not {wanted}")
        return c

    def _rows(self, spec: JobSpec, name: str, row0: int, rows: int) -> bytes:
        operand = spec.operands[name]
        return self._blobs.read(operand.digest, row0 * operand.cols, rows * operand.cols)
