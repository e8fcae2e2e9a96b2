"""A submitted job: its state, waiting for it, following it, and its result."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from shardy_client.arrays import FloatProduct, NpyReader, Quantised, check_npy
from shardy_client.errors import InvalidInput, JobCancelled, JobFailed, JobTimeout, Refused
from shardy_client.files import SUFFIX, safetensors_head, split, whole_file
from shardy_client.follow import statuses
from shardy_client.progress import Meter, OnProgress, Progress
from shardy_client.transport import WAIT_S_MAX, Http
from shardy_client.upload import OnTransfer, Transfer, silent

ENDED = ("completed", "failed", "cancelled")
LAG_S = (0.1, 0.3, 1.0, 2.0)  # for a gateway that takes over to learn of a job that another one was given

__all__ = ["ENDED", "AsyncJob", "OnProgress", "Progress"]


class AsyncJob:
    """Handle of a job; `await job` gives its result. `last`: its status as it was last seen."""

    def __init__(self, http: Http, status: dict[str, Any], *, parts: bool = False) -> None:
        if not isinstance(status.get("id"), str) or not isinstance(status.get("state"), str):
            raise Refused("the mesh's answer holds no job; is the address right?")
        self._http = http
        self._parts = parts
        self._meter = Meter()
        self.last = status
        self.id: str = status["id"]

    def __repr__(self) -> str:
        return f"<job {self.id} {self.last.get('state')}>"

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()

    @property
    def ended(self) -> bool:
        """Whether it was over when last seen."""
        return self.last["state"] in ENDED

    @property
    def usage(self) -> dict[str, Any]:
        """What was verified of it when it was last seen: {"ops", "ops_replicas"}."""
        return dict(self.last.get("usage") or {"ops": 0, "ops_replicas": 0})

    async def status(self, wait_s: float = 0) -> dict[str, Any]:
        """Its status now, or when it ends within wait_s seconds."""
        params = {"wait": round(wait_s, 3)} if wait_s > 0 else {}
        for lag_s in (*LAG_S, None):
            try:
                self.last = await self._http.json("GET", f"/v1/jobs/{self.id}", params=params)
                return self.last
            except Refused as error:
                if error.status != 404 or not self._http.moved or lag_s is None:
                    raise
                await asyncio.sleep(lag_s)
        raise AssertionError("the last lag ends the loop")

    async def progress(self) -> Progress:
        """How far it is now."""
        await self.status()
        return self._measured()

    async def cancel(self) -> dict[str, Any]:
        """Stop it; the status. Refused when it has ended."""
        try:
            self.last = await self._http.json("POST", f"/v1/jobs/{self.id}/cancel", repeat=True)
        except Refused as error:
            # The answer to a first try may have been lost; then the second finds it stopped, as was asked.
            if error.status != 409 or not error.repeated or (await self.status())["state"] != "cancelled":
                raise
        return self.last

    async def follow(self) -> AsyncGenerator[Progress, None]:
        """How far it is, now and at each change, until it has ended (however it ends; `result` says)."""
        seen = self._measured()
        yield seen
        if self.ended:
            return
        async with aclosing(statuses(self._http, self.id, self.status)) as changes:
            async for status in changes:
                self.last = status
                now = self._measured()
                if now != seen:
                    seen = now
                    yield now
                if self.ended:
                    return

    async def wait(self, progress: OnProgress | None = None, timeout_s: float | None = None) -> dict[str, Any]:
        """Its status once it completed. progress: called with each change.

        JobFailed when it failed, JobCancelled when somebody stopped it; JobTimeout after timeout_s (the job goes on);
        MeshUnreachable when no gateway answers for half a minute.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if self.last["state"] == "failed":
                    await self.status()  # an operator may have let it go on since
                if progress is not None:
                    async with aclosing(self.follow()) as changes:
                        async for now in changes:
                            progress(now)
                while not self.ended:
                    await self.status(WAIT_S_MAX / 2)
        except TimeoutError:
            state = self.last.get("state")
            raise JobTimeout(f"job {self.id} is still {state} after {timeout_s:g} s; it goes on in the mesh") from None
        return self._completed()

    def _measured(self) -> Progress:
        now = Progress.of(self.last)
        return Progress.of(self.last, self._meter.rate(time.monotonic(), now.cells_done))

    def _completed(self) -> dict[str, Any]:
        state, error = self.last["state"], self.last.get("error")
        if state == "completed":
            return self.last
        reason = error if isinstance(error, str) else (error or {}).get("detail") if isinstance(error, dict) else None
        if state == "cancelled":
            raise JobCancelled(f"job {self.id} was cancelled: {reason or 'no reason given'}", self.last)
        raise JobFailed(f"job {self.id} failed: {reason or 'no reason given'}", self.last)

    async def result(
        self,
        part: str | None = None,
        out: NDArray[Any] | None = None,
        *,
        timeout: float | None = None,
        on_transfer: OnTransfer = silent,
    ) -> Any:
        """What it was asked for, once it completed; raises as `wait`.

        int8 products: c int32; float32 ones: d, or a FloatProduct if parts=True was asked for; streams: Quantised.
        part: this part alone (`c`, `a_scale`, `b_scale`, `d`; `q`, `scale`). out: an array to put it into.
        """
        if self.last["state"] != "completed":
            await self.wait(timeout_s=timeout)
        if part is not None:
            return await self._array(part, out, on_transfer)
        if self.last.get("kind") == "stream":
            q, scale = await asyncio.gather(self._array("q", out, on_transfer), self._array("scale", None, on_transfer))
            return Quantised(q, scale)
        names = self.last.get("result") or {}
        if self._parts and "d" in names:
            c, a_scale, b_scale, d = await asyncio.gather(
                self._array("c", None, on_transfer),
                self._array("a_scale", None, on_transfer),
                self._array("b_scale", None, on_transfer),
                self._array("d", out, on_transfer),
            )
            return FloatProduct(c, a_scale, b_scale, d)
        return await self._array("d" if "d" in names else "c", out, on_transfer)

    async def _array(self, part: str, out: NDArray[Any] | None, told: OnTransfer) -> NDArray[Any]:
        reader = NpyReader(out)

        def begin(length: int | None) -> Callable[[bytes], object]:
            nonlocal reader
            reader = NpyReader(out)
            return _counted(reader.feed, part, length, told)

        await self._http.download(self._path(part), begin)
        return reader.finish()

    async def save(
        self, path: str | os.PathLike[str], part: str | None = None, on_transfer: OnTransfer = silent
    ) -> int:
        """Stream one part into a file, once the job completed; the file's bytes. It appears whole or not at all.

        `C.npy`, or `C.safetensors:name`: a file with this one tensor; without a name it is called as the part.
        """
        if not self.ended:
            await self.wait()
        self._completed()
        names = self.last.get("result") or {}
        if part is None:
            part = {"stream": "q"}.get(str(self.last.get("kind")), "d" if "d" in names else "c")
        file, name = split(path)
        with whole_file(file) as target:
            if file.suffix == SUFFIX:
                await self._save_tensor(target, name or part, part, on_transfer)
            else:
                await self._save_npy(target, part, on_transfer)
            return target.seek(0, os.SEEK_END)

    async def _save_npy(self, target: IO[bytes], part: str, told: OnTransfer) -> None:
        def begin(length: int | None) -> Callable[[bytes], object]:
            target.seek(0)
            target.truncate()
            return _counted(target.write, part, length, told)

        await self._http.download(self._path(part), begin)
        check_npy(target)

    async def _save_tensor(self, target: IO[bytes], name: str, part: str, told: OnTransfer) -> None:
        fields = (self.last.get("result") or {}).get(part) or {}
        try:
            dtype, shape = np.dtype(fields["dtype"]), tuple(map(int, fields["shape"]))
            head = safetensors_head(name, dtype, shape)
        except (KeyError, TypeError, ValueError):
            raise Refused(f"the mesh does not say what part {part} of job {self.id} is") from None
        target.write(head)
        target.truncate(len(head) + dtype.itemsize * int(np.prod(shape, dtype=object)))
        target.flush()
        mapped = np.memmap(target, dtype, "r+", len(head), shape)  # type: ignore[call-overload]
        await self._array(part, mapped, told)
        mapped.flush()

    def _path(self, part: str) -> str:
        parts = self.last.get("result") or {}
        if parts and part not in parts:
            raise InvalidInput(f"job {self.id} has no part {part!r}; it has {', '.join(parts)}")
        return f"/v1/jobs/{self.id}/result/{part}"


def _counted(
    take: Callable[[bytes], object], name: str, length: int | None, told: OnTransfer
) -> Callable[[bytes], object]:
    """`take`, telling how much it was given."""
    done = 0

    def counted(data: bytes) -> None:
        nonlocal done
        take(data)
        done += len(data)
        told(Transfer(name, done, length or 0))

    return counted
