"""Pages of the views' tables. Each is ordered by what its cursor names, so that a walk meets everything once."""

from __future__ import annotations

from typing import Any

import msgspec

from shardy_common.errors import Refused
from shardy_gateway.shapes import FraudView, JobView, TaskView
from shardy_gateway.views import Views

JOB_STATES = ("waiting", "running", "completed", "failed", "cancelled")
_job = msgspec.msgpack.Decoder(JobView).decode
_task = msgspec.msgpack.Decoder(TaskView).decode
_fraud = msgspec.msgpack.Decoder(FraudView).decode


def job_page(views: Views, requester: str | None, before: str, state: str, limit: int) -> list[JobView]:
    """Newest first. requester None: of everybody."""
    terms: list[tuple[str, Any]] = [("id < ?", before or "~")]
    if requester is not None:
        terms.append(("requester = ?", requester))
    if state:
        terms.append(("state = ?", state))
    where = " AND ".join(term for term, _ in terms)
    rows = views.read(
        f"SELECT body FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?", (*(value for _, value in terms), limit)
    )
    return [_job(body) for (body,) in rows]


def task_page(views: Views, job_id: str, after: str, limit: int) -> list[TaskView]:
    """By place in the job: columns, then rows. after: the id of a task of the job."""
    at: tuple[Any, ...] = (-1, -1, "")
    if after:
        rows = views.read("SELECT col0, row0, id FROM tasks WHERE id = ? AND job = ?", (after, job_id))
        if not rows:
            raise Refused("after names no task of this job: take next of the page before", title="Bad cursor")
        at = rows[0]
    rows = views.read(
        "SELECT body FROM tasks WHERE job = ? AND (col0, row0, id) > (?, ?, ?) ORDER BY col0, row0, id LIMIT ?",
        (job_id, *at, limit),
    )
    return [_task(body) for (body,) in rows]


def fraud_page(views: Views, before: int, limit: int, worker: str = "") -> list[FraudView]:
    """Newest first, of the whole mesh or of one worker. before: the sequence of an event in the log; 0 for no bound."""
    of = "AND worker = ?" if worker else ""
    rows = views.read(
        f"SELECT body FROM frauds WHERE seq < ? {of} ORDER BY seq DESC LIMIT ?",
        (before or 1 << 62, *([worker] if worker else []), limit),
    )
    return [_fraud(body) for (body,) in rows]
