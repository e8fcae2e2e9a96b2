"""The archive on a real stream: written, verified, purged, read in the stream's place; and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from archivekit import Everything, OnlyRare, OnlyVerdicts, emptied, filled, folded, story
from nats_process import NatsProcess

from shardy_common.log import Append, Appended, ArchiveError, Conflict, JetStreamLog
from shardy_common.log.archiving import Archiver, Report, ask
from shardy_common.log.retention import Policy
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec

pytestmark = pytest.mark.connected
ALL = Policy(older_than_s=-60, keep_events=1, epoch_events=500)  # nothing is too young


@pytest.fixture
async def log(shared_server: NatsProcess, tmp_path: Path) -> AsyncIterator[JetStreamLog]:
    opened = await JetStreamLog.open(shared_server.url, name="test", archive=tmp_path / "archive")
    log = await emptied(opened, shared_server)
    yield log
    await log.close()


async def archived(log: JetStreamLog, policy: Policy = ALL) -> Report:
    return await Archiver(log, policy).run()


@pytest.mark.parametrize("core", [Everything, OnlyVerdicts, OnlyRare])
async def test_a_fold_of_archive_and_stream_equals_one_of_the_stream(
    log: JetStreamLog, tmp_path: Path, core: type[Everything]
) -> None:
    last = await filled(log, 100)
    before = await folded(log, tmp_path, core)
    report = await archived(log)
    assert not report.waiting and report.archived == last - 1 and len(report.epochs) == 5
    state = (await log.info())["state"]
    assert state["num_deleted"] == report.purged > 2_000 and state["messages"] < 250
    assert await folded(log, tmp_path, core) == before
    again = await archived(log)
    assert again.epochs == [] and again.purged == 0
    await filled(log, 103)  # the repeats of the first hundred fall into the log's window, so only three are new
    after = await folded(log, tmp_path, core)
    assert after != before
    await archived(log)
    assert await folded(log, tmp_path, core) == after


async def test_without_its_files_the_fold_stops_with_words(log: JetStreamLog, tmp_path: Path) -> None:
    await filled(log, 100)
    report = await archived(log)
    _first, second, *_ = sorted((tmp_path / "archive").glob("*.log.gz"))
    hidden = second.rename(tmp_path / "hidden")
    with pytest.raises(ArchiveError, match=r"events 501–1000 are missing in .*: restore them with"):
        await folded(log, tmp_path)
    hidden.rename(second)
    await folded(log, tmp_path)
    for path in (tmp_path / "archive").glob("*.log.gz"):
        path.rename(tmp_path / path.name)
    with pytest.raises(ArchiveError, match=f"events 1–{report.archived} are neither in the stream nor in the archive"):
        await folded(log, tmp_path)
    log.archive = None
    with pytest.raises(ArchiveError, match=r"neither in the stream nor in the archive folder .none is set"):
        await folded(log, tmp_path)


async def test_a_hole_that_nobody_archived_stops_the_fold(log: JetStreamLog, tmp_path: Path) -> None:
    """Also in the middle, where a reader is already under way."""
    await filled(log, 20)
    reader = log.read(Everything.filters, 0)
    assert [r.seq for r in await reader.batch(20, 5.0)] == [1, 2, 3, 4, 5]
    await reader.close()
    await log.client.request(f"$JS.API.STREAM.PURGE.{log.stream}", b'{"filter": "result.>", "seq": 100}', timeout=5)
    with pytest.raises(ArchiveError, match="events 2–2 are neither in the stream nor in the archive folder"):
        await folded(log, tmp_path)


async def test_another_logs_archive_is_refused(log: JetStreamLog, shared_server: NatsProcess, tmp_path: Path) -> None:
    await filled(log, 100)
    await archived(log)
    await emptied(log, shared_server)
    await log.append(story("other", 600))
    before = await folded(log, tmp_path)  # this stream names no archive: the files in the folder mean nothing to it
    with pytest.raises(ArchiveError, match="is not the one in the stream: the file is of another log"):
        await archived(log)
    assert await folded(log, tmp_path) == before and "num_deleted" not in (await log.info())["state"]


async def test_expectations_hold_after_the_purge(log: JetStreamLog) -> None:
    """What stays in the stream is what appends may expect: written once stays written once."""
    key = ev.KeyRevoked("k", "by", 1)
    (first,) = await log.append([Append(key, "k/1", 0, "key.*.*")])
    assert isinstance(first, Appended)
    await filled(log, 100)
    await archived(log)
    once = Append(ev.JobFailed("j00001", "end"), "late", 0)
    assert isinstance((await log.append([once]))[0], Conflict)
    second = Append(key, "k/2", first.seq, "key.*.*")
    assert isinstance((await log.append([second]))[0], Appended)


async def test_active_jobs_keep_their_events(log: JetStreamLog) -> None:
    await filled(log, 60)
    submitted = ev.JobSubmitted("active", JobSpec("matmul", {}, "quorum", 2, 2, "", None), "me")
    (outcome,) = await log.append([Append(submitted, "active")])
    assert isinstance(outcome, Appended)
    await log.append(story("active", 40, ended=False))
    await filled(log, 100)
    report = await archived(log)
    assert report.active_jobs == 1 and report.floor == report.archived == outcome.seq - 1
    await log.append([Append(ev.JobFailed("active", "end"), "ended")])
    report = await archived(log)
    assert report.floor == await log.last_seq() - 1 and report.archived > outcome.seq + 900


async def test_young_and_newest_events_stay(log: JetStreamLog) -> None:
    last = await filled(log, 30)
    assert (await archived(log, Policy(older_than_s=3600, keep_events=1, epoch_events=50))).archived == 0
    kept = await archived(log, Policy(older_than_s=-60, keep_events=200, epoch_events=50))
    assert kept.floor == last - 200 == kept.archived
    assert (await archived(log, Policy(older_than_s=-60, keep_events=0, epoch_events=50))).archived == last - 1


async def test_dry_runs_change_nothing(log: JetStreamLog, tmp_path: Path) -> None:
    last = await filled(log, 100)
    report = await Archiver(log, ALL).run(dry=True)
    assert [e["first"] for e in report.epochs] == [1, 501, 1001, 1501, 2001] and report.archived == last - 1
    assert list((tmp_path / "archive").glob("*.log.gz")) == []
    assert (await log.info())["config"].get("metadata", {}).get("shardy.archived") is None


async def test_killed_after_any_step_nothing_is_lost(log: JetStreamLog, tmp_path: Path) -> None:
    """The next run takes up what the last one left, and the fold is the same all the time."""
    await filled(log, 100)
    before = await folded(log, tmp_path)

    class Killed(BaseException):
        pass

    for last_step in ("write", "verify", "tell", "readers", "purge task", "purge worker"):

        def step(name: str, last_step: str = last_step) -> None:
            if name == last_step:
                raise Killed

        with pytest.raises(Killed):
            await Archiver(log, ALL, step=step).run()
        assert await folded(log, tmp_path) == before, last_step
    report = await archived(log)
    assert not report.waiting and (await log.info())["state"]["num_deleted"] > 2_000
    assert await folded(log, tmp_path) == before
    assert sorted(path.suffix for path in (tmp_path / "archive").iterdir()) == ["", *[".gz"] * 5]


async def test_who_still_reads_is_waited_for(log: JetStreamLog, tmp_path: Path) -> None:
    """A consumer of somebody else that stands below loses nothing; services are served by the archive meanwhile."""
    await filled(log, 100)
    before = await folded(log, tmp_path)
    config = {"name": "slow", "durable_name": "slow", "ack_policy": "explicit", "filter_subject": "task.unresolved.*"}
    await ask(log, f"CONSUMER.CREATE.{log.stream}.slow", {"stream_name": log.stream, "config": config})
    report = await Archiver(log, ALL, readers_s=0.5).run()
    assert "slow (at event 0) still reads below event" in report.waiting and report.purged == 0
    assert report.archived > 2_000 and "num_deleted" not in (await log.info())["state"]
    assert await folded(log, tmp_path) == before
    await ask(log, f"CONSUMER.DELETE.{log.stream}.slow", {})
    assert (await archived(log)).purged > 2_000
    assert await folded(log, tmp_path) == before


async def test_readers_on_the_way_lose_nothing(log: JetStreamLog, tmp_path: Path) -> None:
    """A slow reader holds its flow control back while the archive runs: it is waited for, and reads everything."""
    last = await filled(log, 150)
    readers = [log.read(core.filters, 0) for core in (Everything, OnlyVerdicts, OnlyRare)]
    seqs: list[list[int]] = [[], [], []]

    async def read(number: int) -> None:
        while not readers[number].caught_up:
            seqs[number] += [r.seq for r in await readers[number].batch(40, 1.0)]
            await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(read(n)) for n in range(3)]
    report = await archived(log)
    await asyncio.gather(*tasks)
    assert report.purged > 3_000
    assert seqs[0] == list(range(1, last + 1)) and len(seqs[1]) == len(seqs[2]) == 1_500
    for reader in readers:
        await reader.close()


async def test_single_events_are_found_in_the_archive(log: JetStreamLog) -> None:
    last = await filled(log, 100)
    wanted = {seq: await log.get(seq) for seq in range(1, last + 1, 97)}
    places = [await log.find("task.unresolved.j00003-0-4-000000", after, "j00003/10") for after in (0, 50, 2_000)]
    assert places[0] == places[1] != None and places[2] is None  # noqa: E711
    await archived(log)
    assert {seq: await log.get(seq) for seq in wanted} == wanted
    assert [await log.find("task.unresolved.j00003-0-4-000000", a, "j00003/10") for a in (0, 50, 2_000)] == places
    assert await log.get(last + 1) is None and await log.get(0) is None
