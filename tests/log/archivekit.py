"""Logs of small jobs to archive, and projections folded from them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nats_process import NatsProcess

from shardy_common.log import Append, Appended, JetStreamLog, Projection, Recorded, Table, streams
from shardy_common.log.archive_file import Message
from shardy_common.service import FoldLoop
from shardy_common.wire import events as ev

TABLES = [Table("seen", {"seq": int, "subject": str, "at_ms": int, "trace": str, "body": str})]


class Everything:
    """A fold that forgets nothing: equal checksums mean equal events, times and traces."""

    filters: Sequence[str] = ("job.*.*", "task.*.*", "result.*.*", "worker.*.*", "key.*.*", "dlq.*.*")

    def __init__(self) -> None:
        self._rows: list[Sequence[Any]] = []

    def load(self, projection: Projection) -> None:
        pass

    def evolve(self, recorded: Recorded) -> None:
        self._rows.append((recorded.seq, recorded.subject, recorded.at_ms, recorded.trace, repr(recorded.event)))

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        rows, self._rows = self._rows, []
        return {"seen": rows}


class OnlyVerdicts(Everything):
    """One filter, which the server applies."""

    filters = ("task.unresolved.*",)


class OnlyRare(Everything):
    filters = ("task.unresolved.*", "dlq.*.*")


def story(job: str, tasks: int, *, ended: bool = True) -> list[Append]:
    """The events of a job: begun, its tasks given up or failed, ended."""
    out: list[ev.Event] = [ev.JobCancelled(job, "begin")] if ended else []
    for i in range(tasks):
        task = f"{job}-0-{i}-000000"
        out.append(ev.ResultFailed(task, job, f"{task}-0", "w" * 20, "lost", "x" * 60))
        out.append(ev.TaskUnresolved(task, job, f"cause {i}"))
    out.append(ev.WorkerLeft(f"worker-{job}", "session", "left"))
    if ended:
        out.append(ev.JobFailed(job, "end"))
    return [Append(event, f"{job}/{n}", trace=f"00-{n:032x}-{n:016x}-01") for n, event in enumerate(out)]


async def filled(log: JetStreamLog, jobs: int, tasks: int = 10) -> int:
    """Append so many jobs; the last sequence."""
    for start in range(0, jobs, 50):
        items = [item for j in range(start, min(start + 50, jobs)) for item in story(f"j{j:05d}", tasks)]
        assert all(isinstance(outcome, Appended) for outcome in await log.append(items))
    return await log.last_seq()


async def folded(log: JetStreamLog, folder: Path, core: type[Everything] = Everything, name: str = "p") -> str:
    """Fold the whole log into a fresh projection, by the services' own loop; its checksum with the checkpoint."""
    projection = Projection(folder / f"{name}.db", TABLES, version=1)
    loop = FoldLoop("test", log, projection, core)
    projection.reset()
    running = asyncio.create_task(loop.run())
    try:
        waiting = asyncio.create_task(loop.live.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        waiting.cancel()
        loop.stop()
        await running  # raises what ended it
        assert loop.live.is_set()
        return f"{projection.checkpoint} {projection.checksum()}"
    finally:
        projection.close()


def message(seq: int, payload: bytes = b"{}", headers: bytes | None = b"NATS/1.0\r\nA: b\r\n\r\n") -> Message:
    return Message(f"task.created.t{seq}".encode(), seq, 1_700_000_000_000_000_000 + seq, payload, headers)


async def emptied(log: JetStreamLog, server: NatsProcess) -> JetStreamLog:
    """The stream anew, so that each test begins at sequence 1. The server removes the old one's folder a moment after
    its answer, with whatever a new one has put there by then: its look-ups by subject would find nothing."""
    await log.client.request(f"$JS.API.STREAM.DELETE.{log.stream}", b"", timeout=5)
    folder = server.store / "jetstream" / "$G" / "streams" / log.stream
    for patience in (100, 400, 1_000):
        for _ in range(patience):
            if not folder.exists():
                break
            await asyncio.sleep(0.005)
        shutil.rmtree(folder, ignore_errors=True)  # of a stream that was being written it leaves a block behind
        with contextlib.suppress(RuntimeError):  # the server is still busy removing: it can't put a new one there yet
            await log.make_stream(streams.events(1))
            return log
    raise AssertionError("the server never let go of the stream that was deleted")
