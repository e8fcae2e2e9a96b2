"""Shardy's client: exact, checked products of NumPy arrays on a mesh of browsers and native workers.

    from shardy_client import Mesh
    with Mesh() as mesh:
        c = mesh.matmul(a, b)          # int8 a[m,k], b[k,n] → int32 c[m,n], every element checked
        job = mesh.submit(a, b)        # the same as a future

`AsyncMesh` is the same for asyncio; `shardy_client.worker.NativeWorker` is the other side.
"""

from __future__ import annotations

from shardy_client.arrays import FloatProduct, Operand, PreExec, Quantised
from shardy_client.errors import (
    InvalidInput,
    JobCancelled,
    JobFailed,
    JobTimeout,
    MeshUnreachable,
    Refused,
    ShardyError,
    WorkerStopped,
)
from shardy_client.files import load
from shardy_client.jobs import AsyncJob
from shardy_client.mesh import AsyncMesh
from shardy_client.progress import Progress
from shardy_client.retry import Patience
from shardy_client.sync import Job, Mesh
from shardy_client.upload import Transfer

__all__ = [
    "AsyncJob",
    "AsyncMesh",
    "FloatProduct",
    "InvalidInput",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobTimeout",
    "Mesh",
    "MeshUnreachable",
    "Operand",
    "Patience",
    "PreExec",
    "Progress",
    "Quantised",
    "Refused",
    "ShardyError",
    "Transfer",
    "WorkerStopped",
    "load",
]
