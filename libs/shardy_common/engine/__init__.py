"""The compute engine: one WebAssembly module that browser tabs and native workers run alike (docs/engine-abi.md).

`Engine` is the binding; `reference` is a slow NumPy oracle that knows nothing of the module.
"""

from __future__ import annotations

from .binding import Engine, PackedB
from .module import MANIFEST_PATH, MODULE_PATH, Buffer, module_bytes

__all__ = ["MANIFEST_PATH", "MODULE_PATH", "Buffer", "Engine", "PackedB", "module_bytes"]
