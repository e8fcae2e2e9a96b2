"""`Mesh`: the same as AsyncMesh for programs without an event loop; its requests run on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from numpy.typing import NDArray

from shardy_client.arrays import Operand, PreExec, Quantised
from shardy_client.errors import JobFailed, MeshUnreachable, Refused, ShardyError
from shardy_client.jobs import AsyncJob, OnProgress, Progress
from shardy_client.mesh import AsyncMesh, Matrix, first_wait, held
from shardy_client.retry import Patience
from shardy_client.sync_looks import Looks
from shardy_client.upload import OnTransfer, silent

T = TypeVar("T")
AWAY_S = 1.0  # between looks at a job of a mesh that is away
LOOK_S = 0.05  # `done` asks the mesh no oftener
_log = logging.getLogger("shardy.client")
_END: Any = object()


class Home:
    """An event loop on a daemon thread; `run` blocks the caller, and Ctrl-C cancels what it waits for.

    Callbacks run on a second thread, so that they may use the mesh themselves.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="shardy-mesh", daemon=True)
        self._thread.start()
        self._callbacks = ThreadPoolExecutor(1, "shardy-callbacks")
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Let the coroutine run; its future."""
        if self._loop.is_closed():
            coroutine.close()
            raise ShardyError("this mesh object was closed")
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise ShardyError("on_transfer may not use the mesh: its thread is busy calling it")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result."""
        future = self.begin(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items, taken one by one as the caller asks for them."""

        async def following() -> T:
            return await anext(items, _END)

        async def close() -> None:
            await items.aclose()  # type: ignore[attr-defined]

        try:
            while (item := self.run(following())) is not _END:
                yield item
        finally:
            if not self._loop.is_closed():
                self.run(close())

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Let it run until it ends or this is closed."""

        async def begin() -> None:
            task = asyncio.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self.run(begin())

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call it on the callbacks' thread; what it raises is logged."""

        def safely() -> None:
            try:
                function(*arguments)
            except Exception:
                _log.exception("a callback failed")

        self._callbacks.submit(safely)

    def close(self) -> None:
        """End both threads."""
        if self._loop.is_closed():
            return

        async def cancel() -> None:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
        self._callbacks.shutdown(wait=False, cancel_futures=True)


class Job:
    """Handle of a job, to be used as a `concurrent.futures.Future`; iterate over it to follow its progress.

    `last`: its status as it was last seen. See AsyncJob.
    """

    def __init__(self, job: AsyncJob, home: Home) -> None:
        self._job, self._home = job, home
        self._looked_s = 0.0

    def __repr__(self) -> str:
        return repr(self._job)

    def __iter__(self) -> Iterator[Progress]:
        return self._home.iterate(self._job.follow())

    @property
    def id(self) -> str:
        """Its id."""
        return self._job.id

    @property
    def last(self) -> dict[str, Any]:
        """Its status as it was last seen."""
        return self._job.last

    @property
    def usage(self) -> dict[str, Any]:
        """What was verified of it when it was last seen: {"ops", "ops_replicas"}."""
        return self._job.usage

    def status(self) -> dict[str, Any]:
        """Its status now."""
        return self._home.run(self._job.status())

    def progress(self) -> Progress:
        """How far it is now: fraction, elements, rate, seconds left."""
        return self._home.run(self._job.progress())

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        if not self._job.ended and time.monotonic() - self._looked_s > LOOK_S:
            self.status()
            self._looked_s = time.monotonic()
        return self._job.ended

    def running(self) -> bool:
        """Whether it goes on (or waits for devices)."""
        return not self.done()

    def cancelled(self) -> bool:
        """Whether somebody stopped it."""
        return self.done() and self.last["state"] == "cancelled"

    def cancel(self) -> bool:
        """Stop it. False: it had ended already."""
        try:
            self._home.run(self._job.cancel())
        except Refused as error:
            if error.status != 409:
                raise
            return self.cancelled()
        return True

    def wait(self, progress: OnProgress | None = None, timeout_s: float | None = None) -> dict[str, Any]:
        """Its status once it completed; raises as AsyncJob.wait. progress: called here, with each change."""
        if progress is None:
            return self._home.run(self._job.wait(None, timeout_s))
        changes: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()

        async def wait() -> dict[str, Any]:
            try:
                return await self._job.wait(changes.put, timeout_s)
            finally:
                changes.put(None)

        ended = self._home.begin(wait())
        try:
            while (now := changes.get()) is not None:
                progress(now)
            return ended.result()
        finally:
            ended.cancel()

    def result(
        self,
        timeout: float | None = None,
        *,
        part: str | None = None,
        out: NDArray[Any] | None = None,
        on_transfer: OnTransfer = silent,
    ) -> Any:
        """What it was asked for, once it completed; see AsyncJob.result. JobTimeout after `timeout` seconds."""
        return self._home.run(self._job.result(part, out, timeout=timeout, on_transfer=on_transfer))

    def exception(self, timeout: float | None = None) -> JobFailed | None:
        """Why it has no result, once it ended; None when it has one."""
        try:
            self._home.run(self._job.wait(None, timeout))
        except JobFailed as error:
            return error
        return None

    def add_done_callback(self, function: Callable[[Job], object]) -> None:
        """Call it with this job when it has ended, on a thread of its own."""
        self._home.start(self._call_when_done(function))

    async def _call_when_done(self, function: Callable[[Job], object]) -> None:
        while not self._job.ended:
            try:
                await self._job.wait()
            except JobFailed:
                break
            except MeshUnreachable:
                await asyncio.sleep(AWAY_S)
            except ShardyError as error:
                _log.warning("job %s is no longer watched: %s", self.id, error)
                return
        self._home.call(function, self)

    def save(self, path: str | os.PathLike[str], part: str | None = None, on_transfer: OnTransfer = silent) -> int:
        """Stream one part into a `.npy` or `.safetensors` file once it completed; its bytes."""
        return self._home.run(self._job.save(path, part, on_transfer))


class Mesh(Looks):
    """See AsyncMesh. Use it in a `with`, or call `close`.

    >>> with Mesh() as mesh:                                        # doctest: +SKIP
    ...     c = mesh.matmul(a, b)                                   # exactly a.astype(int) @ b
    """

    def __init__(
        self, url: str | Sequence[str] | None = None, key: str | None = None, *, patience: Patience | None = None
    ) -> None:
        self._mesh = AsyncMesh(url, key, patience=patience)
        self._home = Home()

    @property
    def url(self) -> str:
        """The gateway that answers at present."""
        return self._mesh.url

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the threads. Jobs go on."""
        try:
            self._home.run(self._mesh.aclose())
        except ShardyError:
            return
        self._home.close()

    def put(
        self, array: NDArray[Any], *, transpose: bool = False, name: str = "the array", on_transfer: OnTransfer = silent
    ) -> Operand:
        """Store a matrix once and use it in many jobs; see AsyncMesh.put."""
        return self._home.run(self._mesh.put(array, transpose=transpose, name=name, on_transfer=on_transfer))

    def submit(self, a: Matrix, b: Matrix, **more: Any) -> Job:
        """Ask for A·B and don't wait: a future whose `result()` is what `matmul` would give. See AsyncMesh.submit."""
        return self.submit_matmul(a, b, **more)

    def submit_matmul(self, a: Matrix, b: Matrix, *, on_progress: OnProgress | None = None, **more: Any) -> Job:
        """Ask for A·B; a handle. on_progress runs on the callbacks' thread."""
        told = self._told(on_progress)
        return Job(self._home.run(self._mesh.submit_matmul(a, b, on_progress=told, **more)), self._home)

    def submit_stream(self, x: Matrix, pre: PreExec, *, on_progress: OnProgress | None = None, **more: Any) -> Job:
        """Ask for pre-execution alone; a handle."""
        told = self._told(on_progress)
        return Job(self._home.run(self._mesh.submit_stream(x, pre, on_progress=told, **more)), self._home)

    def _told(self, on_progress: OnProgress | None) -> OnProgress | None:
        return None if on_progress is None else lambda now: self._home.call(on_progress, now)

    def matmul(
        self,
        a: Matrix,
        b: Matrix,
        *,
        progress: OnProgress | None = None,
        timeout_s: float | None = None,
        out: NDArray[Any] | None = None,
        **more: Any,
    ) -> Any:
        """A·B, checked; arguments and results of AsyncMesh.matmul."""
        more["on_held"] = held(None, self._told(progress))
        job = self.submit_matmul(a, b, wait_s=first_wait(progress, timeout_s), **more)
        job.wait(progress, timeout_s)
        return job.result(out=out)

    def stream(
        self,
        x: Matrix,
        pre: PreExec,
        *,
        progress: OnProgress | None = None,
        timeout_s: float | None = None,
        **more: Any,
    ) -> Quantised:
        """Clamp, smooth and quantise; see AsyncMesh.stream."""
        more["on_held"] = held(None, self._told(progress))
        job = self.submit_stream(x, pre, wait_s=first_wait(progress, timeout_s), **more)
        job.wait(progress, timeout_s)
        quantised: Quantised = job.result()
        return quantised

    def job(self, job_id: str) -> Job:
        """A handle of a job that was submitted before."""
        return Job(self._home.run(self._mesh.job(job_id)), self._home)
