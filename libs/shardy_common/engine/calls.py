"""Calls into a module without wasmtime's per-call bookkeeping.

`wasmtime.Func` looks its type up and builds a value object for each argument at every call, which takes longer than
a small product. Here types are looked up once, and arguments are written straight into a C array that is kept.
This uses the binding's lower layer; where a version of wasmtime lacks it, calls go through `wasmtime.Func`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import wasmtime

try:
    from wasmtime import _ffi as ffi

    LOW_LEVEL = all(
        hasattr(ffi, name) for name in ("wasmtime_val_raw_t", "wasmtime_func_call_unchecked", "wasm_trap_t")
    )
except ImportError:  # pragma: no cover
    LOW_LEVEL = False


def bind(store: wasmtime.Store, function: wasmtime.Func, *, low_level: bool = LOW_LEVEL) -> Callable[..., Any]:
    """A callable of numbers for a function of i32 and f32 with at most one result.

    The number of arguments is checked; i32 arguments wrap around at 2³². Raises TypeError for a wrong number or
    kind of argument, wasmtime.WasmtimeError or wasmtime.Trap as `Func` does. Not thread-safe, like its store.
    """
    kind = function.type(store)
    names = [str(item) for item in kind.params]
    results = [str(item) for item in kind.results]
    if not low_level or len(results) > 1 or not set(names + results) <= {"i32", "f32"}:
        return partial(function, store)
    size = max(1, len(names), len(results))
    raw = (ffi.wasmtime_val_raw_t * size)()
    cells = [raw[at] for at in range(size)]
    places = list(zip(cells, names, strict=False))
    callee, unchecked = ctypes.byref(function._func), ffi.wasmtime_func_call_unchecked
    trap_pointer = ctypes.POINTER(ffi.wasm_trap_t)
    context = store._context()

    def call(*arguments: float) -> Any:
        if len(arguments) != len(names):
            raise TypeError(f"expected {len(names)} arguments, got {len(arguments)}")
        for (cell, name), argument in zip(places, arguments, strict=True):
            setattr(cell, name, argument)
        trap = trap_pointer()
        error = unchecked(context, callee, raw, size, ctypes.byref(trap))
        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)
        if trap:
            raise wasmtime.Trap._from_ptr(trap)
        return getattr(cells[0], results[0]) if results else None

    return call
