"""An event that a core cannot fold: tried again from the state before it, then passed over with one dead letter."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shardy_common import letters, mending
from shardy_common.log import Append, Appended, Conflict, MemoryLog, Outcome, Projection, Recorded, Table, Unknown
from shardy_common.service import FoldLoop
from shardy_common.wire import events as ev
from shardy_common.wire.job import Tile

TABLES = [Table("counts", {"id": str, "n": int, "body": bytes}, [["n"]])]
WORDS = "no shape of \x1b[31m\n" + "x" * 900


class Throwing:
    """Counts the events of each job, and leaves a mark of the one that it cannot fold before it throws."""

    filters = ("job.*.*", "dlq.*.*")
    wrong: dict[str, int] = {}  # job → times that folding it still fails; set by the tests

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._touched: set[str] = set()

    def load(self, projection: Projection) -> None:
        self.counts = dict(projection.rows("SELECT id, n FROM counts"))

    def evolve(self, recorded: Recorded) -> None:
        name = recorded.event.entity_id  # type: ignore[union-attr]
        if name in self.wrong and self.wrong[name] > 0:
            self.wrong[name] -= 1
            self._add("half " + name)
            raise KeyError(WORDS)
        self._add(name)

    def _add(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1
        self._touched.add(name)

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        touched, self._touched = self._touched, set()
        return {"counts": [(name, self.counts[name], b"") for name in touched]} if touched else {}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The delays as they are, but shorter."""
    monkeypatch.setattr(mending, "FIRST_S", 0.01)
    monkeypatch.setattr(Throwing, "wrong", {})


def failing(name: str, times: int = 1_000_000) -> None:
    Throwing.wrong[name] = times


async def written(log: MemoryLog, *jobs: str) -> None:
    for outcome in await log.append([Append(ev.JobFailed(job, "x"), f"m/{job}") for job in jobs]):
        assert isinstance(outcome, Appended)


@asynccontextmanager
async def running(log: Any, path: Path, name: str = "test", **more: Any) -> AsyncIterator[FoldLoop]:
    projection = Projection(path, TABLES, version=1)
    loop = FoldLoop(name, log, projection, more.pop("core", Throwing), tick_s=0.02, **more)
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        loop.stop()
        await asyncio.wait_for(task, 10)
        projection.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def folded(loop: FoldLoop, log: MemoryLog) -> None:
    async with asyncio.timeout(20):
        while (await loop.status())["checkpoint"] < await log.last_seq():
            await asyncio.sleep(0.01)


def counts_of(loop: FoldLoop) -> dict[str, int]:
    return {name: n for name, n in loop.core.counts.items() if not name.startswith("handler-")}  # type: ignore[attr-defined]


def letters_in(log: MemoryLog) -> list[ev.DlqRecorded]:
    return [e.event for e in log.events if isinstance(e.event, ev.DlqRecorded)]


async def test_many_in_one_message_are_left_out_together(tmp_path: Path) -> None:
    """Checkpoints stand between messages: no part of one is folded without the others, live or anew."""
    log = MemoryLog(lambda: 1)
    tile = Tile(0, 1, 0, 1)
    for first in (0, 3, 6):
        tasks = [ev.TaskCreated(f"t{first + i}", "j", tile, []) for i in range(3)]
        await log.append([Append(task, f"create/{task.task}") for task in tasks])
    failing("t4")
    told: list[str] = []

    class OfTasks(Throwing):
        filters = ("task.*.*", "dlq.*.*")

    async def observe(events: list[Recorded]) -> None:
        told.extend(e.event.entity_id for e in events if e.event is not None)

    async with running(log, tmp_path / "p.db", core=OfTasks, observe=observe) as loop:
        await until(lambda: len(letters_in(log)) == 1)
        await folded(loop, log)
        assert set(counts_of(loop)) == {"t0", "t1", "t2", "t6", "t7", "t8"}
        assert [name for name in told if name.startswith("t")] == ["t0", "t1", "t2", "t6", "t7", "t8"]
        live = loop.projection.checksum()
        assert (await loop.rebuild())["checksum"] == live
    (letter,) = letters_in(log)
    assert (letter.subject_of, letter.seq_of) == ("task.created.j", 2)


async def test_a_fold_goes_on_without_what_it_cannot_fold(tmp_path: Path) -> None:
    log = MemoryLog(lambda: 1)
    await written(log, "a", "b", "c")
    failing("b")
    observed: list[int] = []

    async def observe(events: list[Recorded]) -> None:
        observed.extend(e.seq for e in events)

    async with running(log, tmp_path / "p.db", observe=observe) as loop:
        await until(lambda: len(log.events) == 4)
        await folded(loop, log)
        await written(log, "d")
        await folded(loop, log)
        assert counts_of(loop) == {"a": 1, "c": 1, "d": 1}, "no half of the event stays"
        assert observed == [1, 3, 4, 5], "told of each event once, and not of the one that was not folded"
        status = await loop.status()
        assert [(s["seq"], s["entry"]) for s in status["skipped"]] == [(2, "handler-test-2")]
        assert status["standing"] is None and status["lag_events"] == 0
    (letter,) = letters_in(log)
    assert (letter.entry, letter.cause, letter.subject_of, letter.seq_of) == (
        "handler-test-2", "handler", "job.failed.b", 2,
    )  # fmt: skip
    evidence = letter.evidence
    assert evidence["service"] == "test" and evidence["exception"] == "KeyError" and evidence["tries"] == "5"
    assert evidence["version"] == letters.package_version() and evidence["trace"] == log.events[1].trace
    assert evidence["at"].startswith("test_handlers_that_throw.py:") and "/" not in evidence["at"]
    assert len(evidence["error"]) <= 500 and evidence["error"].isprintable()


async def test_live_replayed_and_restarted_are_equal_and_the_letter_comes_once(tmp_path: Path) -> None:
    log = MemoryLog(lambda: 1)
    await written(log, *(f"j{i}" for i in range(40)))
    for name in ("j3", "j4", "j20"):
        failing(name)
    async with running(log, tmp_path / "p.db") as loop:
        await written(log, *(f"k{i}" for i in range(40)))
        await until(lambda: len(letters_in(log)) == 3)
        await folded(loop, log)
        live = loop.projection.checksum()
        rebuilt = await asyncio.wait_for(loop.rebuild(), 20)
        assert rebuilt["checksum"] == live and len(rebuilt["skipped"]) == 3
    async with running(log, tmp_path / "p.db") as again:
        await written(log, "later")
        await folded(again, log)
        assert [s.seq for s in again.skipped()] == [4, 5, 21], "a restart knows them, and meets none of them"
        jobs = {f"{letter}{i}" for letter in "jk" for i in range(40)} - {"j3", "j4", "j20"}
        assert counts_of(again) == dict.fromkeys({*jobs, "later"}, 1)
    async with running(log, tmp_path / "anew.db") as anew:
        await folded(anew, log)
        here = anew.projection.checksum()
        assert (await asyncio.wait_for(anew.rebuild(), 20))["checksum"] == here
    assert len(letters_in(log)) == 3


async def test_two_replicas_write_one_letter(tmp_path: Path) -> None:
    log = MemoryLog(lambda: 1)
    failing("b")
    async with running(log, tmp_path / "1.db") as one, running(log, tmp_path / "2.db") as two:
        await written(log, "a", "b", "c")
        await until(lambda: len(one.skipped()) == len(two.skipped()) == 1)
        await folded(one, log)
        await folded(two, log)
        assert one.projection.checksum() == two.projection.checksum()
    assert len(letters_in(log)) == 1


async def test_another_service_folds_it_and_has_letters_of_its_own(tmp_path: Path) -> None:
    log = MemoryLog(lambda: 1)
    failing("b")

    class Able(Throwing):
        wrong: dict[str, int] = {}

    async with running(log, tmp_path / "1.db") as one, running(log, tmp_path / "2.db", "able", core=Able) as able:
        await written(log, "a", "b")
        await until(lambda: bool(letters_in(log)))
        await folded(one, log)
        await folded(able, log)
        assert "b" in counts_of(able) and "b" not in counts_of(one)
    assert [letter.entry for letter in letters_in(log)] == ["handler-test-2"]


async def test_what_works_again_leaves_no_letter(tmp_path: Path) -> None:
    log = MemoryLog(lambda: 1)
    await written(log, "a", "b", "c")
    failing("b", mending.TRIES - 1)
    async with running(log, tmp_path / "p.db") as loop:
        await folded(loop, log)
        assert counts_of(loop) == {"a": 1, "b": 1, "c": 1} and loop.skipped() == []
    assert letters_in(log) == []


async def test_a_known_failure_is_not_tried_again_at_length(tmp_path: Path) -> None:
    """Another replica has tried, with the same version: its letter says so."""
    log = MemoryLog(lambda: 1)
    await written(log, "a", "b")
    failing("b")
    async with running(log, tmp_path / "1.db") as loop:
        await until(lambda: len(loop.skipped()) == 1)
        await folded(loop, log)
    failing("b", 1)  # a second try would succeed
    async with running(log, tmp_path / "2.db") as other:
        await folded(other, log)
        assert "b" not in counts_of(other) and len(other.skipped()) == 1
    assert len(letters_in(log)) == 1


async def test_a_rebuild_with_a_repaired_version_folds_it(tmp_path: Path) -> None:
    log = MemoryLog(lambda: 1)
    await written(log, "a", "b", "c")
    failing("b")
    async with running(log, tmp_path / "p.db") as loop:
        await until(lambda: bool(letters_in(log)))
        await folded(loop, log)
        assert "b" not in counts_of(loop)
        Throwing.wrong.clear()
        answer = await asyncio.wait_for(loop.rebuild(), 20)
        assert counts_of(loop) == {"a": 1, "b": 1, "c": 1} and answer["skipped"] == [] == loop.skipped()


class Deaf(MemoryLog):
    """Takes no letters until it hears, and says why in the way of a log without a leader."""

    hears = False
    tries = 0

    async def append(self, items: Sequence[Append]) -> list[Outcome]:
        if not self.hears and any(isinstance(item.event, ev.DlqRecorded) for item in items):
            self.tries += 1
            return [Unknown("no leader") for _ in items]
        return await super().append(items)


async def test_the_checkpoint_waits_for_the_letter_and_the_log_is_asked_ever_more_rarely(tmp_path: Path) -> None:
    log = Deaf(lambda: 1)
    await written(log, "a", "b", "c")
    failing("b")
    async with running(log, tmp_path / "p.db") as loop:
        await until(lambda: log.tries > 0)
        await asyncio.sleep(1)
        assert loop.projection.checkpoint == 1, "what was before the event is safe, the event is not passed"
        assert counts_of(loop) == {"a": 1, "c": 1}, "and the fold has gone on"
        assert log.tries < 10, "twenty milliseconds, doubled each time"
    async with running(log, tmp_path / "p.db") as again:  # it stopped before its letter was there
        await until(lambda: "c" in again.core.counts)  # type: ignore[attr-defined]
        assert again.projection.checkpoint == 1
        log.hears = True
        await folded(again, log)
        assert [s.seq for s in again.projection.skipped] == [2]
    assert len(letters_in(log)) == 1


async def test_more_than_a_version_may_skip_makes_it_stand_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "SKIPPED_MAX", 2)
    monkeypatch.setattr(mending, "STILL_S", 0.05)
    log = MemoryLog(lambda: 1)
    await written(log, "a", "b", "c", "d", "e")
    for name in ("b", "c", "d"):
        failing(name)
    async with running(log, tmp_path / "p.db") as loop:
        await until(lambda: loop.mender.standing is not None and loop.mender.standing.tries > mending.TRIES + 2)
        status = await loop.status()
        assert status["standing"]["seq"] == 4 and status["lag_events"] >= 2 and status["lag_ms"] > 0
        assert counts_of(loop) == {"a": 1} and len(status["skipped"]) == 2
        Throwing.wrong.clear()
        answer = await asyncio.wait_for(loop.rebuild(), 20)
        assert answer["skipped"] == [] and len(counts_of(loop)) == 5, "a rebuild interrupts the standing"
    assert len(letters_in(log)) == 2


@pytest.mark.parametrize("error", [MemoryError(), sqlite3.OperationalError("disk"), OSError(28, "full")])
async def test_a_machine_in_need_ends_the_process(tmp_path: Path, error: Exception) -> None:
    class Broken(Throwing):
        def evolve(self, recorded: Recorded) -> None:
            raise error

    log = MemoryLog(lambda: 1)
    await written(log, "a")
    projection = Projection(tmp_path / "p.db", TABLES, version=1)
    with pytest.raises(type(error)):
        await asyncio.wait_for(FoldLoop("test", log, projection, Broken).run(), 10)
    assert projection.checkpoint == 0 and letters_in(log) == []
    projection.close()


async def test_what_reacts_or_observes_and_throws_ends_the_process(tmp_path: Path) -> None:
    log = MemoryLog(lambda: 1)
    await written(log, "a")

    async def throws(*_: Any) -> None:
        raise KeyError("an effect")

    for more in ({"react": throws}, {"observe": throws}):
        projection = Projection(tmp_path / "p.db", TABLES, version=1)
        projection.reset()
        with pytest.raises(KeyError):
            await asyncio.wait_for(FoldLoop("test", log, projection, Throwing, **more).run(), 10)
        projection.close()
    assert letters_in(log) == []


async def test_proposals_that_the_log_does_not_take_are_made_ever_more_rarely(tmp_path: Path) -> None:
    reactions = 0
    taken = False

    class Refusing(MemoryLog):
        async def append(self, items: Sequence[Append]) -> list[Outcome]:
            return await super().append(items) if taken else [Unknown("maximum bytes exceeded") for _ in items]

    log = Refusing(lambda: 1)

    async def react() -> None:
        nonlocal reactions
        if not log.events:
            reactions += 1
            loop.propose([Append(ev.JobFailed("j", "x"), "a", 0)])

    async with running(log, tmp_path / "p.db", react=react) as loop:
        await until(lambda: loop.pace._silence > 4)
        before, since = reactions, asyncio.get_running_loop().time()
        await asyncio.sleep(0.6)
        passed_s = asyncio.get_running_loop().time() - since
        assert reactions - before <= 2 + 4 * passed_s, "not one for each tick"
        taken = True
        await until(lambda: len(log.events) == 1)
        assert isinstance((await log.append([Append(ev.JobFailed("j", "x"), "b", 0)]))[0], Conflict)
