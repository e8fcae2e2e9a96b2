"""Archiving: write epochs, verify them, tell the stream, wait until nobody reads below, and purge. In this order.

It may be killed after any step. What was written and not yet told is compared with the stream and taken over; what was
told and not purged is purged by the next run. Services go on meanwhile: whoever begins to read after the stream was
told takes the archive, and whoever read before is waited for (docs/adr/0013-archived-epochs.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from blake3 import blake3

from shardy_common.log.archive import ARCHIVED, CHAIN, PURGED, Archive, Epoch, Extent, extent_of
from shardy_common.log.archive_file import ArchiveError, EpochWriter, Head, Message, read_epoch, record, records
from shardy_common.log.direct import direct
from shardy_common.log.jetstream import JetStreamLog
from shardy_common.log.reader import JetStreamReader
from shardy_common.log.retention import ActiveJobs, Policy, epochs, floor

READ_BATCH = 2_000
SILENCE_S = 30.0
READERS_S = 90.0  # a consumer whose process died stays for a minute
PURGE_S = 120.0


@dataclass(slots=True)
class Report:
    """What a run did, or would do. waiting: why nothing was purged, in words; empty otherwise."""

    last: int = 0
    archived_before: int = 0
    archived: int = 0
    floor: int = 0
    active_jobs: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    purged: int = 0
    waiting: str = ""


class Archiver:
    """step: told before each step that a crash may separate from the next."""

    def __init__(
        self,
        log: JetStreamLog,
        policy: Policy,
        *,
        step: Callable[[str], None] = lambda _name: None,
        readers_s: float = READERS_S,
    ) -> None:
        if log.archive is None:
            raise ValueError("a log without an archive folder cannot be archived")
        self._log, self._archive, self._policy = log, log.archive, policy
        self._step, self._readers_s = step, readers_s

    async def run(self, *, dry: bool = False) -> Report:
        """Raises ArchiveError where archive and stream contradict each other: nothing is purged then."""
        with locked(self._archive.folder):
            info = await self._log.info()
            extent = extent_of(info)
            report = Report(int(info["state"]["last_seq"]), extent.through, extent.through)
            epochs_here = await asyncio.to_thread(self._archive.epochs)
            await asyncio.to_thread(self._archive.covering, extent)
            extent = await self._adopt(extent, epochs_here, dry)
            active = await active_jobs(self._log)
            report.active_jobs = len(active.since)
            young = await self._first_young()
            report.floor = floor(report.last, young, active.since.values(), self._policy)
            for first, last in epochs(extent.through, report.floor, self._policy):
                if dry:
                    report.epochs.append({"first": first, "last": last})
                    continue
                while first <= last:  # an epoch of large events is cut in two
                    head = await self._write(first, last, extent.chain)
                    extent = await self._tell(head)
                    report.epochs.append(shown(head))
                    first = head.last + 1
            report.archived = report.epochs[-1]["last"] if dry and report.epochs else extent.through
            if not dry and extent.through:
                await self._purge(extent.through, report)
            return report

    async def _adopt(self, extent: Extent, found: list[Epoch], dry: bool) -> Extent:
        """Epochs that an earlier run wrote and did not come to tell of: if the stream holds the same."""
        for path, head in found:
            if head.last > extent.through:
                await compare(self._log, path, await asyncio.to_thread(read_epoch, path))
                extent = Extent(head.last, head.chain) if dry else await self._tell(head)
        return extent

    async def _write(self, first: int, last: int, previous: str) -> Head:
        writer = EpochWriter(self._archive.folder, self._log.stream, previous)
        try:
            async for message in stream_messages(self._log, first, last):
                writer.add(message)
                if writer.full:
                    break
            self._step("write")
            path, head = await asyncio.to_thread(writer.finish)
        except BaseException:
            writer.abandon()
            raise
        self._step("verify")
        # read back from the disk, and the stream once more: only what both hold alike is ever purged
        await compare(self._log, path, await asyncio.to_thread(read_epoch, path), whole=True)
        return head

    async def _tell(self, head: Head) -> Extent:
        self._step("tell")
        config = dict((await self._log.info())["config"])
        config["metadata"] = {**(config.get("metadata") or {}), ARCHIVED: str(head.last), CHAIN: head.chain}
        await ask(self._log, f"STREAM.UPDATE.{self._log.stream}", config)
        return Extent(head.last, head.chain)

    async def _purge(self, through: int, report: Report) -> None:
        self._step("readers")
        report.waiting = await self._readers_below(through)
        if report.waiting:
            return
        for entity in PURGED:
            self._step(f"purge {entity}")
            answer = await ask(
                self._log, f"STREAM.PURGE.{self._log.stream}", {"filter": f"{entity}.>", "seq": through + 1}, PURGE_S
            )
            report.purged += int(answer.get("purged", 0))

    async def _readers_below(self, through: int) -> str:
        """Wait until every consumer has got what is to be purged. Whoever still has not, in words."""
        deadline = time.monotonic() + self._readers_s
        while True:
            behind = [
                f"{c['name']} (at event {c['delivered']['stream_seq']})"
                async for c in consumers(self._log)
                if c.get("num_pending", 0) and c["delivered"]["stream_seq"] < through
            ]
            if not behind:
                return ""
            if time.monotonic() > deadline:
                return f"not purged, because {', '.join(behind[:5])} still reads below event {through}: run it again"
            await asyncio.sleep(0.2)

    async def _first_young(self) -> int | None:
        return await seq_at(self._log, time.time_ns() - int(self._policy.older_than_s * 1e9))


def shown(head: Head) -> dict[str, Any]:
    return {name: getattr(head, name) for name in ("first", "last", "count", "bytes", "first_ns", "last_ns", "chain")}


async def compare(log: JetStreamLog, path: Path, epoch: tuple[Head, bytes], *, whole: bool = False) -> int:
    """How many events of the epoch the stream holds too. ArchiveError where it holds others. whole: or fewer."""
    head, body = epoch
    if whole:
        digest = blake3()
        async for message in stream_messages(log, head.first, head.last):
            digest.update(record(message))
        if digest.hexdigest() != head.body:
            raise ArchiveError(f"{path} is not what the stream holds: nothing was purged; remove it and try again")
        return head.count
    both, seq, filed = 0, head.first - 1, records(body)
    while seq < head.last:
        found = await direct(log, {"seq": seq + 1, "batch": 1_000, "next_by_subj": ">"})
        for message in found:
            seq = message.seq
            if seq > head.last:
                break
            same = next(m for m in filed if m.seq == seq)
            if (same.subject, same.at_ns, same.payload) != (message.subject, message.at_ns, message.payload):
                raise ArchiveError(f"event {seq} in {path} is not the one in the stream: the file is of another log")
            both += 1
        if not found:
            break
    return both


async def stream_messages(log: JetStreamLog, first: int, last: int) -> AsyncIterator[Message]:
    """A range of the stream, whole. ArchiveError if a sequence is missing, or nothing comes for SILENCE_S."""
    reader = JetStreamReader(log.client, log.stream, [], first - 1, log.clock)
    at, heard = first - 1, time.monotonic()
    try:
        while at < last:
            messages = await reader.messages(READ_BATCH, 1.0)
            for message in messages:
                if message.seq > last:
                    break
                if message.seq != at + 1:
                    raise ArchiveError(f"event {at + 1} is missing in the stream: what follows it is not archived")
                at, heard = message.seq, time.monotonic()
                yield message
            if time.monotonic() - heard > SILENCE_S:
                raise ArchiveError(f"the stream gave no event after {at} for {SILENCE_S:.0f} s: try again")
            await asyncio.sleep(0)
    finally:
        await reader.close()


async def active_jobs(log: JetStreamLog) -> ActiveJobs:
    """From the job events, all of which stay in the stream."""
    found, last = ActiveJobs(), await log.last_seq()
    reader = JetStreamReader(log.client, log.stream, ["job.*.*"], 0, log.clock)
    try:
        while not reader.caught_up:
            for message in await reader.messages(READ_BATCH, 1.0):
                if message.seq <= last:
                    found.see(message.seq, message.subject.decode("utf-8", "replace"))
    finally:
        await reader.close()
    return found


async def seq_at(log: JetStreamLog, at_ns: int) -> int | None:
    """Sequence of the first event in the stream that was recorded at this time or later; None when there is none."""
    text = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    messages = await direct(log, {"start_time": f"{text}.{at_ns % 1_000_000_000:09d}Z", "batch": 1})
    return messages[0].seq if messages else None


async def consumers(log: JetStreamLog) -> AsyncIterator[dict[str, Any]]:
    """Every consumer of the stream, by pages."""
    offset = 0
    while True:
        answer = await ask(log, f"CONSUMER.LIST.{log.stream}", {"offset": offset})
        page = answer.get("consumers") or []
        for consumer in page:
            yield consumer
        offset += len(page)
        if not page or offset >= int(answer.get("total", 0)):
            return


async def ask(log: JetStreamLog, what: str, body: dict[str, Any], timeout_s: float = 10.0) -> dict[str, Any]:
    """A call of JetStream's API that must succeed."""
    reply = await log.client.request(f"$JS.API.{what}", json.dumps(body).encode(), timeout=timeout_s)
    answer = dict(json.loads(reply.data))
    if "error" in answer:
        raise ArchiveError(f"the log refused {what}: {answer['error'].get('description')}")
    return answer


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One run at a time, and no backup meanwhile."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file: IO[str] = open(folder / "lock", "w")  # noqa: SIM115 - closed below, with its lock
    try:
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ArchiveError(f"another run archives or backs up {folder}: wait until it has ended") from None
        for left in folder.glob("new-*"):  # of a run that was killed
            left.unlink(missing_ok=True)
        yield
    finally:
        file.close()


def describe(archive: Archive, extent: Extent) -> list[dict[str, Any]]:
    """The epochs of a folder, and which of them the log counts on."""
    return [
        {**shown(head), "file": str(path), "file_bytes": os.stat(path).st_size, "told": head.last <= extent.through}
        for path, head in archive.epochs()
    ]
