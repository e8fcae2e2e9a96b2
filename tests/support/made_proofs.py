"""Receipts with proofs, for tests: made under development keys whose randomness is known, so they need no circuit.

Who knows the discrete logarithms of a key's points makes a proof of any public signals. That is what a development key
is; here it gives proofs that hold, without anything being computed that they would be of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from blake3 import blake3
from made_keys import NOTE, made_vk
from made_receipts import MESH, Device, Made, operands_of
from mesh_events import JOB

from shardy_common import ids, kinds
from shardy_common.proofs import pure, tiles
from shardy_common.proofs.parse import Proof, R
from shardy_common.proofs.signals import Circuit, Context, public_signals
from shardy_common.proofs.statement import Statement, Terms, drawn, grid_of, publics_of
from shardy_common.receipts import Credited, GrowingRoot, job_statement, task_leaf, task_statement
from shardy_common.receipts.proofs import Proved, ProvedTile
from shardy_common.verifiers import Key, checked_key
from shardy_common.wire import merkle
from shardy_common.wire.job import JobSpec, ProofPlan, Tile

CIRCUIT = Circuit(8, 8, 8)
VERSION = "v1"


def forged(number: int, publics: list[int]) -> Proof:
    """A proof of these signals under `made_vk(number)`: A = 7·G1, B = 9·G2, and the C that makes the pairings equal."""
    alpha, beta, gamma, delta = 100 * number + 1, 2, 3, 4
    signals = 5 + sum((at + 6) * value for at, value in enumerate(publics))
    c = (7 * 9 - alpha * beta - signals * gamma) * pow(delta, -1, R) % R
    curve = pure._curve()

    def g1(times: int) -> tuple[int, int]:
        x, y = curve.normalize(curve.multiply(curve.G1, times))
        return x.n, y.n

    x, y = curve.normalize(curve.multiply(curve.G2, 9))
    b = tuple((int(part.coeffs[0]), int(part.coeffs[1])) for part in (x, y))
    return Proof(g1(7), (b[0], b[1]), g1(c))


def key(number: int, dev: bool = True) -> Key:
    return checked_key(made_vk(number, **({"shardy": NOTE} if dev else {})))


def made_proved(number: int = 1, *, checked: int = 3, dev: bool = True, small: bool = False, text: str = "") -> Made:
    """A job of policy proof: a 20×7 by 12×7 product in tasks of 12 and 8 rows, so of four and two tiles; small: an 8×7
    by 8×7 one, a tile in all. text: what it brings as its key's, in place of the canonical one."""
    rng = np.random.default_rng(9)
    m, n = (8, 8) if small else (20, 12)
    a, b = rng.integers(-128, 128, (m, 7), np.int8), rng.integers(-128, 128, (n, 7), np.int8)
    c = a.astype(np.int32) @ b.astype(np.int32).T
    spec = JobSpec("matmul", operands_of({"a": a, "b": b}), "proof", proof=ProofPlan(CIRCUIT.name, checked))
    device, vk = Device(1), text or key(number, dev).vk
    vk_hash = blake3(vk.encode()).hexdigest()
    statements, root, ops = [], GrowingRoot(), 0
    for at, row0 in enumerate(range(0, m, 12)):
        tile = Tile(row0, min(12, m - row0), 0, n)
        task = ids.task_id(JOB, 0, row0, 10 + at)
        lease = ids.lease_id(task, 0)
        result = c[row0 : row0 + tile.rows].tobytes()
        digest = blake3(result).hexdigest()
        grid = grid_of(CIRCUIT, tile.rows, n)
        terms = Terms(
            task, lease, device.id, digest, CIRCUIT.name, VERSION, vk_hash, tiles.root(grid, result).hex(),
            blake3(f"nonce {at}".encode()).hexdigest(), grid.count, checked,
        )  # fmt: skip
        proofs = []
        for index in drawn(terms):
            stated = _stated(grid, index, a[row0:], b, result)
            proof = forged(number, list(publics_of(terms, stated)))
            values = [getattr(stated, name) for name in Statement.__struct_fields__]
            proofs.append(ProvedTile(*values, proof=proof.wire().hex()))
        leaf = merkle.leaf(lease, blake3(result).digest(), len(result))
        credited = Credited(device.id, device.key.hex(), lease, "e" * 64, "", device.sign([leaf]), 0, 1, [])
        statement = task_statement(
            mesh="shardy", job=JOB, spec=spec, task=task, tile=tile, result=(digest, len(result)), method="proof",
            rounds=0, workers=[credited], verified_ms=2_000 + at, seq=20 + at,
            proved=Proved(lease, *terms[4:], proofs=proofs),
        )  # fmt: skip
        statements.append(statement)
        root.add(task_leaf(statement))
        ops += kinds.KINDS["matmul"].ops(spec, tile.rows, n)
    job = job_statement(
        mesh="shardy", job=JOB, requester="r", spec=spec, tasks=len(statements), tasks_root=root.root(),
        methods={"proof": len(statements)}, ops=ops, submitted_ms=1_000, completed_ms=3_000, seq=50,
    )  # fmt: skip
    keys = {"keys": {vk_hash: vk}}
    receipt: dict[str, Any] = {"statement": job, "signature": MESH.sign(job), "tasks": statements, **keys}
    alone = [{"statement": s, "signature": MESH.sign(s), **keys} for s in statements]
    return Made(receipt, {"a": a, "b": b, "c": c}, alone, [device])


def _stated(grid: tiles.Grid, index: int, a: np.ndarray, b: np.ndarray, result: bytes) -> Statement:
    place = grid.tile(index)
    left, right = a[place.row0 :][: place.rows].tobytes(), b[place.col0 :][: place.cols].tobytes()
    data = grid.tile_bytes(index, result)
    digests = [blake3(part).digest() for part in (left, right, data)]
    context = Context("t", bytes(32), b"n", CIRCUIT.name, VERSION, bytes(32), place.rows, 7, place.cols, b"", *digests)
    found = public_signals(CIRCUIT, context, left, right, data)
    commits = (str(found.input_commit), str(found.result_digest))
    return Statement(index, place.rows, 7, place.cols, *(d.hex() for d in digests), *commits)
