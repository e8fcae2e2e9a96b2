"""`AsyncMesh`: exact products and streams on a mesh, from NumPy arrays."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from types import TracebackType
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from shardy_client.arrays import Operand, PreExec, byte_view, check_product, checked, digest
from shardy_client.errors import InvalidInput
from shardy_client.jobs import AsyncJob, OnProgress
from shardy_client.transport import WAIT_S_MAX, Http, default_key, default_url
from shardy_common.limits import (
    AUDIT_ROUNDS_MAX,
    INLINE_OPERAND_BYTES_MAX,
    LABEL_CHARS_MAX,
    REDUNDANCY_MAX,
    SIDE_MAX,
)
from shardy_common.wire import frame

POLICIES = ("quorum", "audit")
FRAME_TYPE = "application/vnd.shardy.frame"
Matrix = NDArray[Any] | Operand


class FloatProduct(NamedTuple):
    """A float32 product: exact integers c int32[m,n], scales f32[m] and f32[n], and d f32[m,n], the dequantised c."""

    c: NDArray[np.int32]
    a_scale: NDArray[np.float32]
    b_scale: NDArray[np.float32]
    d: NDArray[np.float32]


class Quantised(NamedTuple):
    """A pre-executed matrix: q int8[rows,cols]; q·scale[:, None] is the clamped, smoothed value. scale f32[rows]."""

    q: NDArray[np.int8]
    scale: NDArray[np.float32]


class _Prepared(NamedTuple):
    operand: Operand
    data: memoryview | None
    inline: bool


class AsyncMesh:
    """A mesh at `url`, entered with the API key `key`. Defaults: SHARDY_URL, SHARDY_KEY, or `.data/api_key`.

    Use it as `async with AsyncMesh() as mesh`, or call `aclose`.
    """

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        self.http = Http(url or default_url(), default_key() if key is None else key)

    async def __aenter__(self) -> AsyncMesh:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    # --- operands -------------------------------------------------------------------------------------------

    async def put(self, array: NDArray[Any], *, transpose: bool = False, name: str = "the array") -> Operand:
        """Store a matrix once and use it in many jobs. transpose: store its transpose (one copy is made for it)."""
        prepared = await self._prepare(name, array, transpose, inline=False)
        await self._store(prepared)
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

    async def _store(self, prepared: _Prepared) -> None:
        path = f"/v1/blobs/{prepared.operand.digest}"
        if prepared.data is not None and not await self.http.exists(path):
            await self.http.put(path, prepared.data)

    # --- jobs -----------------------------------------------------------------------------------------------

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
        label: str = "",
        task_rows: int | None = None,
        wait_s: float = 0,
    ) -> AsyncJob:
        """Ask for A·B; a handle. See `matmul`. wait_s: let the mesh answer when it is done, or after so long."""
        if b_layout not in ("kn", "nk"):
            raise InvalidInput(f"b_layout is {b_layout!r}; use 'kn' (B is k×n) or 'nk' (B is stored transposed)")
        options = _options(policy, redundancy, audit_rounds, label, task_rows)
        left = await self._prepare("A", a, False)
        right = await self._prepare("B", b, b_layout == "kn" and not isinstance(b, Operand))
        check_product(left.operand, right.operand, pre)
        job = {"kind": "matmul", **options}
        if pre is not None:
            job["pre"] = pre.to_json()
        return await self._submit(job, {"a": left, "b": right}, wait_s)

    async def submit_stream(
        self,
        x: Matrix,
        pre: PreExec,
        *,
        redundancy: int = 2,
        label: str = "",
        task_rows: int | None = None,
        wait_s: float = 0,
    ) -> AsyncJob:
        """Ask for pre-execution alone; a handle. See `stream`."""
        options = _options("quorum", redundancy, 2, label, task_rows)
        if not isinstance(pre, PreExec):
            raise InvalidInput("stream needs pre=PreExec(lo, hi)")
        if not isinstance(x, Operand):
            checked("X", x, dtypes=("float32",))
        prepared = await self._prepare("X", x, False)
        if prepared.operand.dtype != "float32":
            raise InvalidInput(f"X is {prepared.operand.dtype}; a stream takes float32")
        return await self._submit({"kind": "stream", "pre": pre.to_json(), **options}, {"x": prepared}, wait_s)

    async def _submit(self, job: dict[str, Any], operands: dict[str, _Prepared], wait_s: float) -> AsyncJob:
        segments: list[memoryview] = []
        for name, prepared in operands.items():
            fields = asdict(prepared.operand)
            if prepared.inline and prepared.data is not None:
                del fields["digest"]
                fields["s"] = len(segments)
                segments.append(prepared.data)
            else:
                await self._store(prepared)
            job[name] = fields
        params = {"wait": round(min(wait_s, WAIT_S_MAX), 3)} if wait_s > 0 else {}
        if segments:
            body = frame.encode({"t": "job", **job}, segments)
            answer = await self.http.json(
                "POST", "/v1/jobs", params=params, content=body, headers={"Content-Type": FRAME_TYPE}
            )
        else:
            answer = await self.http.json("POST", "/v1/jobs", params=params, json=job)
        return AsyncJob(self.http, answer)

    @overload
    async def matmul(self, a: Matrix, b: Matrix, *, parts: bool, **more: Any) -> NDArray[Any] | FloatProduct: ...
    @overload
    async def matmul(self, a: Matrix, b: Matrix, **more: Any) -> NDArray[Any]: ...

    async def matmul(
        self,
        a: Matrix,
        b: Matrix,
        *,
        parts: bool = False,
        progress: OnProgress | None = None,
        timeout_s: float | None = None,
        out: NDArray[Any] | None = None,
        **more: Any,
    ) -> NDArray[Any] | FloatProduct:
        """A·B, checked. A m×k, B k×n (or n×k with b_layout="nk"); both int8, or both float32 with `pre`.

        int8: the exact int32 product. float32: the dequantised product d, or with parts=True a FloatProduct.
        policy: "quorum" (`redundancy` devices must agree) or "audit" (one device, and a Freivalds check of
        `audit_rounds` rounds). out: where to put the product. Raises InvalidInput, Refused, MeshUnreachable,
        JobFailed, JobTimeout.
        """
        job = await self.submit_matmul(a, b, wait_s=_first_wait(progress, timeout_s), **more)
        await job.wait(progress, timeout_s)
        if more.get("pre") is None:
            return await job.result("c", out)
        if not parts:
            return await job.result("d", out)
        c, a_scale, b_scale, d = await asyncio.gather(
            job.result("c"), job.result("a_scale"), job.result("b_scale"), job.result("d", out)
        )
        return FloatProduct(c, a_scale, b_scale, d)

    async def stream(
        self,
        x: Matrix,
        pre: PreExec,
        *,
        progress: OnProgress | None = None,
        timeout_s: float | None = None,
        **more: Any,
    ) -> Quantised:
        """Clamp, smooth and quantise float32 X[rows, cols]; raises as `matmul`."""
        job = await self.submit_stream(x, pre, wait_s=_first_wait(progress, timeout_s), **more)
        await job.wait(progress, timeout_s)
        q, scale = await asyncio.gather(job.result("q"), job.result("scale"))
        return Quantised(q, scale)

    # --- lists ----------------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> AsyncJob:
        """A handle of a job that was submitted before."""
        if not job_id or not all(c.isalnum() or c in "-_" for c in job_id):
            raise InvalidInput(f"{job_id!r} is no job id; `shardy jobs` lists them")
        return AsyncJob(self.http, await self.http.json("GET", f"/v1/jobs/{job_id}"))

    async def jobs(self, limit: int = 20, before: str | None = None) -> dict[str, Any]:
        """{"jobs": statuses, newest first, "next": what to give as `before` for older ones, or None}."""
        return await self.http.json(
            "GET", "/v1/jobs", params={"limit": limit, **({"before": before} if before else {})}
        )

    async def tasks(self, job_id: str, limit: int = 100) -> dict[str, Any]:
        """The tasks of a job: tiles, workers, digests, verdicts."""
        return await self.http.json("GET", f"/v1/jobs/{job_id}/tasks", params={"limit": limit})

    async def listing(self, name: str) -> dict[str, Any]:
        """`workers`, `frauds` or `dlq`."""
        return await self.http.json("GET", f"/v1/{name}")


def _hashed(matrix: NDArray[Any]) -> tuple[memoryview, str]:
    data = byte_view(matrix)
    return data, digest(data)


def _first_wait(progress: OnProgress | None, timeout_s: float | None) -> float:
    # A small job is done before the first answer; one that shows its progress wants to be asked sooner.
    longest = 0.2 if progress is not None else WAIT_S_MAX / 2
    return longest if timeout_s is None else max(0.0, min(longest, timeout_s))


def _options(policy: str, redundancy: int, audit_rounds: int, label: str, task_rows: int | None) -> dict[str, Any]:
    if policy not in POLICIES:
        raise InvalidInput(f"policy is {policy!r}; use {' or '.join(map(repr, POLICIES))}")
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
