"""`Mesh`: the same as AsyncMesh for programs without an event loop; its requests run on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from numpy.typing import NDArray

from shardy_client.arrays import Operand, PreExec
from shardy_client.errors import ShardyError
from shardy_client.jobs import AsyncJob, OnProgress
from shardy_client.mesh import AsyncMesh, FloatProduct, Matrix, Quantised

T = TypeVar("T")


class _Loop:
    """An event loop on a daemon thread; `run` blocks the caller, and Ctrl-C cancels what it waits for."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="shardy-mesh", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            coroutine.close()
            raise ShardyError("this mesh object was closed")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()


class Job:
    """Handle of a job; see AsyncJob."""

    def __init__(self, job: AsyncJob, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._job, self._run = job, run

    def __repr__(self) -> str:
        return repr(self._job)

    @property
    def id(self) -> str:
        """Its id."""
        return self._job.id

    @property
    def last(self) -> dict[str, Any]:
        """Its status as it was last seen."""
        return self._job.last

    def status(self) -> dict[str, Any]:
        """Its status now."""
        return self._run(self._job.status())

    def wait(self, progress: OnProgress | None = None, timeout_s: float | None = None) -> dict[str, Any]:
        """Its status once it completed; see AsyncJob.wait."""
        return self._run(self._job.wait(progress, timeout_s))

    def result(self, part: str | None = None, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """One part of the result; see AsyncJob.result."""
        return self._run(self._job.result(part, out))

    def save(self, path: Path, part: str | None = None) -> int:
        """Stream one part into a .npy file; its bytes."""
        return self._run(self._job.save(path, part))

    def cancel(self) -> dict[str, Any]:
        """Stop it."""
        return self._run(self._job.cancel())


class Mesh:
    """See AsyncMesh. Use it in a `with`, or call `close`.

    >>> with Mesh() as mesh:                                        # doctest: +SKIP
    ...     c = mesh.matmul(a, b)                                   # exactly a.astype(int) @ b
    """

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        self._mesh = AsyncMesh(url, key)
        self._loop = _Loop()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread."""
        try:
            self._loop.run(self._mesh.aclose())
        except ShardyError:
            return
        self._loop.close()

    def put(self, array: NDArray[Any], *, transpose: bool = False) -> Operand:
        """Store a matrix once and use it in many jobs; see AsyncMesh.put."""
        return self._loop.run(self._mesh.put(array, transpose=transpose))

    def matmul(self, a: Matrix, b: Matrix, **more: Any) -> Any:
        """A·B, checked; arguments and results of AsyncMesh.matmul."""
        product: NDArray[Any] | FloatProduct = self._loop.run(self._mesh.matmul(a, b, **more))
        return product

    def stream(self, x: Matrix, pre: PreExec, **more: Any) -> Quantised:
        """Clamp, smooth and quantise; see AsyncMesh.stream."""
        return self._loop.run(self._mesh.stream(x, pre, **more))

    def submit_matmul(self, a: Matrix, b: Matrix, **more: Any) -> Job:
        """Ask for A·B; a handle."""
        return Job(self._loop.run(self._mesh.submit_matmul(a, b, **more)), self._loop.run)

    def submit_stream(self, x: Matrix, pre: PreExec, **more: Any) -> Job:
        """Ask for pre-execution alone; a handle."""
        return Job(self._loop.run(self._mesh.submit_stream(x, pre, **more)), self._loop.run)

    def job(self, job_id: str) -> Job:
        """A handle of a job that was submitted before."""
        return Job(self._loop.run(self._mesh.job(job_id)), self._loop.run)

    def jobs(self, limit: int = 20, before: str | None = None) -> dict[str, Any]:
        """See AsyncMesh.jobs."""
        return self._loop.run(self._mesh.jobs(limit, before))

    def tasks(self, job_id: str, limit: int = 100) -> dict[str, Any]:
        """See AsyncMesh.tasks."""
        return self._loop.run(self._mesh.tasks(job_id, limit))

    def listing(self, name: str) -> dict[str, Any]:
        """`workers`, `frauds` or `dlq`."""
        return self._loop.run(self._mesh.listing(name))
