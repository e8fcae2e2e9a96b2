"""Proofs of results that the mesh asks for (protocol §8): what is asked, the keys, and the prover that is kept.

A proof needs nothing of the result but the operands: each tile that is asked for is computed again, which costs little
beside its proof. So a worker can prove after it reconnected, or started again, with the same key.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from blake3 import blake3

from shardy_client.worker.cache import Key
from shardy_client.worker.kinds import Bytes
from shardy_common import limits
from shardy_common.proofs.parse import Proof
from shardy_common.proofs.signals import Circuit, Context
from shardy_common.proofs.statement import Terms, context_of, grid_of

log = logging.getLogger("shardy.worker")
PACKED_BYTES_MAX = 512 << 20
UNPACKED_BYTES_MAX = 1 << 30
KEPT_BYTES_MAX = 2 << 30  # of packed files in the folder


class ProveError(Exception):
    """This proof cannot be made here. code: one of protocol §5's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class File:
    """A gzip file of the mesh: its digest, its bytes, and how many they are unpacked."""

    digest: str
    size: int
    unpacked: int

    @classmethod
    def of(cls, value: dict[str, Any]) -> File:
        file = cls(value["d"], value["l"], value["u"])
        if not (isinstance(file.digest, str) and len(bytes.fromhex(file.digest)) == 32):
            raise ValueError("a file is named by its digest")
        if not (0 < file.size <= PACKED_BYTES_MAX and 0 < file.unpacked <= UNPACKED_BYTES_MAX):
            raise ValueError(f"a file of {file.size} bytes, {file.unpacked} unpacked")
        return file

    @property
    def key(self) -> Key:
        return (self.digest, 0, self.size)


@dataclass(frozen=True, slots=True)
class Asked:
    """A `prove` frame. a, b: (digest, offset) of the operands' slices; tiles: which, rising."""

    lease: str
    terms: Terms
    circuit: Circuit
    rows: int
    k: int
    cols: int
    a: tuple[str, int]
    b: tuple[str, int]
    zkey: File
    r1cs: File
    tiles: tuple[int, ...]

    @classmethod
    def of(cls, header: dict[str, Any], worker: str) -> Asked:
        """ValueError, KeyError or TypeError where the frame is none."""
        p = header["p"]
        if p["dtype"] != "int8":
            raise ValueError("only products of int8 are proved")
        circuit = Circuit.named(header["circuit"])
        rows, k, cols, total = header["rows"], p["k"], header["cols"], header["of"]
        if (p["a"]["r"], p["b"]["r"]) != (rows, cols) or not 1 <= k <= circuit.k:
            raise ValueError(f"{rows}×{k}×{cols} is not what the operands are, or not what the circuit proves")
        tiles = tuple(header["tiles"])
        grid = grid_of(circuit, rows, cols)
        if grid.count != total or not 1 <= len(tiles) <= limits.PROOF_TILES_MAX:
            raise ValueError(f"{len(tiles)} tiles are asked for of {total}")
        if list(tiles) != sorted(set(tiles)) or not 0 <= tiles[0] <= tiles[-1] < total:
            raise ValueError("tiles are numbers of the grid, rising")
        root, nonce, vk = header["root"], header["nonce"], header["vk"]
        if any(not isinstance(value, bytes) or len(value) != 32 for value in (root, nonce, vk)):
            raise ValueError("root, nonce and vk have 32 bytes each")
        terms = Terms(
            header["task"],
            header["lease"],
            worker,
            "",  # the result's digest is no part of what is proved: its tiles are
            circuit.name,
            header["version"],
            vk.hex(),
            root.hex(),
            nonce.hex(),
            total,
            len(tiles),
        )
        a, b = (p["a"]["d"], p["a"]["o"]), (p["b"]["d"], p["b"]["o"])
        files = File.of(header["zkey"]), File.of(header["r1cs"])
        return cls(header["lease"], terms, circuit, rows, k, cols, a, b, *files, tiles)

    def operands(self, index: int) -> tuple[Key, Key]:
        """The operands' slices that a tile is made of."""
        tile = grid_of(self.circuit, self.rows, self.cols).tile(index)
        return (
            (self.a[0], self.a[1] + tile.row0 * self.k, tile.rows * self.k),
            (self.b[0], self.b[1] + tile.col0 * self.k, tile.cols * self.k),
        )


class Prover(Protocol):
    """What proves in one circuit under one key (shardy_common/proofs/prover.py)."""

    def prove(self, circuit: Circuit, context: Context, a: bytes, b: bytes, c: bytes) -> tuple[Proof, list[int]]: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


MakeProver = Callable[[bytes, bytes], Prover]


class Keys:
    """Packed files in a folder, by digest; those used longest ago go when there are too many."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, file: File) -> bytes | None:
        path = self._folder / file.digest
        try:
            packed = path.read_bytes()
        except OSError:
            return None
        if blake3(packed, max_threads=blake3.AUTO).hexdigest() != file.digest:
            path.unlink(missing_ok=True)
            return None
        path.touch()
        return packed

    def keep(self, file: File, packed: Bytes) -> None:
        """Best effort: a full disk costs a download later."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as part:
                part.write(packed)
            os.replace(part.name, self._folder / file.digest)
            self._trim()
        except OSError as error:
            log.warning("the proving key is not kept: %s", error)

    def _trim(self) -> None:
        files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self._folder.iterdir())
        held = sum(size for _, size, _ in files)
        for _, size, path in files[:-2]:
            if held <= KEPT_BYTES_MAX:
                return
            path.unlink(missing_ok=True)
            held -= size


def unpacked(file: File, packed: Bytes) -> bytes:
    """The file's bytes. ProveError where it unpacks to anything else: never more than it says is unpacked."""
    unpack = zlib.decompressobj(wbits=31)
    try:
        data = unpack.decompress(packed, file.unpacked + 1)
    except zlib.error as error:
        raise ProveError("fetch", f"the proving key cannot be unpacked: {error}") from None
    if len(data) != file.unpacked or not unpack.eof or unpack.unused_data:
        raise ProveError("fetch", f"the proving key does not unpack to {file.unpacked} bytes")
    return data


class Proving:
    """One proof at a time, in a thread of its own; the prover used last is kept, ready for the next."""

    def __init__(self, folder: Path, make: MakeProver) -> None:
        self._keys, self._make = Keys(folder), make
        self._thread = ThreadPoolExecutor(1, "prove")
        self._turn = asyncio.Lock()
        self._held: tuple[tuple[str, str], Prover] | None = None

    async def prove(self, asked: Asked, fetch: Callable[[Key], Any]) -> tuple[bytes, float]:
        """The proofs, 256 bytes each, and the milliseconds that they took. fetch: bytes of a blob of the mesh."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            prover = await self._prover(asked, fetch)
            out, took = bytearray(), 0.0
            for index in asked.tiles:
                a, b = [bytes(await fetch(key)) for key in asked.operands(index)]
                started = time.perf_counter()
                out += await loop.run_in_executor(self._thread, _prove_one, prover, asked, index, a, b)
                took += (time.perf_counter() - started) * 1e3
            return bytes(out), took

    async def _prover(self, asked: Asked, fetch: Callable[[Key], Any]) -> Prover:
        named = (asked.zkey.digest, asked.r1cs.digest)
        if self._held is not None:
            if self._held[0] == named:
                return self._held[1]
            held, self._held = self._held[1], None
            await asyncio.get_running_loop().run_in_executor(self._thread, held.close)
        zkey, r1cs = await self._file(asked.zkey, fetch), await self._file(asked.r1cs, fetch)
        prover = await asyncio.get_running_loop().run_in_executor(self._thread, self._opened, asked, zkey, r1cs)
        self._held = (named, prover)
        return prover

    async def _file(self, file: File, fetch: Callable[[Key], Any]) -> Bytes:
        packed: Bytes | None = await asyncio.to_thread(self._keys.find, file)
        if packed is None:
            packed = await fetch(file.key)
            assert packed is not None
            await asyncio.to_thread(self._keys.keep, file, packed)
        return packed

    def _opened(self, asked: Asked, zkey: Bytes, r1cs: Bytes) -> Prover:
        try:
            return self._make(unpacked(asked.zkey, zkey), unpacked(asked.r1cs, r1cs))
        except (ValueError, MemoryError) as error:
            code = "oom" if isinstance(error, MemoryError) else "internal"
            raise ProveError(code, f"the proving key of {asked.terms.version} does not serve: {error}") from None

    async def aclose(self) -> None:
        """Stop the proof that runs, and end; called once."""
        loop = asyncio.get_running_loop()
        if self._held is not None:
            self._held[1].cancel()
            await loop.run_in_executor(self._thread, self._held[1].close)
        await loop.run_in_executor(None, self._thread.shutdown)


def _prove_one(prover: Prover, asked: Asked, index: int, a: bytes, b: bytes) -> bytes:
    tile = grid_of(asked.circuit, asked.rows, asked.cols).tile(index)
    left = np.frombuffer(a, np.int8).reshape(tile.rows, asked.k).astype(np.float64)
    right = np.frombuffer(b, np.int8).reshape(tile.cols, asked.k).astype(np.float64)
    c = (left @ right.T).astype("<i4").tobytes()  # exact: sums of int8 products stay far below 2⁵³
    digests = (blake3(a).digest(), blake3(b).digest(), blake3(c).digest())
    context = context_of(asked.terms, index, tile.rows, asked.k, tile.cols, *digests)
    try:
        proof, _ = prover.prove(asked.circuit, context, a, b, c)
    except MemoryError as error:
        raise ProveError("oom", str(error) or "out of memory") from None
    except ValueError as error:
        raise ProveError("internal", f"tile {index} cannot be proved: {error}") from None
    return proof.wire()
