"""Short ways to write down events, jobs and logs in tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shardy_common.carving import Cursor
from shardy_common.log import MemoryLog, Recorded
from shardy_common.log.types import Append, Appended
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Operand, Pre, Tile

JOB = "j0000000000000001"
PRE = Pre(-1.0, 1.0)


def digest_of(n: int) -> str:
    return f"{n:064x}"


def matmul(m: int = 8, n: int = 4, k: int = 3, **more: Any) -> JobSpec:
    return JobSpec(
        "matmul", {"a": Operand(digest_of(1), "int8", m, k), "b": Operand(digest_of(2), "int8", n, k)}, **more
    )


def matmul_f32(m: int = 8, n: int = 4, k: int = 3, pre: Pre = PRE, **more: Any) -> JobSpec:
    operands = {"a": Operand(digest_of(1), "float32", m, k), "b": Operand(digest_of(2), "float32", n, k)}
    return JobSpec("matmul", operands, pre=pre, **more)


def stream(rows: int = 8, cols: int = 4, pre: Pre = PRE, **more: Any) -> JobSpec:
    return JobSpec("stream", {"x": Operand(digest_of(1), "float32", rows, cols)}, pre=pre, **more)


def submitted(spec: JobSpec | None = None, job: str = JOB) -> ev.JobSubmitted:
    return ev.JobSubmitted(job, spec or matmul(), "requester")


def joined(
    worker: str,
    session: str = "",
    address: str = "",
    *,
    gops: float = 10.0,
    memory_mib: int = 1024,
    backend: str = "wasm",
    held: Iterable[str] = (),
    gateway: str = "g",
    instance: str = "i1",
    gateway_ms: float = 1.0,
) -> ev.WorkerJoined:
    probe = ev.Probe(gops, 50.0, memory_mib, backend, gateway_ms=gateway_ms)
    return ev.WorkerJoined(
        worker, session or f"s-{worker}", gateway, instance, address or f"at-{worker}", f"agent {worker}", "key", probe,
        list(held),
    )  # fmt: skip


def tiered(worker: str, tier: str = "wasm-laptop", max_leases: int = 512, session: str = "") -> ev.WorkerTiered:
    return ev.WorkerTiered(worker, session or f"s-{worker}", tier, max_leases, 10.0)


def lease(task: str, attempt: int, worker: str, deadline_ms: int = 60_000, session: str = "") -> ev.Lease:
    return ev.Lease(f"{task}-{attempt}", worker, session or f"s-{worker}", deadline_ms)


def created(task: str, tile: Tile, *workers: str, job: str = JOB, deadline_ms: int = 60_000) -> ev.TaskCreated:
    return ev.TaskCreated(task, job, tile, [lease(task, i, w, deadline_ms) for i, w in enumerate(workers)])


def reopened(
    *tasks: tuple[str, Tile],
    cells_done: int = 0,
    tasks_verified: int = 0,
    cursor: Cursor = Cursor(),
    spec: JobSpec | None = None,
    job: str = JOB,
    entry: str = "task-t0",
) -> ev.JobReopened:
    """A failed job goes on, with these tasks."""
    spec = spec or matmul()
    return ev.JobReopened(
        job, spec, "requester", 500, cells_done, tasks_verified, cursor, list(tasks), entry, "operator"
    )


def result(
    task: str, attempt: int, worker: str, digest: str = "aa", *, size: int = 128, ms: float = 1.0, job: str = JOB
) -> ev.ResultSubmitted:
    return ev.ResultSubmitted(task, job, f"{task}-{attempt}", worker, digest, size, ms, "wasm")


class Story:
    """A log written by hand; at(ms) moves its clock."""

    def __init__(self) -> None:
        self.now_ms = 1_000
        self.log = MemoryLog(lambda: self.now_ms)
        self._made = 0

    def at(self, now_ms: int) -> Story:
        self.now_ms = now_ms
        return self

    def add(self, *events: ev.Event) -> list[Recorded]:
        """Append whatever is given; what was recorded comes back."""
        for event in events:
            self._made += 1
            outcome = self.log.append_now(Append(event, f"story/{self._made}"))
            assert isinstance(outcome, Appended)
        return self.log.events[len(self.log.events) - len(events) :]

    def append(self, items: Iterable[Append]) -> list[Recorded]:
        """Append proposals with their expectations; all must be accepted."""
        out = []
        for item in items:
            outcome = self.log.append_now(item)
            assert isinstance(outcome, Appended) and not outcome.duplicate, (item, outcome)
            out.append(self.log.events[outcome.seq - 1])
        return out
