"""Given these events and advisories, which letters are wanted, with what evidence, and what closes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mesh_events import JOB, Story, created, lease, matmul, result

from shardy_common.carving import Cursor
from shardy_common.log import Append, Appended, Conflict, Projection, Recorded
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_common.wire.job import Tile
from shardy_dlq import evidence
from shardy_dlq.letters import TABLES, VERSION, Letters, key

TILE = Tile(0, 8, 0, 4)
FRAUD = ev.FraudDetected("t1", JOB, "a", "t1-0", "bb", "audit", 3, 2, "agent a")
TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


def unresolved(task: str, job: str = JOB) -> ev.TaskUnresolved:
    return ev.TaskUnresolved(task, job, "given up after 12 leases without agreement")


def reopened(entry: str, job: str = JOB, *tasks: str) -> ev.JobReopened:
    tiles = [(task, TILE) for task in tasks]
    return ev.JobReopened(job, matmul(), "requester", 1, 0, 0, Cursor(0, 4, 0), tiles, entry, "operator")


class Given:
    """The rules over their projection, which a restart reads again."""

    def __init__(self, path: Path, *events: ev.Event) -> None:
        self.story, self.letters = Story(), Letters()
        self.projection = Projection(path, TABLES, version=VERSION)
        self.letters.load(self.projection)
        self.advisories = 0
        self.then(*events)

    def then(self, *events: ev.Event) -> Given:
        for recorded in self.story.add(*events):
            self.letters.evolve(recorded)
        return self._commit()

    def advised(self, seq: int, consumer: str = "handler", at_ms: int = 1_000, number: str = "", **more: Any) -> Given:
        self.advisories += 1
        said = {
            "type": "io.nats.jetstream.advisory.v1.max_deliver",
            "id": number or f"adv{self.advisories}",
            "timestamp": "2026-01-01T00:00:00Z",
            "stream": subjects.STREAM,
            "consumer": consumer,
            "stream_seq": seq,
            "deliveries": 5,
            **more,
        }
        subject = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.EVENTS.{consumer}"
        payload = json.dumps(said).encode()
        self.letters.evolve_advisory(Recorded(self.advisories, subject, at_ms, None, "", payload))
        return self._commit()

    def when(self) -> list[Any]:
        """Everything that is wanted is appended and read back."""
        recorded = self.story.append(list(self.letters.wanted.values()))
        for item in recorded:
            self.letters.evolve(item)
        self._commit()
        return [item.event for item in recorded]

    def restarted(self) -> Given:
        self.letters = Letters()
        self.letters.load(self.projection)
        return self

    def _commit(self) -> Given:
        self.projection.commit(self.letters.rows(), len(self.story.log.events))
        return self


@pytest.fixture
def given(tmp_path: Path) -> Any:
    given = Given(tmp_path / "dlq.db")
    yield given
    given.projection.close()


@pytest.mark.parametrize("restart", [False, True])
def test_a_fraud_is_wanted_until_it_is_read_back(given: Given, restart: bool) -> None:
    given.then(FRAUD)
    if restart:  # as after kill -9 between reading and recording
        given.restarted()
    (letter,) = given.when()
    assert (letter.entry, letter.cause, letter.subject_of, letter.seq_of) == (
        "fraud-t1-0",
        "fraud",
        "fraud.detected.t1",
        1,
    )
    want = {"task": "t1", "job": JOB, "worker": "a", "name": "agent a", "lease": "t1-0", "digest": "bb"}
    assert letter.evidence == {**want, "method": "audit", "row": "3", "rounds": "2", "trace": ""}
    assert given.letters.wanted == {} and given.restarted().letters.wanted == {}
    given.then(FRAUD)
    assert given.letters.wanted == {}, "read again, recorded once"


def test_the_right_digest_is_evidence_where_it_is_known(given: Given) -> None:
    given.then(ev.FraudDetected("t1", JOB, "a", "t1-0", "bb", "recompute", 3, expected="cc"))
    assert given.when()[0].evidence["expected"] == "cc"


def test_a_letter_is_written_once_whoever_writes(given: Given) -> None:
    given.then(FRAUD)
    (item,) = given.letters.wanted.values()
    assert item.expect == 0 and item.expect_filter == "dlq.*.fraud-t1-0"
    assert isinstance(given.story.log.append_now(item), Appended)
    again = Append(item.event, "other", item.expect, item.expect_filter)
    assert isinstance(given.story.log.append_now(again), Conflict)


def test_evidence_of_a_task_given_up() -> None:
    """Who had it, how each lease ended, and what was voted for; what comes after the end changes nothing."""
    story = Story()
    story.add(
        created("t1", TILE, "a", "b", "c"),
        result("t1", 0, "a", "aa"),
        ev.ResultFailed("t1", JOB, "t1-1", "b", "oom", "out of memory"),
        ev.TaskExpired("t1", JOB, ["t1-0", "t1-2"], "deadline"),
        ev.TaskAssigned("t1", JOB, TILE, [lease("t1", 3, "d"), lease("t1", 4, "e")], "retry"),
        result("t1", 3, "d", "bb"),
        ev.FraudDetected("t1", JOB, "d", "t1-3", "bb", "audit", 5),
        unresolved("t1"),
        result("t1", 4, "e", "cc"),
    )
    found = evidence.of_task(story.log.events, 8)
    assert found["leases"] == "5" and json.loads(found["tile"]) == [0, 8, 0, 4]
    assert json.loads(found["lent"]) == [
        ["t1-0", "a", "answered aa"],
        ["t1-1", "b", "failed (oom) out of memory"],
        ["t1-2", "c", "expired (deadline)"],
        ["t1-3", "d", "proven wrong (row 5) bb"],
        ["t1-4", "e", "no answer"],
    ]
    assert json.loads(found["votes"]) == {"aa": ["a"], "bb": ["d"]}
    assert evidence.of_task(reversed(story.log.events), 8) == found, "the order of gathering is no matter"


def test_a_reopened_job_answers_all_of_its_letters(given: Given) -> None:
    given.then(unresolved("t1"), unresolved("t2"), unresolved("t9", "j-other"))
    assert {letter.entry for letter in given.when()} == {"task-t1", "task-t2", "task-t9"}
    given.then(reopened("task-t2"))
    given.restarted()
    closings = {event.entry: event for event in given.when()}
    assert set(closings) == {"task-t1", "task-t2"} and all(isinstance(e, ev.DlqReplayed) for e in closings.values())
    assert closings["task-t2"].outcome == f"job {JOB} goes on" and closings["task-t2"].by == "operator"
    assert closings["task-t1"].outcome == f"job {JOB} goes on (through task-t2)"
    assert given.letters.wanted == {}
    given.then(unresolved("t3"))
    assert [letter.entry for letter in given.when()] == ["task-t3"], "it failed again: a letter of its own, and open"
    assert given.letters.wanted == {}


def test_a_letter_that_comes_after_its_job_went_on_is_answered_too(given: Given) -> None:
    given.then(unresolved("t1"), unresolved("t2"))
    one, two = given.letters.wanted.values()
    for recorded in given.story.append([one]):
        given.letters.evolve(recorded)
    given.then(reopened("task-t1"))
    for recorded in given.story.append([two]):
        given.letters.evolve(recorded)
    assert {key(item.event) for item in given.letters.wanted.values()} == {"replayed/task-t1", "replayed/task-t2"}
    given.when()
    assert given.letters.wanted == {}


def test_a_closing_by_somebody_else_ends_the_wish(given: Given) -> None:
    given.then(unresolved("t1"))
    given.when()
    given.then(reopened("task-t1"))
    (item,) = given.letters.wanted.values()
    given.then(ev.DlqDiscarded("task-t1", "somebody", "a reason"))
    assert isinstance(given.story.log.append_now(item), Conflict), "a letter is closed once"
    assert given.letters.wanted == {} and given.restarted().letters.wanted == {}


def test_advisories_become_letters_once(given: Given) -> None:
    given.advised(7).advised(7).advised(7, "other").advised(7, stream="FOREIGN").advised(8, type="x")
    assert given.letters.advisories_seq == 5
    letters = given.when()
    assert [(e.cause, e.seq_of, e.evidence["consumer"]) for e in letters] == [
        ("max-deliveries", 7, "handler"),
        ("max-deliveries", 7, "other"),
        ("max-deliveries", 8, "handler"),
    ]
    want = {"stream": "EVENTS", "consumer": "handler", "stream_seq": "7", "deliveries": "5"}
    assert want.items() <= letters[0].evidence.items()
    assert "5 deliveries" in letters[0].evidence["why"]
    given.restarted()
    assert given.letters.advisories_seq == 5 and given.letters.wanted == {}
    given.advised(7)
    assert given.letters.wanted == {}, "the server told again of what is known"


def test_wanted_letters_of_advisories_survive_a_restart(given: Given) -> None:
    given.advised(7).restarted().advised(7)
    assert len(given.letters.wanted) == 1 and len(given.when()) == 1


def test_after_a_replay_a_failure_is_news(given: Given) -> None:
    given.advised(7, at_ms=900)
    (first,) = given.when()
    given.story.at(2_000)
    given.then(ev.DlqReplayed(first.entry, "operator", "made again"))
    given.advised(7, at_ms=1_999)
    assert given.letters.wanted == {}, "told before the replay"
    given.advised(7, at_ms=2_001)
    (second,) = given.when()
    assert second.entry != first.entry and second.seq_of == 7


def test_a_rebuild_reads_the_advisories_again_and_wants_nothing(given: Given, tmp_path: Path) -> None:
    given.advised(7, at_ms=900, number="n1")
    (first,) = given.when()
    given.story.at(2_000).add(ev.DlqReplayed(first.entry, "operator", "made again"))
    again = Given(tmp_path / "again.db")
    again.story = given.story
    for recorded in given.story.log.events:
        again.letters.evolve(recorded)
    again.advised(7, at_ms=900, number="n1")
    assert again.letters.wanted == {}
    again.projection.close()


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"{}", b'{"type": 1}'])
def test_odd_advisories_are_passed_over(given: Given, payload: bytes) -> None:
    given.letters.evolve_advisory(Recorded(3, "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.x.y", 1, None, "", payload))
    assert given.letters.wanted == {} and given.letters.advisories_seq == 3


def test_a_terminated_message_says_why(given: Given) -> None:
    given.advised(7, type="io.nats.jetstream.advisory.v1.terminated", reason="bad bytes")
    assert given.when()[0].evidence["why"] == "terminated by its handler: bad bytes"


def test_entries_are_subject_tokens(given: Given) -> None:
    given.advised(7, number="a.b*c > d")
    (letter,) = given.when()
    assert letter.subject.count(".") == 2 and " " not in letter.subject
