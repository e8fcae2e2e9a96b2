"""The celery application that the peer's worker processes load."""

from __future__ import annotations

import os

from celery import Celery

_URL = os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0")
app = Celery("bench", broker=_URL, backend=_URL)


@app.task
def nothing(i: int) -> int:
    return i
