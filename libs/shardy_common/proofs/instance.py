"""One instance of the committed proof module, with its own memory: what `Verifier` and `Prover` call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import wasmtime

from shardy_common.engine.calls import bind
from shardy_common.engine.module import wasm_engine

from .parse import PROOF_BYTES, Proof, proof_of_wire

MODULE_PATH = Path(__file__).with_name("verifier.wasm")
MANIFEST_PATH = Path(__file__).with_name("manifest.json")
ABI = 2
UNSATISFIED = -8
REASONS = {
    -1: "a file is cut short or has parts of the wrong length",
    -2: "a file is of another kind, version or field",
    -3: "a number or point is out of range",
    -4: "too large, or too many handles (256 keys, 16 circuits)",
    -5: "the parts do not belong together (number of signals, or files of different circuits)",
    -6: "no such key",
    -7: "not every wire of the circuit follows from its inputs",
    UNSATISFIED: "the inputs break a constraint of the circuit",
}

Bytes = bytes | bytearray | memoryview
_ADDRESS = 0xFFFF_FFFF  # wasmtime hands i32 out signed; addresses are unsigned


@cache
def compiled() -> tuple[wasmtime.Engine, wasmtime.Module]:
    """The committed module, compiled once per process; safe to share among threads."""
    engine = wasm_engine(wide_arithmetic=True)  # the module's field multiplications are made of it
    return engine, wasmtime.Module(engine, MODULE_PATH.read_bytes())


class Instance:
    """Not thread-safe: whoever shares one takes turns. Calls let other threads of Python run.

    source: another module's bytes, to compare modules; the committed one when absent. memory_max: bytes of linear
    memory. After a MemoryError it is of no more use.
    """

    def __init__(self, source: bytes | None = None, memory_max: int | None = None) -> None:
        if source is None:
            engine, module = compiled()
        else:
            engine = wasm_engine(disk_cache=False, wide_arithmetic=True)
            module = wasmtime.Module(engine, source)
        self._store = wasmtime.Store(engine)
        if memory_max is not None:
            self._store.set_limits(memory_size=memory_max)
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        self._memory: wasmtime.Memory = exports["memory"]  # type: ignore[assignment]
        self._calls: dict[str, Callable[..., Any]] = {
            name: bind(self._store, item) for name, item in exports.items() if isinstance(item, wasmtime.Func)
        }
        if self.call("abi_version") != ABI:
            raise ImportError(f"the proof module speaks another ABI than this binding, {ABI}")

    def call(self, name: str, *arguments: int) -> int:
        """Call an export; the result is as the module gives it, signed. MemoryError where memory ran out."""
        try:
            result: int = self._calls[name](*arguments)
        except wasmtime.Trap as trap:
            # Nothing else traps: the module checks what it is given.
            raise MemoryError(f"{name}: the proof module's memory is exhausted") from trap
        return result

    def checked(self, name: str, *arguments: int) -> int:
        """Call an export that can fail. ValueError with what was wrong."""
        return self.passed(name, self.call(name, *arguments))

    def passed(self, name: str, result: int) -> int:
        """The result, if it is none of an error."""
        if result < 0:
            raise ValueError(f"{name}: {REASONS.get(result, result)}")
        return result

    @contextmanager
    def blocks(self, *given: Bytes | int) -> Iterator[list[int]]:
        """Places of blocks that last as long as the `with`: copies of bytes, or room of a number of bytes, not zeroed.

        Empty ones are null pointers. MemoryError where there is no room.
        """
        places: list[tuple[int, int]] = []
        try:
            for item in given:
                size = item if isinstance(item, int) else memoryview(item).nbytes
                places.append((self._alloc(size), size))
                if size and not isinstance(item, int):
                    self._view(places[-1][0], size)[:] = np.frombuffer(item, np.uint8)
            yield [at for at, _ in places]
        finally:
            for at, size in places:
                if size:
                    self.call("free_bytes", at, size)

    def read(self, at: int, size: int) -> bytes:
        return self._view(at, size).tobytes()

    @property
    def memory_bytes(self) -> int:
        """Size of linear memory now; it never shrinks."""
        return int(self._memory.data_len(self._store))

    def _alloc(self, size: int) -> int:
        if size == 0:
            return 0
        at = self.call("alloc_bytes", size) & _ADDRESS
        if at == 0:
            raise MemoryError(f"the proof module's memory has no room for {size:,} bytes")
        return at

    def _view(self, at: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Memory without a copy; valid until the next call."""
        if at + size > self.memory_bytes:
            raise ValueError("outside the module's memory")
        base = ctypes.addressof(self._memory.data_ptr(self._store).contents)
        return np.frombuffer(memoryview((ctypes.c_ubyte * size).from_address(base + at)), np.uint8)


def parse_proof_wire(out: bytes) -> tuple[Proof, list[int]]:
    """What the module writes of a proof: 256 bytes, then 32 for each public signal, all big-endian."""
    signals = [int.from_bytes(out[at : at + 32], "big") for at in range(PROOF_BYTES, len(out), 32)]
    return proof_of_wire(out[:PROOF_BYTES]), signals
