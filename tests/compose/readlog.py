"""The log as the operator reads it, in a container with his key: for each job how often what was said of it, and how
many verdicts each of its tasks has. Prints JSON."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from shardy_common.config import Settings
from shardy_common.log import JetStreamLog, read_all
from shardy_common.wire import events as ev


async def main() -> None:
    settings = Settings()
    log = await JetStreamLog.open(settings.nats_url, name="test", replicas=settings.stream_replicas, **settings.access)
    reader = log.read([], 0)
    jobs: dict[str, dict[str, int]] = {}
    verdicts: Counter[str] = Counter()
    created: dict[str, set[str]] = {}
    undecodable = 0
    async for recorded in read_all(reader):
        event = recorded.event
        undecodable += event is None
        if isinstance(event, (ev.JobSubmitted, ev.JobCompleted, ev.JobFailed)):
            found = jobs.setdefault(event.job, {})
            found[event.name] = found.get(event.name, 0) + 1
        elif isinstance(event, ev.TaskVerified):
            verdicts[event.task] += 1
            created.setdefault(event.job, set()).add(event.task)
    await reader.close()
    info = json.loads((await log.client.request(f"$JS.API.STREAM.INFO.{log.stream}", b"", timeout=10)).data)
    cluster = info.get("cluster", {})
    print(
        json.dumps(
            {
                "jobs": jobs,
                "verified": {job: len(tasks) for job, tasks in created.items()},
                "verdicts_max": max(verdicts.values(), default=0),
                "undecodable": undecodable,
                "leader": cluster.get("leader"),
                "current": sorted(r["name"] for r in cluster.get("replicas", ()) if r.get("current")),
                "replicas": info["config"]["num_replicas"],
            }
        )
    )
    await log.close()


asyncio.run(main())
