"""How much of the blob store is named by ceremonies, and by jobs that are active or ended lately, and how much by none.
Only counts.

The blobs of kept jobs are held by their digests in memory: about 100 bytes for each result of theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from shardy_common.blobs.index import sizes
from shardy_common.log import JetStreamLog, Recorded, read_all
from shardy_common.runtime import running_log
from shardy_common.wire import events as ev

_NAMING = ["job.submitted.*", "job.reopened.*", "result.submitted.*", "task.verified.*", "ceremony.*.*"]
_ENDS = (ev.JobCompleted, ev.JobFailed, ev.JobCancelled)


def digests_of(event: Any) -> Iterable[str]:
    """Blobs that an event names."""
    if isinstance(event, (ev.JobSubmitted, ev.JobReopened)):
        return [operand.digest for operand in event.spec.operands.values()]
    if isinstance(event, ev.ResultSubmitted):
        return [event.digest, event.batch] if event.batch else [event.digest]
    if isinstance(event, (ev.CeremonyStarted, ev.CeremonyContributed, ev.CeremonySealed)):
        return [event.r1cs, event.zkey] if isinstance(event, ev.CeremonyStarted) else [event.zkey]
    return [event.digest] if isinstance(event, ev.TaskVerified) else []


class Kept:
    """Which jobs keep their blobs: those without an end, and those whose end is not before `since_ms`."""

    def __init__(self, since_ms: int) -> None:
        self._since_ms = since_ms
        self.jobs: set[str] = set()

    def see(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, (ev.JobSubmitted, ev.JobReopened)):
            self.jobs.add(event.job)
        elif isinstance(event, _ENDS) and recorded.at_ms < self._since_ms:
            self.jobs.discard(event.job)


def stored(root: Path) -> Iterator[tuple[bytes, int]]:
    """Digest and bytes of every blob of a store."""
    index = root / "packs" / "index.db"
    if index.exists():
        with contextlib.closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True, timeout=30)) as rows:
            yield from sizes(rows)
    for place, _, names in os.walk(root / "large"):
        for name in names:
            with contextlib.suppress(OSError, ValueError):
                yield bytes.fromhex(name), (Path(place) / name).stat().st_size


async def usage(data_dir: Path, older_than_s: float) -> dict[str, Any]:
    """blobs, bytes: of the store; kept_jobs; unnamed_blobs, unnamed_bytes: that none of these jobs names."""
    async with running_log(data_dir) as log:
        kept = Kept(int((time.time() - older_than_s) * 1000))
        async for recorded in _events(log, ["job.*.*"]):
            kept.see(recorded)
        named: set[bytes] = set()
        async for recorded in _events(log, _NAMING):
            event = recorded.event
            if event is not None and (event.name.startswith("ceremony.") or getattr(event, "job", "") in kept.jobs):
                named.update(bytes.fromhex(digest) for digest in digests_of(event))
    return await asyncio.to_thread(_count, Path(data_dir) / "blobs", named, len(kept.jobs))


def _count(root: Path, named: set[bytes], jobs: int) -> dict[str, Any]:
    found = {"blobs": 0, "bytes": 0, "kept_jobs": jobs, "unnamed_blobs": 0, "unnamed_bytes": 0}
    for digest, size in stored(root):
        found["blobs"] += 1
        found["bytes"] += size
        if digest not in named:
            found["unnamed_blobs"] += 1
            found["unnamed_bytes"] += size
    return found


async def _events(log: JetStreamLog, filters: list[str]) -> Any:
    reader = log.read(filters, 0)
    try:
        async for recorded in read_all(reader):
            yield recorded
    finally:
        await reader.close()
