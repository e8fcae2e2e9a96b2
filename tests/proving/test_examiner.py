"""Many checks at once, with real proofs in a real store: each gets what it would get alone, and a key is used once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from blake3 import blake3
from made_proofs import CIRCUIT, VERSION, forged, key
from made_receipts import Device, operands_of

from shardy_common import ids
from shardy_common.blobs import DirectoryStore
from shardy_common.proofs.statement import Statement, Terms, publics_of
from shardy_common.wire.job import JobSpec, ProofPlan, Tile
from shardy_prover_verifier.examine import Examiner
from shardy_prover_verifier.state import Check, Draw

TILES = 3


@pytest.fixture
def blobs(tmp_path: Path) -> Any:
    store = DirectoryStore(tmp_path)
    yield store
    store.close()


def stored(blobs: DirectoryStore, data: bytes) -> str:
    digest = blake3(data).hexdigest()
    blobs.put([(digest, data)])
    return digest


class Case:
    """A 16×7 by 12×7 product in one task: four tiles, of which three are drawn, and their proofs under key `number`."""

    def __init__(self, blobs: DirectoryStore, examiner: Examiner, seed: int, number: int = 1) -> None:
        rng = np.random.default_rng(seed)
        a, b = rng.integers(-128, 128, (16, 7), np.int8), rng.integers(-128, 128, (12, 7), np.int8)
        c = (a.astype(np.int32) @ b.astype(np.int32).T).astype("<i4").tobytes()
        for data in (a.tobytes(), b.tobytes(), c):
            stored(blobs, data)
        spec = JobSpec("matmul", operands_of({"a": a, "b": b}), "proof", proof=ProofPlan(CIRCUIT.name, TILES))
        task = ids.task_id(f"j{seed:016d}", 0, 0, seed)
        tile, self.vk, worker = Tile(0, 16, 0, 12), key(number), Device(seed + 1).id
        lease, digest = ids.lease_id(task, 0), blake3(c).hexdigest()
        drawn = examiner.draw(Draw(task, "j", spec, tile, lease, worker, digest, VERSION, self.vk.vk_hash))
        assert not drawn.missing and drawn.tiles == 4
        terms = Terms(
            *(task, lease, worker, digest, CIRCUIT.name, VERSION, self.vk.vk_hash),
            *(drawn.root, drawn.nonce, drawn.tiles, TILES),
        )
        self.check = Check(task, "j", spec, tile, terms, "", self.vk.vk)
        statements, _ = examiner._statements(self.check)
        made = [forged(number, list(publics_of(terms, stated))).wire() for stated in statements]
        self.proofs = b"".join(made)
        self.drawn = [stated.index for stated in statements]

    def with_proofs(self, blobs: DirectoryStore, data: bytes) -> Check:
        values = {name: getattr(self.check, name) for name in Check.__slots__}
        return Check(**{**values, "proofs": stored(blobs, data)})


def test_each_gets_what_it_would_get_alone(blobs: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    examiner = Examiner(blobs)
    good = [Case(blobs, examiner, seed, number) for seed, number in ((1, 1), (2, 2), (3, 1), (4, 2), (5, 1))]
    work = [case.with_proofs(blobs, case.proofs) for case in good]
    second = good[2]
    exchanged = second.proofs[256:512] + second.proofs[:256] + second.proofs[512:]
    work.insert(1, second.with_proofs(blobs, exchanged))
    work.insert(3, good[1].with_proofs(blobs, good[3].proofs))  # right ones, of another task
    work.insert(4, good[0].with_proofs(blobs, good[0].proofs[:-1]))
    work.insert(5, good[0].with_proofs(blobs, b"\xff" * 256 * TILES))
    gone = Check(**{**{n: getattr(work[0], n) for n in Check.__slots__}, "proofs": "0" * 64})
    work.insert(6, gone)
    alone = [examiner.examine([one])[0] for one in work]
    batches: list[int] = []
    verify_batch = type(examiner._prepared.verifier).verify_batch

    def counted(self: Any, handle: int, claims: Any) -> list[bool]:
        batches.append(len(claims))
        return verify_batch(self, handle, claims)

    monkeypatch.setattr(type(examiner._prepared.verifier), "verify_batch", counted)
    together = examiner.examine(list(work))
    assert together == alone
    wrong = [at for at, found in enumerate(together) if found.cause == "wrong"]  # type: ignore[union-attr]
    assert wrong == [1, 3, 4, 5, 6]
    details = [together[at].detail for at in wrong]  # type: ignore[union-attr]
    assert details[0] == f"no proof of tile {second.drawn[0]}, {second.drawn[1]} of 4"
    assert details[1] == f"no proof of tile {', '.join(map(str, good[1].drawn))} of 4"
    assert details[2] == "3 proofs were asked for, and 767 bytes came" and "nothing came" in details[4]
    assert sorted(batches) == [3 * 3, 4 * 3 + 3], "one call for each key"
    for at, case in zip((0, 2, 7, 8, 9), good, strict=True):
        found = together[at]
        statements = msgspec.json.decode(blobs.read(found.statements), type=list[Statement])  # type: ignore[union-attr]
        assert [stated.index for stated in statements] == case.drawn


def test_bytes_that_are_gone_are_nobodys_fault(blobs: DirectoryStore) -> None:
    examiner = Examiner(blobs)
    case = Case(blobs, examiner, 1)
    terms = case.check.terms._replace(digest="ab" * 32)
    values = {name: getattr(case.with_proofs(blobs, case.proofs), name) for name in Check.__slots__}
    (found,) = examiner.examine([Check(**{**values, "terms": terms})])
    assert found.cause == "missing" and "cannot be read" in found.detail  # type: ignore[union-attr]
