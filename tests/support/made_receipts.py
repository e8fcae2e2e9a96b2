"""Real receipts for tests: workers with keys of their own that sign frames, and a mesh that signs what they did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mesh_events import JOB, PRE

from shardy_common import ids, kinds
from shardy_common.receipts import Credited, GrowingRoot, Signer, Tree, job_statement, task_leaf, task_statement
from shardy_common.wire import merkle
from shardy_common.wire.job import JobSpec, Operand, Tile

MESH = Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


class Device:
    """A worker that can sign: `frame` makes the events' sig, batch leaves and indices for its results."""

    def __init__(self, seed: int) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.key = self._private.public_key().public_bytes_raw()
        self.id = ids.worker_id(self.key)

    def sign(self, leaves: list[bytes]) -> str:
        return self._private.sign(merkle.RESULTS_TAG + merkle.root(leaves)).hex()


@dataclass
class Made:
    """A job's receipt, with the arrays that it is about and the task statements by themselves, signed."""

    receipt: dict[str, Any]
    arrays: dict[str, np.ndarray]
    tasks: list[dict[str, Any]]
    devices: list[Device] = field(default_factory=list)


def operands_of(arrays: dict[str, np.ndarray]) -> dict[str, Operand]:
    return {n: Operand(blake3(x.tobytes()).hexdigest(), str(x.dtype), *x.shape) for n, x in arrays.items()}


def made(
    kind: str = "matmul",
    *,
    floats: bool = False,
    policy: str = "quorum",
    method: str = "quorum",
    rounds: int = 0,
    replicas: int = 2,
    signed: bool = True,
    rows: int = 3,
) -> Made:
    """A job of several tiles in two column bands (one, for a stream), tile by tile of `rows` rows. The bytes are
    arbitrary: a receipt is about which bytes they are. Results of a worker travel in frames of three."""
    rng = np.random.default_rng(5)
    arrays: dict[str, np.ndarray]
    if kind == "stream":
        x = rng.random((7, 5), np.float32)
        spec = JobSpec("stream", operands_of({"x": x}), policy, pre=PRE)
        arrays = {"x": x, "scale": rng.random(7, np.float32), "q": rng.integers(-127, 128, (7, 5), np.int8)}
        bands = [(0, 5)]
    else:
        dtype = np.float32 if floats else np.int8
        a, b = (rng.integers(-9, 9, shape).astype(dtype) for shape in ((7, 4), (5, 4)))
        spec = JobSpec("matmul", operands_of({"a": a, "b": b}), policy, pre=PRE if floats else None)
        arrays = {"a": a, "b": b, "c": rng.integers(-99, 99, (7, 5), np.int32)}
        if floats:
            arrays |= {"a_scale": rng.random(7, np.float32), "b_scale": rng.random(5, np.float32)}
        bands = [(0, 2), (2, 3)]
    tiles = [Tile(at, min(rows, 7 - at), col0, cols) for col0, cols in bands for at in range(0, 7, rows)]
    results = [tile_bytes(tile, kind, arrays) for tile in tiles]
    names = [ids.task_id(JOB, tile.col0, tile.row0, 10 + i) for i, tile in enumerate(tiles)]
    devices = [Device(seed) for seed in range(1, replicas + 1)]
    credited: list[list[Credited]] = [[] for _ in tiles]
    for attempt, device in enumerate(devices):
        leases = [ids.lease_id(name, attempt) for name in names]
        leaves = [merkle.leaf(n, blake3(r).digest(), len(r)) for n, r in zip(leases, results, strict=True)]
        for start in range(0, len(tiles), 3):
            frame = Tree(leaves[start : start + 3])
            sig = device.sign(leaves[start : start + 3])
            for i in range(frame.count):
                path = [h.hex() for h in frame.path(i)]
                place = (sig, i, frame.count, path) if signed else ("", 0, 1, [])
                lease = leases[start + i]
                credited[start + i].append(Credited(device.id, device.key.hex(), lease, "e" * 64, "", *place))
    statements, root, ops = [], GrowingRoot(), 0
    for i, tile in enumerate(tiles):
        statement = task_statement(
            mesh="shardy", job=JOB, spec=spec, task=names[i], tile=tile,
            result=(blake3(results[i]).hexdigest(), len(results[i])), method=method, rounds=rounds,
            workers=credited[i], verified_ms=2_000 + i, seq=20 + i,
        )  # fmt: skip
        statements.append(statement)
        root.add(task_leaf(statement))
        ops += kinds.KINDS[kind].ops(spec, tile.rows, tile.cols)
    statement = job_statement(
        mesh="shardy", job=JOB, requester="r", spec=spec, tasks=len(tiles), tasks_root=root.root(),
        methods={method: len(tiles)}, ops=ops, submitted_ms=1_000, completed_ms=3_000, seq=50,
    )  # fmt: skip
    receipt = {"statement": statement, "signature": MESH.sign(statement), "tasks": statements}
    return Made(receipt, arrays, [{"statement": s, "signature": MESH.sign(s)} for s in statements], devices)


def tile_bytes(tile: Tile, kind: str, arrays: dict[str, np.ndarray]) -> bytes:
    """Result bytes as docs/protocol.md §4 lays them out."""
    down, across = np.s_[tile.row0 : tile.row0 + tile.rows], np.s_[tile.col0 : tile.col0 + tile.cols]
    if kind == "stream":
        return arrays["scale"][down].tobytes() + arrays["q"][down].tobytes()
    head = b""
    if "a_scale" in arrays:
        head = arrays["a_scale"][down].tobytes() + arrays["b_scale"][across].tobytes()
    return head + arrays["c"][down, across].tobytes()


def signed_again(receipt: dict[str, Any]) -> dict[str, Any]:
    """The same document with the mesh's signature over what it says now: a mesh that lies."""
    return {**receipt, "signature": MESH.sign(receipt["statement"])}
