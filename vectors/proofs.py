"""Writes vectors/proofs.json: the public signals of proofs, and the tiles that a challenge asks for (docs/proofs.md).

    python vectors/proofs.py            write the file
    python vectors/proofs.py --check    fail if the committed file differs

Packing, contexts, trees and challenges are written here plainly from the document, beside the library and not with it.
Poseidon itself is the library's: circomlib's published hashes are among the cases, and tests hold the library to the
compiled circuits.

    poseidon    inputs                                       → out
    trees       values 1 … count                             → out
    rows        rows, cols, values, circuit_rows, circuit_cols → packed
    bytes       data                                         → packed
    contexts    the fields                                   → message (what is hashed), task_ctx
    signals     circuit, context, a, b, c                    → witness (inputs of the circuit), signals
    tiles       rows, cols, tile_rows, tile_cols, c          → leaves, root, paths
    challenges  root, binding, nonce, tiles, checked         → indices

Field elements are decimal texts; bytes are hex; C is little-endian int32; `task`, `circuit`, `vk_version` are texts.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

from blake3 import blake3

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "libs"))

from shardy_common.proofs.poseidon import P, poseidon  # noqa: E402

PATH = Path(__file__).with_name("proofs.json")
BYTES_FIELDS = ("worker", "nonce", "vk_hash", "seed", "a", "b", "c", "tile")
Case = dict[str, Any]


def noise(name: str, size: int) -> bytes:
    return blake3(name.encode()).digest(size)


def text(value: int) -> str:
    return str(value % P)


def tree(values: list[int]) -> int:
    level = [poseidon(values[at : at + 12]) for at in range(0, len(values), 12)]
    return level[0] if len(level) == 1 else tree(level)


def pack_rows(matrix: list[list[int]], circuit_rows: int, circuit_cols: int) -> list[list[int]]:
    full = [[*row, *[0] * (circuit_cols - len(row))] for row in matrix]
    full += [[0] * circuit_cols] * (circuit_rows - len(full))
    return [
        [sum(full[first + r][j] * 2 ** (31 * r) for r in range(8)) % P for j in range(circuit_cols)]
        for first in range(0, circuit_rows, 8)
    ]


def pack_bytes(data: bytes) -> list[int]:
    return [sum(byte * 256**s for s, byte in enumerate(data[at : at + 31])) for at in range(0, len(data), 31)]


def signed(data: bytes, cols: int) -> list[list[int]]:
    values = [byte - 256 if byte > 127 else byte for byte in data]
    return [values[at : at + cols] for at in range(0, len(values), cols)]


def context(**changed: Any) -> Case:
    return {
        "task": "j06g5m0f7q8r9s0t1v-0-0-00c0de",
        "worker": noise("worker", 32),
        "nonce": noise("nonce", 32),
        "circuit": "v2-8x8x8",
        "vk_version": "2026-01",
        "vk_hash": noise("vk", 32),
        "rows": 8,
        "k": 8,
        "cols": 8,
        "seed": b"",
        "a": noise("a", 32),
        "b": noise("b", 32),
        "c": noise("c", 32),
        "tile": b"",
    } | changed


def message(fields: Case) -> bytes:
    out = b"shardy-task-ctx-v2\0"
    for value in (
        fields["task"].encode("utf-8"),
        fields["worker"],
        fields["nonce"],
        fields["circuit"].encode("utf-8"),
        fields["vk_version"].encode("utf-8"),
        fields["vk_hash"],
        b"".join(fields[name].to_bytes(4, "little") for name in ("rows", "k", "cols")),
        fields["seed"],
        fields["a"],
        fields["b"],
        fields["c"],
        fields["tile"],
    ):
        out += len(value).to_bytes(4, "little") + value
    return out


def task_ctx(fields: Case) -> int:
    return int(hashlib.sha256(message(fields)).hexdigest()[:62], 16)


def shown(fields: Case) -> Case:
    return {name: value.hex() if name in BYTES_FIELDS else value for name, value in fields.items()}


def contexts() -> list[Case]:
    """One, and each of its fields changed by itself."""
    changes: list[tuple[str, Case]] = [
        ("as it is", {}),
        ("another task", {"task": "j06g5m0f7q8r9s0t1v-0-8-00c0de"}),
        ("another worker", {"worker": noise("worker 2", 32)}),
        ("another nonce", {"nonce": noise("nonce 2", 32)}),
        ("a short nonce", {"nonce": b"\x01"}),
        ("another circuit", {"circuit": "v2-16x8x8"}),
        ("another version", {"vk_version": "2026-02"}),
        ("another key", {"vk_hash": noise("vk 2", 32)}),
        ("fewer rows", {"rows": 7}),
        ("a shorter inner length", {"k": 7}),
        ("fewer columns", {"cols": 7}),
        ("a seed", {"seed": b"\x00"}),
        ("another A", {"a": noise("a 2", 32)}),
        ("another B", {"b": noise("b 2", 32)}),
        ("another C", {"c": noise("c 2", 32)}),
        ("A and B exchanged", {"a": noise("b", 32), "b": noise("a", 32)}),
        ("a tile", {"tile": noise("root", 32) + (5).to_bytes(8, "little")}),
        ("beyond ASCII", {"task": "Küche-数"}),
    ]
    cases = []
    for name, changed in changes:
        fields = context(**changed)
        cases.append(
            {"name": name} | shown(fields) | {"message": message(fields).hex(), "task_ctx": text(task_ctx(fields))}
        )
    assert len({case["task_ctx"] for case in cases}) == len(cases)
    return cases


def signals(name: str, circuit: tuple[int, int, int], shape: tuple[int, int, int], a: bytes, b: bytes) -> Case:
    (m, wide, n), (rows, k, cols) = circuit, shape
    left, right = signed(a, k), signed(b, k)
    product = [[sum(x * y for x, y in zip(row, other, strict=True)) for other in right] for row in left]
    c = b"".join(struct.pack(f"<{cols}i", *row) for row in product)
    digests = {key: blake3(data).digest() for key, data in (("a", a), ("b", b), ("c", c))}
    fields = context(circuit=f"v2-{m}x{wide}x{n}", rows=rows, k=k, cols=cols, seed=b"seed", **digests)
    pa, pc = pack_rows(left, m, wide), pack_rows(product, m, n)
    filled = b"".join(b[k * i : k * i + k] + bytes(wide - k) for i in range(cols)) + bytes(wide * (n - cols))
    pb = pack_bytes(filled)
    size = 4 * rows * cols
    commit = poseidon([tree([value for row in pa for value in row]), tree(pb)])
    digest = poseidon([tree([value for row in pc for value in row]), size])
    witness: Any = {"context": text(task_ctx(fields)), "length": text(size)}
    witness |= {
        "a": [list(map(text, row)) for row in pa],
        "b": list(map(text, pb)),
        "c": [list(map(text, row)) for row in pc],
    }
    return {
        "name": name,
        "circuit": fields["circuit"],
        "context": shown(fields),
        "a": a.hex(),
        "b": b.hex(),
        "c": c.hex(),
        "witness": witness,
        "signals": [text(value) for value in (task_ctx(fields), size, commit, digest)],
    }


def all_signals() -> list[Case]:
    def random(name: str, circuit: tuple[int, int, int], shape: tuple[int, int, int]) -> Case:
        rows, k, cols = shape
        return signals(name, circuit, shape, noise(f"A {name}", rows * k), noise(f"B {name}", cols * k))

    low, high = b"\x80" * 64, b"\x7f" * 64
    return [
        random("8×8×8", (8, 8, 8), (8, 8, 8)),
        random("one row, padded", (8, 8, 8), (1, 8, 8)),
        random("smaller every way", (8, 8, 8), (5, 3, 7)),
        random("16×16×16", (16, 16, 16), (16, 16, 16)),
        random("a short and wide one", (8, 384, 8), (7, 384, 5)),
        signals("the most positive", (8, 8, 8), (8, 8, 8), low, low),
        signals("the most negative", (8, 8, 8), (8, 8, 8), low, high),
        signals("zeros", (8, 8, 8), (8, 8, 8), bytes(64), bytes(64)),
    ]


def node(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return blake3(b"\x01" + node(leaves[:split]) + node(leaves[split:])).digest()


def audit_path(leaves: list[bytes], index: int) -> list[bytes]:
    """RFC 9162 §2.1.3.1."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*audit_path(leaves[:split], index), node(leaves[split:])]
    return [*audit_path(leaves[split:], index - split), node(leaves[:split])]


def tiles(rows: int, cols: int, tile_rows: int, tile_cols: int) -> Case:
    c = noise(f"tiles {rows} {cols}", 4 * rows * cols)
    leaves: list[bytes] = []
    for row0 in range(0, rows, tile_rows):
        for col0 in range(0, cols, tile_cols):
            data = b"".join(
                c[4 * (row * cols + col) : 4 * (row * cols + col) + 4]
                for row in range(row0, min(rows, row0 + tile_rows))
                for col in range(col0, min(cols, col0 + tile_cols))
            )
            head = len(leaves).to_bytes(8, "little") + len(data).to_bytes(8, "little")
            leaves.append(blake3(b"\x00shardy-tile-v2\x00" + head + blake3(data).digest()).digest())
    return {
        "rows": rows,
        "cols": cols,
        "tile_rows": tile_rows,
        "tile_cols": tile_cols,
        "c": c.hex(),
        "leaves": [leaf.hex() for leaf in leaves],
        "root": node(leaves).hex(),
        "paths": [[one.hex() for one in audit_path(leaves, index)] for index in range(len(leaves))],
    }


def challenge(tiles: int, checked: int, nonce: bytes) -> Case:
    root, binding = noise("root", 32), noise("binding", 32)
    start = b"shardy-tile-challenge-v2\0" + root
    start += b"".join(len(field).to_bytes(4, "little") + field for field in (binding, nonce))
    stream = blake3(start + tiles.to_bytes(8, "little") + checked.to_bytes(8, "little"))
    found: list[int] = list(range(tiles)) if checked >= tiles else []
    drawn = 0
    while len(found) < min(checked, tiles):
        number = int.from_bytes(stream.digest(8, seek=8 * drawn), "little")
        drawn += 1
        if number < 2**64 // tiles * tiles and number % tiles not in found:
            found.append(number % tiles)
    return {
        "root": root.hex(),
        "binding": binding.hex(),
        "nonce": nonce.hex(),
        "tiles": tiles,
        "checked": checked,
        "indices": sorted(found),
    }


def document() -> Case:
    counting = [list(range(1, count + 1)) for count in range(1, 13)]
    inputs = [*counting, [3, 4], [1, 2, 0, 0, 0], [3, 4, 5, 10, 23], [0], [P - 1] * 12]
    matrix = signed(noise("rows", 15), 5)
    edges = [[2**30 - 1], [1 - 2**30]] * 4
    return {
        "field": str(P),
        "poseidon": [{"inputs": list(map(text, case)), "out": text(poseidon(case))} for case in inputs],
        "trees": [
            {"count": count, "out": text(tree(list(range(1, count + 1))))} for count in (1, 2, 11, 12, 13, 24, 144, 145)
        ],
        "rows": [
            {
                "rows": len(values),
                "cols": len(values[0]),
                "values": [value for row in values for value in row],
                "circuit_rows": m,
                "circuit_cols": n,
                "packed": [list(map(text, row)) for row in pack_rows(values, m, n)],
            }
            for values, m, n in ((matrix, 8, 5), (matrix, 16, 6), (edges, 8, 1))
        ],
        "bytes": [
            {"data": data.hex(), "packed": list(map(text, pack_bytes(data)))}
            for data in (b"\x01", noise("b", 30), noise("b", 31), noise("b", 32), b"\xff" * 62)
        ],
        "contexts": contexts(),
        "signals": all_signals(),
        "tiles": [tiles(8, 8, 8, 8), tiles(9, 17, 4, 8), tiles(5, 6, 2, 3)],
        "challenges": [
            challenge(1, 1, b""),
            challenge(100, 10, b""),
            challenge(100, 10, noise("nonce", 32)),
            challenge(7, 6, b"n"),
            challenge(4, 9, b""),
            challenge(2**24, 5, b""),
        ],
    }


def main() -> int:
    written = json.dumps(document(), indent=1, ensure_ascii=False) + "\n"
    if "--check" in sys.argv[1:]:
        same = PATH.exists() and PATH.read_text(encoding="utf-8") == written
        print("vectors/proofs.json is", "as written" if same else "OUT OF DATE: run make vectors")
        return 0 if same else 1
    PATH.write_text(written, encoding="utf-8")
    print(f"{PATH.name}: {len(written):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
