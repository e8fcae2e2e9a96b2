"""Replays that race, are repeated, or lose a gateway between two steps: what they leave in the log is there once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from mesh_events import JOB, created, submitted

from shardy_common.blobs import DirectoryStore
from shardy_common.errors import Refused, Transient
from shardy_common.log import Append, Conflict, MemoryLog, Outcome, Projection, Recorded, Unknown
from shardy_common.service import FoldLoop
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Operand, Tile
from shardy_gateway import closing
from shardy_gateway.config import GatewaySettings
from shardy_gateway.letters import Letter
from shardy_gateway.state import GatewayState
from shardy_gateway.views import TABLES, VERSION, Views

A = np.arange(24, dtype=np.int8).reshape(8, 3)
B = np.arange(12, dtype=np.int8).reshape(4, 3)
TILE = Tile(2, 6, 0, 4)


class Faulty(MemoryLog):
    """deaf: so many of the next answers are lost, the events being recorded."""

    deaf = 0

    async def append(self, items: Sequence[Append]) -> list[Outcome]:
        outcomes = await super().append(items)
        if self.deaf:
            self.deaf -= 1
            return [Unknown("lost") for _ in outcomes]
        return outcomes


class Gate:
    """The gateway's state over a log in memory, folded as it is in the service."""

    def __init__(self, path: Path) -> None:
        self.now_ms = 1_000
        self.log = Faulty(lambda: self.now_ms)
        self.blobs = DirectoryStore(path / "blobs")
        self.projection = Projection(path / "g.db", TABLES, version=VERSION)
        self.loop = FoldLoop("gateway", self.log, self.projection, Views, observe=self._observe, tick_s=0.05)
        self.loop.core.flush = self.loop.flush  # type: ignore[attr-defined]
        nobody: Any = SimpleNamespace()
        log: Any = self.log
        self.state = GatewayState("g", log, self.blobs, nobody, self.loop, GatewaySettings(data_dir=path))

    async def _observe(self, _events: list[Recorded]) -> None:
        self.state.notify(self.state.views.take_outbox().jobs)

    async def then(self, *events: ev.Event) -> None:
        for event in events:
            self.log.append_now(Append(event, f"given/{len(self.log.events)}"))
        await self.seen()

    async def seen(self) -> None:
        async with asyncio.timeout(5):
            while self.loop._last_seq < len(self.log.events):
                await asyncio.sleep(0.01)

    def letter(self, entry: str) -> Letter:
        found = self.state.views.letters.get(entry)
        assert found is not None
        return found

    def of(self, kind: type) -> list[Any]:
        return [r.event for r in self.log.events if isinstance(r.event, kind)]


@pytest.fixture
async def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    monkeypatch.setattr(closing, "FAILING_S", 0.1)
    gate = Gate(tmp_path)
    running = asyncio.create_task(gate.loop.run())
    yield gate
    gate.loop.stop()
    await asyncio.wait_for(running, 5)
    gate.projection.close()
    gate.blobs.close()


def stored(gate: Gate, array: np.ndarray) -> Operand:
    digest = blake3(array.tobytes()).hexdigest()
    gate.blobs.put_small([(digest, array.tobytes())])
    return Operand(digest, "int8", *array.shape)


async def failed(gate: Gate) -> None:
    spec = JobSpec("matmul", {"a": stored(gate, A), "b": stored(gate, B)})
    await gate.then(
        submitted(spec),
        created("t0", Tile(0, 2, 0, 4), "a", "b"),
        created("t2", TILE, "a", "b"),
        ev.TaskVerified("t0", JOB, Tile(0, 2, 0, 4), "aa" * 32, 32, ["a", "b"], "quorum"),
        ev.TaskUnresolved("t2", JOB, "x"),
        ev.JobFailed(JOB, "x"),
        ev.DlqRecorded("task-t2", "unresolved", "task.unresolved.t2", 5, {"job": JOB, "task": "t2"}),
    )


# -- unresolved -------------------------------------------------------------------------------------------------------


async def test_two_operators_at_once_reopen_a_job_once(gate: Gate) -> None:
    await failed(gate)
    letter = gate.letter("task-t2")
    answers = await asyncio.gather(*(closing.replay(gate.state, letter, by) for by in "xyz"))
    assert set(answers) == {(f"job {JOB} goes on", JOB)}
    (event,) = gate.of(ev.JobReopened)
    assert [tile for _, tile in event.tasks] == [TILE] and event.cells_done == 8 and event.entry == "task-t2"
    assert gate.state.views.jobs[JOB].state == "running"


async def test_a_lost_answer_reopens_once(gate: Gate) -> None:
    await failed(gate)
    gate.log.deaf = 1
    await closing.replay(gate.state, gate.letter("task-t2"), "x")
    assert len(gate.of(ev.JobReopened)) == 1


async def test_what_goes_on_is_not_reopened_through_another_letter(gate: Gate) -> None:
    await failed(gate)
    await gate.then(ev.DlqRecorded("task-t9", "unresolved", "task.unresolved.t9", 5, {"job": JOB, "task": "t9"}))
    await closing.replay(gate.state, gate.letter("task-t2"), "x")
    with pytest.raises(Refused, match="is running: only a failed job"):
        await closing.replay(gate.state, gate.letter("task-t9"), "x")
    await gate.then(ev.JobCancelled(JOB, "r"))
    with pytest.raises(Refused, match="is cancelled"):
        await closing.replay(gate.state, gate.letter("task-t9"), "x")


async def test_a_job_that_nobody_knows_is_refused(gate: Gate) -> None:
    await gate.then(ev.DlqRecorded("e", "unresolved", "task.unresolved.t9", 5, {"job": "j-gone", "task": "t9"}))
    with pytest.raises(Refused, match="not known"):
        await closing.replay(gate.state, gate.letter("e"), "x")


# -- fraud ------------------------------------------------------------------------------------------------------------


async def fraud(gate: Gate) -> Letter:
    await failed(gate)
    evidence = {"job": JOB, "task": "t2", "trace": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"}
    await gate.then(ev.DlqRecorded("fraud-t2-0", "fraud", "fraud.detected.t2", 5, evidence))
    return gate.letter("fraud-t2-0")


async def test_a_gateway_that_dies_before_the_closing_leaves_one_job(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = await fraud(gate)

    async def dies(*_: Any) -> Letter:
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(closing, "_close", dies)
        await closing.replay(gate.state, letter, "x")
    assert len(gate.of(ev.JobSubmitted)) == 2 and gate.letter("fraud-t2-0").state == "open"
    outcome, job = await closing.replay(gate.state, letter, "y")
    assert len(gate.of(ev.JobSubmitted)) == 2 and job in outcome
    event = gate.of(ev.JobSubmitted)[1]
    assert event.job == job and event.requester == "mesh"
    a, b = event.spec.operands["a"], event.spec.operands["b"]
    assert gate.blobs.read(a.digest) == A[2:8].tobytes() and (a.rows, a.cols) == (6, 3)
    assert b.digest == blake3(B.tobytes()).hexdigest(), "whole operands are not copied"
    assert gate.log.events[-2].trace.split("-")[1] == "ab" * 16, "in the trace of the letter"
    closed = gate.letter("fraud-t2-0")
    assert (closed.state, closed.closed_by, closed.outcome) == ("replayed", "y", outcome)


async def test_operands_that_are_gone_are_refused(gate: Gate, tmp_path: Path) -> None:
    letter = await fraud(gate)
    gate.state.blobs = DirectoryStore(tmp_path / "empty")
    with pytest.raises(Refused, match="no longer stored"):
        await closing.replay(gate.state, letter, "x")
    assert gate.letter("fraud-t2-0").state == "open"


# -- poison -----------------------------------------------------------------------------------------------------------


async def poison(gate: Gate, event: ev.Event) -> Letter:
    gate.log.append_now(Append(event, "old"))
    seq = len(gate.log.events)
    await gate.then(ev.DlqRecorded(f"poison-{seq}", "poison", event.subject, seq, {"reader": "old"}))
    return gate.letter(f"poison-{seq}")


async def test_an_event_is_appended_anew_once(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    letter = await poison(gate, ev.WorkerLeft("w", "s", "left"))

    async def dies(*_: Any) -> Letter:
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(closing, "_close", dies)
        await closing.replay(gate.state, letter, "x")
    outcome, job = await closing.replay(gate.state, letter, "x")
    assert outcome == "read again and appended as message 3" and job == ""
    assert len(gate.of(ev.WorkerLeft)) == 2
    assert gate.letter(letter.entry).state == "replayed"


async def test_a_submission_is_not_repeated_over_what_came_after(gate: Gate) -> None:
    letter = await poison(gate, submitted())
    await gate.then(ev.JobCancelled(JOB, "r"))
    with pytest.raises(Refused, match="later events"):
        await closing.replay(gate.state, letter, "x")
    assert len(gate.of(ev.JobSubmitted)) == 1 and gate.letter(letter.entry).state == "open"


# -- closing ----------------------------------------------------------------------------------------------------------


async def test_a_letter_is_closed_once(gate: Gate) -> None:
    await gate.then(ev.DlqRecorded("e", "poison", "job.failed.x", 5, {}))
    letter = gate.letter("e")
    tries = [closing.discard(gate.state, letter, by, f"reason of {by}") for by in "xyz"]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(refused) == 2 and all(answer.status == 409 for answer in refused)
    assert len(gate.of(ev.DlqDiscarded)) == 1
    replayed = Append(ev.DlqReplayed("e", "x", "y"), "m", letter.at, "dlq.*.e")
    assert isinstance(gate.log.append_now(replayed), Conflict)


async def test_a_lost_answer_of_a_closing_is_its_own(gate: Gate) -> None:
    await gate.then(ev.DlqRecorded("e", "poison", "job.failed.x", 5, {}))
    gate.log.deaf = 2
    closed = await closing.discard(gate.state, gate.letter("e"), "x", "a reason")
    assert (closed.state, closed.closed_by, closed.outcome) == ("discarded", "x", "a reason")


async def test_a_silent_log_is_said(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    await gate.then(ev.DlqRecorded("e", "poison", "job.failed.x", 5, {}))
    gate.log.deaf = 1_000
    monkeypatch.setattr(closing, "TRIES", 1)
    with pytest.raises(Transient):
        await closing.discard(gate.state, gate.letter("e"), "x", "a reason")


async def test_an_unknown_cause_is_refused(gate: Gate) -> None:
    await gate.then(ev.DlqRecorded("e", "weather", "job.failed.x", 5, {}))
    with pytest.raises(Refused, match="no replay for the cause weather"):
        await closing.replay(gate.state, gate.letter("e"), "x")
