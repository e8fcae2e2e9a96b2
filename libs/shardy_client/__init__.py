"""Shardy's client: exact, checked products of NumPy arrays on a mesh of browsers and native workers.

    from shardy_client import Mesh
    with Mesh() as mesh:
        c = mesh.matmul(a, b)          # int8 a[m,k], b[k,n] → int32 c[m,n], every element checked

`AsyncMesh` is the same for asyncio; `shardy_client.worker.NativeWorker` is the other side.
"""

from __future__ import annotations

from shardy_client.arrays import Operand, PreExec
from shardy_client.errors import (
    InvalidInput,
    JobFailed,
    JobTimeout,
    MeshUnreachable,
    Refused,
    ShardyError,
    WorkerStopped,
)
from shardy_client.jobs import AsyncJob, Progress
from shardy_client.mesh import AsyncMesh, FloatProduct, Quantised
from shardy_client.sync import Job, Mesh

__all__ = [
    "AsyncJob",
    "AsyncMesh",
    "FloatProduct",
    "InvalidInput",
    "Job",
    "JobFailed",
    "JobTimeout",
    "Mesh",
    "MeshUnreachable",
    "Operand",
    "PreExec",
    "Progress",
    "Quantised",
    "Refused",
    "ShardyError",
    "WorkerStopped",
]
