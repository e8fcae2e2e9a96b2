"""`AsyncMesh`: exact products and streams on a mesh, from NumPy arrays."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict
from types import TracebackType
from typing import Any, NamedTuple

from numpy.typing import NDArray

from shardy_client.arrays import FloatProduct, Operand, PreExec, Quantised, byte_view, check_product, checked, digest
from shardy_client.errors import InvalidInput, ShardyError
from shardy_client.jobs import AsyncJob
from shardy_client.looks import AsyncLooks
from shardy_client.progress import OnProgress, Progress
from shardy_client.retry import Patience
from shardy_client.transport import WAIT_S_MAX, Http, OnHeld, default_key, default_url, not_told
from shardy_client.upload import OnTransfer, silent, store
from shardy_common.limits import (
    AUDIT_ROUNDS_MAX,
    INLINE_OPERAND_BYTES_MAX,
    LABEL_CHARS_MAX,
    PROOF_TILES_MAX,
    REDUNDANCY_MAX,
    SIDE_MAX,
)
from shardy_common.wire import frame

POLICIES = ("quorum", "audit", "adaptive", "proof")
FRAME_TYPE = "application/vnd.shardy.frame"
IDEMPOTENCY_CHARS_MAX = 128
Matrix = NDArray[Any] | Operand
_log = logging.getLogger("shardy.client")

__all__ = ["POLICIES", "AsyncMesh", "FloatProduct", "Matrix", "Quantised"]


class _Prepared(NamedTuple):
    operand: Operand
    data: memoryview | None
    inline: bool


class AsyncMesh(AsyncLooks):
    """A mesh at `url`, entered with the API key `key`. Defaults: SHARDY_URL, SHARDY_KEY, or `.data/api_key`.

    url: one gateway, or several (a list, or with commas between): when one breaks the next is asked, and jobs go on.
    Use it as `async with AsyncMesh() as mesh`, or call `aclose`.
    """

    def __init__(
        self, url: str | Sequence[str] | None = None, key: str | None = None, *, patience: Patience | None = None
    ) -> None:
        self.http = Http(default_url() if url is None else url, default_key() if key is None else key.strip(), patience)
        self._followers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The gateway that answers at present."""
        return self.http.url

    async def __aenter__(self) -> AsyncMesh:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Jobs go on; nobody is told of their progress any more."""
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        await self.http.aclose()

    # --- operands -------------------------------------------------------------------------------------------

    async def put(
        self,
        array: NDArray[Any],
        *,
        transpose: bool = False,
        name: str = "the array",
        on_transfer: OnTransfer = silent,
    ) -> Operand:
        """Store a matrix once and use it in many jobs. transpose: store its transpose (one copy is made for it).

        A large one goes in pieces; when it breaks off, the next try goes on where it stopped, from any process.
        """
        prepared = await self._prepare(name, array, transpose, inline=False)
        await self._store(name, prepared, on_transfer)
        return prepared.operand

    async def _prepare(self, name: str, array: Matrix, transpose: bool, inline: bool = True) -> _Prepared:
        if isinstance(array, Operand):
            return _Prepared(array, None, False)
        matrix = checked(name, array)
        matrix = matrix.T if transpose else matrix
        if matrix.nbytes <= INLINE_OPERAND_BYTES_MAX:
            data = byte_view(matrix)
            name_hex = "" if inline else digest(data)
        else:
            inline = False
            # Copying and hashing a gigabyte takes a while; other jobs of this client go on meanwhile.
            data, name_hex = await asyncio.to_thread(_hashed, matrix)
        return _Prepared(Operand(name_hex, matrix.dtype.name, *matrix.shape), data, inline)

    async def _store(self, name: str, prepared: _Prepared, told: OnTransfer) -> None:
        if prepared.data is not None:
            await store(self.http, name, prepared.operand.digest, prepared.data, told)

    # --- jobs -----------------------------------------------------------------------------------------------

    async def submit(self, a: Matrix, b: Matrix, **more: Any) -> AsyncJob:
        """Ask for A·B and don't wait: `await` the handle for what `matmul` would give, or `follow` it.

        Arguments of `submit_matmul`.
        """
        return await self.submit_matmul(a, b, **more)

    async def submit_matmul(
        self,
        a: Matrix,
        b: Matrix,
        *,
        policy: str = "quorum",
        redundancy: int = 2,
        audit_rounds: int = 2,
        pre: PreExec | None = None,
        b_layout: str = "kn",
        parts: bool = False,
        label: str = "",
        task_rows: int | None = None,
        proof_tiles: int | None = None,
        proof_circuit: str | None = None,
        wait_s: float = 0,
        idempotency_key: str | None = None,
        on_progress: OnProgress | None = None,
        on_transfer: OnTransfer = silent,
        on_held: OnHeld | None = None,
    ) -> AsyncJob:
        """Ask for A·B; a handle. See `matmul`.

        wait_s: let the mesh answer when it is done, or after so long. idempotency_key: asking again with the same
        one gives the same job, from any process; a fresh one is drawn otherwise. on_progress: called with each change
        until the job ends. on_transfer: called as operands are sent. on_held: called with seconds and words when the
        mesh has too much to do to take the job; it is asked again then, for two minutes in all.
        """
        if b_layout not in ("kn", "nk"):
            raise InvalidInput(f"b_layout is {b_layout!r}; use 'kn' (B is k×n) or 'nk' (B is stored transposed)")
        options = _options(policy, redundancy, audit_rounds, label, task_rows)
        options |= _proof(policy, proof_tiles, proof_circuit)
        left = await self._prepare("A", a, False)
        right = await self._prepare("B", b, b_layout == "kn" and not isinstance(b, Operand))
        check_product(left.operand, right.operand, pre)
        job = {"kind": "matmul", **options}
        if pre is not None:
            job["pre"] = pre.to_json()
        operands = {"a": left, "b": right}
        status = await self._submit(job, operands, wait_s, idempotency_key, on_transfer, held(on_held, on_progress))
        return self._told(AsyncJob(self.http, status, parts=parts), on_progress)

    async def submit_stream(
        self,
        x: Matrix,
        pre: PreExec,
        *,
        redundancy: int = 2,
        label: str = "",
        task_rows: int | None = None,
        wait_s: float = 0,
        idempotency_key: str | None = None,
        on_progress: OnProgress | None = None,
        on_transfer: OnTransfer = silent,
        on_held: OnHeld | None = None,
    ) -> AsyncJob:
        """Ask for pre-execution alone; a handle. See `stream` and `submit_matmul`."""
        options = _options("quorum", redundancy, 2, label, task_rows)
        if not isinstance(pre, PreExec):
            raise InvalidInput("stream needs pre=PreExec(lo, hi)")
        if not isinstance(x, Operand):
            checked("X", x, dtypes=("float32",))
        prepared = await self._prepare("X", x, False)
        if prepared.operand.dtype != "float32":
            raise InvalidInput(f"X is {prepared.operand.dtype}; a stream takes float32")
        job = {"kind": "stream", "pre": pre.to_json(), **options}
        told = held(on_held, on_progress)
        status = await self._submit(job, {"x": prepared}, wait_s, idempotency_key, on_transfer, told)
        return self._told(AsyncJob(self.http, status), on_progress)

    async def _submit(
        self,
        job: dict[str, Any],
        operands: dict[str, _Prepared],
        wait_s: float,
        idempotency_key: str | None,
        told: OnTransfer,
        on_held: OnHeld = not_told,
    ) -> dict[str, Any]:
        headers = {"Idempotency-Key": _idempotency(idempotency_key)}
        segments: list[memoryview] = []
        for name, prepared in operands.items():
            fields = asdict(prepared.operand)
            if prepared.inline and prepared.data is not None:
                del fields["digest"]
                fields["s"] = len(segments)
                segments.append(prepared.data)
            else:
                await self._store(name.upper(), prepared, told)
            job[name] = fields
        params = {"wait": round(min(wait_s, WAIT_S_MAX), 3)} if wait_s > 0 else {}
        # The same key with each try: a gateway that broke off its answer has made the job, and makes no second.
        if segments:
            body = bytes(frame.encode({"t": "job", **job}, segments))
            headers["Content-Type"] = FRAME_TYPE
            sent: dict[str, Any] = {"content": body}
        else:
            sent = {"json": job}
        more = {"params": params, "headers": headers, "repeat": True, "on_held": on_held}
        return await self.http.json("POST", "/v1/jobs", **sent, **more)

    def _told(self, job: AsyncJob, on_progress: OnProgress | None) -> AsyncJob:
        if on_progress is not None:
            follower = asyncio.create_task(_tell(job, on_progress))
            self._followers.add(follower)
            follower.add_done_callback(self._followers.discard)
        return job

    async def matmul(
        self,
        a: Matrix,
        b: Matrix,
        *,
        progress: OnProgress | None = None,
        timeout_s: float | None = None,
        out: NDArray[Any] | None = None,
        **more: Any,
    ) -> Any:
        """A·B, checked. A m×k, B k×n (or n×k with b_layout="nk"); both int8, or both float32 with `pre`.

        int8: the exact int32 product. float32: the dequantised product d, or with parts=True a FloatProduct.
        policy: "quorum" (`redundancy` devices must agree), "audit" (one device, and a Freivalds check of
        `audit_rounds` rounds), "adaptive" (as many answers as the devices' records ask for) or "proof" (one device,
        which proves `proof_tiles` tiles of each task, drawn once its result is there; in `proof_circuit`, or in the
        one that costs least). out: where to put the product.
        Raises InvalidInput, Refused, MeshUnreachable, JobFailed, JobTimeout.
        """
        more["on_held"] = held(None, progress)
        job = await self.submit_matmul(a, b, wait_s=first_wait(progress, timeout_s), **more)
        await job.wait(progress, timeout_s)
        return await job.result(out=out)

    async def stream(
        self,
        x: Matrix,
        pre: PreExec,
        *,
        progress: OnProgress | None = None,
        timeout_s: float | None = None,
        **more: Any,
    ) -> Quantised:
        """Clamp, smooth and quantise float32 X[rows, cols] to a Quantised; raises as `matmul`."""
        more["on_held"] = held(None, progress)
        job = await self.submit_stream(x, pre, wait_s=first_wait(progress, timeout_s), **more)
        await job.wait(progress, timeout_s)
        quantised: Quantised = await job.result()
        return quantised

    async def job(self, job_id: str) -> AsyncJob:
        """A handle of a job that was submitted before."""
        if not job_id or not all(c.isalnum() or c in "-_" for c in job_id):
            raise InvalidInput(f"{job_id!r} is no job id; `shardy jobs` lists them")
        return AsyncJob(self.http, await self.http.json("GET", f"/v1/jobs/{job_id}"))


async def _tell(job: AsyncJob, on_progress: OnProgress) -> None:
    try:
        async with aclosing(job.follow()) as changes:
            async for now in changes:
                on_progress(now)
    except ShardyError as error:
        _log.warning("the progress of job %s is no longer followed: %s", job.id, error)


def _idempotency(key: str | None) -> str:
    if key is None:
        return secrets.token_urlsafe(24)
    if not 1 <= len(key) <= IDEMPOTENCY_CHARS_MAX or not all("!" <= c <= "~" for c in key):
        raise InvalidInput(f"an idempotency key has 1 to {IDEMPOTENCY_CHARS_MAX} visible ASCII characters")
    return key


def held(on_held: OnHeld | None, progress: OnProgress | None) -> OnHeld:
    """Who is told that the mesh does not take the job yet: the caller, or whoever follows the progress; and the log."""

    def told(pause_s: float, why: str) -> None:
        _log.info("the job waits for %.0f s before it is asked for again: %s", pause_s, why)
        if on_held is not None:
            on_held(pause_s, why)
        elif progress is not None:
            progress(Progress("held", 0, 0, 0, 0, 0, why))

    return told


def _hashed(matrix: NDArray[Any]) -> tuple[memoryview, str]:
    data = byte_view(matrix)
    return data, digest(data)


def first_wait(progress: OnProgress | None, timeout_s: float | None) -> float:
    """Seconds that the first answer may take."""
    # A small job is done before the first answer; one that shows its progress wants to be asked sooner.
    longest = 0.2 if progress is not None else WAIT_S_MAX / 2
    return longest if timeout_s is None else max(0.0, min(longest, timeout_s))


def _proof(policy: str, tiles: int | None, circuit: str | None) -> dict[str, Any]:
    if tiles is None and circuit is None:
        return {}
    if policy != "proof":
        raise InvalidInput(f"proof_tiles and proof_circuit are for policy 'proof', and this is {policy!r}")
    if tiles is not None and (type(tiles) is not int or not 1 <= tiles <= PROOF_TILES_MAX):
        raise InvalidInput(f"proof_tiles is {tiles!r}; use a whole number from 1 to {PROOF_TILES_MAX}")
    asked = {"tiles": tiles, "circuit": circuit}
    return {"proof": {name: value for name, value in asked.items() if value is not None}}


def _options(policy: str, redundancy: int, audit_rounds: int, label: str, task_rows: int | None) -> dict[str, Any]:
    if policy not in POLICIES:
        raise InvalidInput(f"policy is {policy!r}; use {', '.join(map(repr, POLICIES[:-1]))} or {POLICIES[-1]!r}")
    if type(redundancy) is not int or not 2 <= redundancy <= REDUNDANCY_MAX:
        raise InvalidInput(f"redundancy is {redundancy!r}; use a whole number from 2 to {REDUNDANCY_MAX}")
    if type(audit_rounds) is not int or not 2 <= audit_rounds <= AUDIT_ROUNDS_MAX:
        raise InvalidInput(f"audit_rounds is {audit_rounds!r}; use a whole number from 2 to {AUDIT_ROUNDS_MAX}")
    if len(label) > LABEL_CHARS_MAX:
        raise InvalidInput(f"the label has {len(label)} characters; at most {LABEL_CHARS_MAX}")
    if task_rows is not None and (type(task_rows) is not int or not 1 <= task_rows <= SIDE_MAX):
        raise InvalidInput(f"task_rows is {task_rows!r}; use a whole number of at least 1, or None")
    options: dict[str, Any] = {"policy": policy, "redundancy": redundancy, "audit_rounds": audit_rounds, "label": label}
    if task_rows is not None:
        options["task_rows"] = task_rows
    return options
