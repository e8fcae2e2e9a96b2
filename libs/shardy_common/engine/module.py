"""The engine module, loaded once per process, and one instance of it with its linear memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import wasmtime
from numpy.typing import NDArray

from .calls import bind

MODULE_PATH = Path(__file__).with_name("shardy_engine.wasm")
MANIFEST_PATH = Path(__file__).with_name("manifest.json")
ABI = 1

_ADDRESS = 0xFFFF_FFFF  # wasmtime hands i32 out signed; addresses and sizes are unsigned

_REASONS = {
    -1: "bad argument",
    -2: "too large: k is at most 65,535 and one array under 2**31 bytes",
    -3: "bounds must be finite, lo < hi, and within ±2**126",
}


@cache
def module_bytes() -> bytes:
    """The committed module."""
    return MODULE_PATH.read_bytes()


def wasm_engine(*, disk_cache: bool = True, wide_arithmetic: bool = False) -> wasmtime.Engine:
    """A compiler set to what browsers have: fixed-width SIMD, and nothing whose results may depend on the machine.

    wide_arithmetic: 64 × 64 → 128 bits in one instruction, which browsers lack.
    """
    config = wasmtime.Config()
    config.wasm_simd = True
    config.wasm_relaxed_simd = False
    config.wasm_wide_arithmetic = wide_arithmetic
    config.cranelift_opt_level = "speed"
    if disk_cache:
        # Compiled code is kept on disk between processes. Without a writable home the module is compiled each time.
        with suppress(wasmtime.WasmtimeError):
            config.cache = True
    return wasmtime.Engine(config)


@cache
def compiled() -> tuple[wasmtime.Engine, wasmtime.Module]:
    """The committed module, compiled once per process; safe to share among threads."""
    engine = wasm_engine()
    return engine, wasmtime.Module(engine, module_bytes())


class Buffer:
    """A block of an instance's linear memory, freed by `free` or at the end of a `with`.

    ptr: byte offset; nbytes: length. An array given to `Instance.load` also lends its `shape` and `dtype`.
    """

    def __init__(self, owner: Instance, nbytes: int, shape: tuple[int, ...] | None, dtype: np.dtype[Any]) -> None:
        self._owner, self.nbytes, self.dtype = owner, nbytes, dtype
        self.shape: tuple[int, ...] = (nbytes,) if shape is None else shape
        self.ptr = owner.call("alloc_bytes", nbytes) & _ADDRESS
        if self.ptr == 0:
            raise MemoryError(f"the engine's memory has no room for {nbytes:,} bytes")

    @property
    def view(self) -> NDArray[np.uint8]:
        """The block as uint8, without a copy. Valid until memory grows: ask again after any call."""
        return self._owner.bytes_at(self.ptr, self.nbytes)

    @property
    def array(self) -> NDArray[Any]:
        """The block as `dtype` in `shape`, without a copy. Valid until memory grows: ask again after any call."""
        return self.view.view(self.dtype).reshape(self.shape)

    def free(self) -> None:
        """Give the block back; a second call does nothing."""
        if self.ptr:
            self._owner.call("free_bytes", self.ptr, self.nbytes)
            self.ptr = 0

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.free()


class Instance:
    """One instance with its own memory. Not thread-safe: give each thread its own.

    source: another module's bytes, to compare modules; the committed one when absent.
    """

    def __init__(self, source: bytes | None = None) -> None:
        if source is None:
            engine, module = compiled()
        else:
            engine = wasm_engine(disk_cache=False)
            module = wasmtime.Module(engine, source)
        self._store = wasmtime.Store(engine)
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        self._memory: wasmtime.Memory = exports["memory"]  # type: ignore[assignment]
        self._functions: dict[str, Callable[..., Any]] = {
            name: bind(self._store, item) for name, item in exports.items() if isinstance(item, wasmtime.Func)
        }
        if self.call("abi_version") != ABI:
            raise ImportError(f"the engine module speaks ABI {self.call('abi_version')}, this binding speaks {ABI}")

    def call(self, name: str, *arguments: float) -> int:
        """Call an export; the result is as the module gives it (signed)."""
        result: int = self._functions[name](*arguments)
        return result

    def checked(self, name: str, *arguments: float) -> int:
        """Call an export that can fail. Raises ValueError, or MemoryError when memory is exhausted."""
        result = self.call(name, *arguments)
        if result == -4:
            raise MemoryError(f"{name}: the engine's memory is exhausted")
        if result < 0:
            raise ValueError(f"{name}: {_REASONS.get(result, result)}")
        return result

    @property
    def memory_bytes(self) -> int:
        """Size of linear memory now; it never shrinks."""
        return int(self._memory.data_len(self._store))

    def bytes_at(self, ptr: int, nbytes: int) -> NDArray[np.uint8]:
        """A zero-copy view of linear memory."""
        if nbytes == 0:
            return np.empty(0, np.uint8)
        if ptr + nbytes > self.memory_bytes:
            raise ValueError("outside the engine's memory")
        base = ctypes.addressof(self._memory.data_ptr(self._store).contents)
        return np.frombuffer(memoryview((ctypes.c_ubyte * nbytes).from_address(base + ptr)), np.uint8)

    def alloc(self, nbytes: int) -> Buffer:
        """A block of `nbytes` bytes, 64-byte aligned, not zeroed. Raises MemoryError."""
        return self.alloc_array((nbytes,), np.uint8)

    def alloc_array(self, shape: tuple[int, ...], dtype: Any) -> Buffer:
        """A block for an array of that shape and dtype. Raises ValueError at 2**31 bytes and more, MemoryError."""
        kind = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if not 0 <= nbytes < 1 << 31:
            raise ValueError(f"one block holds under 2**31 bytes, not {nbytes:,}")
        return Buffer(self, nbytes, shape, kind)

    def load(self, array: NDArray[Any]) -> Buffer:
        """Copy an array into the engine's memory, once."""
        buffer = self.alloc_array(array.shape, array.dtype)
        if array.size:
            buffer.array[...] = array
        return buffer
