"""The taskiq broker that the peer's worker processes load."""

from __future__ import annotations

import os
from typing import Any

from taskiq_nats import PullBasedJetStreamBroker

DONE = "bench.done"


def make_broker(url: str) -> Any:
    return PullBasedJetStreamBroker([url], queue="bench", pull_consume_batch=100, pull_consume_timeout=0.1)


def task_of(made: Any) -> Any:
    @made.task(task_name="nothing")
    async def nothing(i: int) -> int:
        await made.client.publish(DONE, b"")
        return i

    return nothing


broker = make_broker(os.environ.get("BENCH_NATS_URL", "nats://127.0.0.1:4222"))
task_of(broker)
