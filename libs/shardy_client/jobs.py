"""A submitted job: its state, waiting for it, and its result."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shardy_client.arrays import NpyReader
from shardy_client.errors import InvalidInput, JobFailed, JobTimeout, MeshUnreachable, Refused
from shardy_client.transport import WAIT_S_MAX, Http

ENDED = ("completed", "failed", "cancelled")
PROGRESS_S = 0.5
LOST_S_MAX = 30.0


@dataclass(slots=True, frozen=True)
class Progress:
    """How far a job is. cells: elements of the result; tasks_verified counts tasks whose result was checked."""

    state: str
    cells_done: int
    cells: int
    tasks_verified: int
    tasks_active: int
    frauds: int
    waiting_for: str = ""

    @classmethod
    def of(cls, status: dict[str, Any]) -> Progress:
        """From a status of docs/api.md."""
        numbers = status.get("progress") or {}
        done, cells, verified, active = (
            int(numbers.get(name) or 0) for name in ("cells_done", "cells", "tasks_verified", "tasks_active")
        )
        frauds, waiting = len(status.get("frauds") or ()), str(status.get("waiting_for") or "")
        return cls(str(status.get("state")), done, cells, verified, active, frauds, waiting)


OnProgress = Callable[[Progress], None]


class AsyncJob:
    """Handle of a job. `last`: its status as it was last seen."""

    def __init__(self, http: Http, status: dict[str, Any]) -> None:
        if not isinstance(status.get("id"), str) or not isinstance(status.get("state"), str):
            raise Refused("the mesh's answer holds no job; is the address right?")
        self._http = http
        self.last = status
        self.id: str = status["id"]

    def __repr__(self) -> str:
        return f"<job {self.id} {self.last.get('state')}>"

    @property
    def ended(self) -> bool:
        """Whether it was over when last seen."""
        return self.last["state"] in ENDED

    async def status(self) -> dict[str, Any]:
        """Its status now."""
        self.last = await self._http.json("GET", f"/v1/jobs/{self.id}")
        return self.last

    async def cancel(self) -> dict[str, Any]:
        """Stop it; the status."""
        self.last = await self._http.json("POST", f"/v1/jobs/{self.id}/cancel")
        return self.last

    async def wait(self, progress: OnProgress | None = None, timeout_s: float | None = None) -> dict[str, Any]:
        """Its status once it completed. progress: called with each change.

        JobFailed when it failed or was cancelled; JobTimeout after timeout_s (the job goes on); MeshUnreachable when
        the mesh stays away for half a minute.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        seen: Progress | None = None
        lost_since: float | None = None
        while True:
            now = Progress.of(self.last)
            if progress is not None and now != seen:
                progress(now)
                seen = now
            if self.ended:
                return self._completed()
            left = WAIT_S_MAX / 2 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise JobTimeout(f"job {self.id} is still {now.state} after {timeout_s:g} s; it goes on in the mesh")
            wait_s = min(left, WAIT_S_MAX / 2, PROGRESS_S if progress is not None else WAIT_S_MAX)
            try:
                self.last = await self._http.json("GET", f"/v1/jobs/{self.id}", params={"wait": round(wait_s, 3)})
                lost_since = None
            except MeshUnreachable:
                # A gateway that restarts loses no job: ask again before giving up.
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > LOST_S_MAX:
                    raise
                await asyncio.sleep(0.5)

    def _completed(self) -> dict[str, Any]:
        state, error = self.last["state"], self.last.get("error")
        if state == "completed":
            return self.last
        reason = error if isinstance(error, str) else (error or {}).get("detail") if isinstance(error, dict) else None
        raise JobFailed(
            f"job {self.id} {'was cancelled' if state == 'cancelled' else 'failed'}: {reason or 'no reason given'}",
            self.last,
        )

    async def result(self, part: str | None = None, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """One part of the result (`c`, `a_scale`, `b_scale`, `d`; `q`, `scale`), streamed into a new array or `out`.

        part None: the first one. Refused until the job has completed.
        """
        reader = NpyReader(out)
        async with self._http.stream(f"/v1/jobs/{self.id}/result/{self._part(part)}") as response:
            async for data in response.aiter_bytes():
                reader.feed(data)
        return reader.finish()

    async def save(self, path: Path, part: str | None = None, received: Callable[[int], None] | None = None) -> int:
        """Stream one part into `path` as .npy; its bytes. The file appears whole or not at all.

        received: called with the number of bytes of each piece.
        """
        try:
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent or Path())
        except OSError as error:
            raise InvalidInput(f"cannot write {path}: {error.strerror}") from None
        size = 0
        try:
            # mkstemp makes files for nobody else; a result is an ordinary file.
            os.chmod(name, 0o666 & ~_umask())
            with os.fdopen(handle, "wb") as file:
                async with self._http.stream(f"/v1/jobs/{self.id}/result/{self._part(part)}") as response:
                    async for data in response.aiter_bytes():
                        file.write(data)
                        size += len(data)
                        if received is not None:
                            received(len(data))
            os.replace(name, path)
        except OSError as error:
            raise InvalidInput(f"cannot write {path}: {error.strerror or error}") from None
        finally:
            Path(name).unlink(missing_ok=True)
        return size

    def _part(self, part: str | None) -> str:
        parts = self.last.get("result") or {}
        if part is None:
            first = {"stream": "q"}.get(str(self.last.get("kind")), "c")
            return first if first in parts or not parts else next(iter(parts))
        if parts and part not in parts:
            raise InvalidInput(f"job {self.id} has no part {part!r}; it has {', '.join(parts)}")
        return part


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
