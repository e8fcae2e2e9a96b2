"""Results whose proofs a strict gateway asks for (docs/protocol.md §8), and whether what comes proves them."""

from __future__ import annotations

import gzip
from functools import cache
from typing import Any

import numpy as np
import oracle
from blake3 import blake3
from fake_gateway import ScriptGateway, operand
from proofkit import Files

from shardy_common import ids
from shardy_common.proofs import pure
from shardy_common.proofs.parse import parse_vkey, proof_of_wire
from shardy_common.proofs.signals import Circuit, public_signals
from shardy_common.proofs.statement import Terms, context_of, grid_of

RNG = np.random.default_rng(29)
CIRCUIT = Circuit.named("v2-8x8x8")


@cache
def pack(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def put(gateway: ScriptGateway, data: bytes) -> dict[str, Any]:
    """A file of the mesh: stored packed, and its map."""
    packed = pack(data)
    digest = blake3(packed).hexdigest()
    gateway.blobs[digest] = packed
    return {"d": digest, "l": len(packed), "u": len(data)}


class Product:
    """A result of rows×cols, and the frame that asks for proofs of some of its tiles."""

    def __init__(self, gateway: ScriptGateway, files: Files, name: str, rows: int, cols: int, *tiles: int) -> None:
        self.a, self.b = (RNG.integers(-128, 128, (n, 7), np.int8) for n in (rows, cols))
        self.grid, self.tiles, self.vkey = grid_of(CIRCUIT, rows, cols), tiles, parse_vkey(files.vkey.read_bytes())
        a, b = (operand(gateway.put(x), 0, x.nbytes, *x.shape) for x in (self.a, self.b))
        self.frame: dict[str, Any] = {
            "lease": name,
            "task": f"t-{name}",
            "job": "j1",
            "deadline_ms": 60_000,
            "rows": rows,
            "cols": cols,
            "p": {"dtype": "int8", "k": 7, "a": a, "b": b},
            "circuit": CIRCUIT.name,
            "version": "v1",
            "vk": bytes(range(32)),
            "zkey": put(gateway, files.zkey.read_bytes()),
            "r1cs": put(gateway, files.r1cs.read_bytes()),
            "root": bytes(reversed(range(32))),
            "nonce": b"\x07" * 32,
            "of": self.grid.count,
            "tiles": list(tiles),
        }

    def holds(self, at: int, data: bytes, key: bytes) -> bool:
        """Whether these bytes prove the tile asked for in this place, for the worker with this key."""
        frame, index = self.frame, self.tiles[at]
        terms = Terms(
            frame["task"],
            frame["lease"],
            ids.worker_id(key),
            "",
            frame["circuit"],
            frame["version"],
            frame["vk"].hex(),
            frame["root"].hex(),
            frame["nonce"].hex(),
            frame["of"],
            len(self.tiles),
        )
        tile = self.grid.tile(index)
        a, b = self.a[tile.row0 : tile.row0 + tile.rows], self.b[tile.col0 : tile.col0 + tile.cols]
        parts = (a.tobytes(), b.tobytes(), oracle.matmul(a, b).tobytes())
        context = context_of(terms, index, tile.rows, 7, tile.cols, *(blake3(part).digest() for part in parts))
        return pure.verify(self.vkey, proof_of_wire(data), list(public_signals(CIRCUIT, context, *parts)))
