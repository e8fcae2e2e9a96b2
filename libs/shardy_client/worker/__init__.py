"""The native worker: joins a mesh, computes what it is asked, and hands in results (docs/protocol.md).

`state` is the protocol without I/O, `kinds` the arithmetic asked for, `compute` the way from leases to results,
`wasm` and `gpu` the devices, `native` sockets and threads around them.
"""

from __future__ import annotations

from shardy_client.worker.compute import Computer
from shardy_client.worker.native import NativeWorker

__all__ = ["Computer", "NativeWorker"]
