"""What a device must offer: the WebAssembly engine (`wasm.py`) and adapters (`gpu.py`) give the same bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shardy_client.worker.kinds import Operand, Pre

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


class DeviceLost(RuntimeError):
    """The adapter is gone or answers no more; the lease goes back and the engine takes over."""


class Interrupted(RuntimeError):
    """The worker is stopping; the product was left between two slices."""


@dataclass(slots=True, frozen=True)
class Measurement:
    """ms: median time of one product; gops: 10⁹ multiply and add operations a second (2·m·n·k a product)."""

    ms: float
    gops: float
    size: int


class Backend(Protocol):
    """A device. Arrays are C-contiguous; every method may be called from several threads."""

    name: str
    gpu: str | None
    engine: str
    kernels: str

    def matmul(self, a: Int8, b: Int8, key: Hashable = None, out: Int32 | None = None) -> Int32:
        """C[r,c] = A[r,k]·B[c,k]ᵀ, exact. key: names B's content, so that its preparation can be kept."""
        ...

    def preexec(self, x: Float32, operand: Operand, row0: int, pre: Pre, *, keep: bool) -> tuple[Int8, Float32]:
        """q[rows,cols] and scale[rows] of rows `row0…` of an operand; `x` begins with the warm-up rows."""
        ...

    def stop(self) -> None:
        """Make running products end with Interrupted at the next slice."""
        ...


class Kept:
    """Values by key, least recently used out first, bounded by the sum of their sizes in bytes.

    release: called with each value that goes.
    """

    def __init__(self, capacity: int, release: Callable[[Any], None] | None = None) -> None:
        self.capacity = capacity
        self.bytes = 0
        self._release = release
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable) -> Any:
        """The value, now the most recently used; None when it is not kept."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, value: Any, size: int) -> bool:
        """Keep `value`, unless it alone is over the capacity or its key is known; whether it is kept."""
        if size > self.capacity or key in self._values:
            return False
        self._values[key] = (value, size)
        self.bytes += size
        while self.bytes > self.capacity:
            self._drop()
        return True

    def clear(self) -> None:
        """Let go of everything."""
        while self._values:
            self._drop()

    def _drop(self) -> None:
        _, (value, size) = self._values.popitem(last=False)
        self.bytes -= size
        if self._release is not None:
            self._release(value)
