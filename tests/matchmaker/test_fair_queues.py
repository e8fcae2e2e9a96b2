"""Whose work is lent next: shares of requesters, turns of their jobs, and that nobody is kept waiting by others."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_events import Story, joined, matmul, result, tiered

from shardy_common.wire import events as ev
from shardy_matchmaker import decide as deciding
from shardy_matchmaker.core import MatchmakerCore
from shardy_matchmaker.decide import Matchmaker
from shardy_matchmaker.fair import CREDIT_TASKS, Turns

AUDIT, QUORUM = ("audit", 1), ("quorum", 2)
SIZE_MAX = 50


def served_in_order(turns: Turns, sizes: Any, count: int, others: tuple[str, ...] = ()) -> list[tuple[str, int]]:
    """(requester, work) of the next `count` tasks, all of which can be lent."""
    out: list[tuple[str, int]] = []

    def serve(who: str) -> float:
        found = turns.next_job(who, ())
        if found is None:
            return 0
        turns.served_job(found[0])
        out.append((who, sizes(who)))
        return out[-1][1]

    turns.begin(others).run(serve, lambda: len(out) < count)
    return out


@settings(max_examples=150, deadline=None)
@given(jobs=st.lists(st.integers(1, 40), min_size=2, max_size=6), seed=st.integers(0, 2**32), rounds=st.integers(1, 7))
def test_each_of_r_requesters_gets_its_part_of_any_window(jobs: list[int], seed: int, rounds: int) -> None:
    """However many jobs the others have, and however large their tasks are: up to the size of a task at either end."""
    rng, turns = random.Random(seed), Turns()
    for who, count in enumerate(jobs):
        for job in range(count):
            turns.add(f"{who}/{job}", str(who), rng.choice((AUDIT, QUORUM)))
    order: list[tuple[str, int]] = []
    for _ in range(rounds):
        order += served_in_order(turns, lambda _who: rng.randint(1, SIZE_MAX), 300 // rounds)
    first, last = sorted(rng.sample(range(len(order) + 1), 2))
    got = Counter({str(who): 0 for who in range(len(jobs))})
    for who, work in order[first:last]:
        got[who] += work
    assert min(got.values()) >= got.total() / len(jobs) - 2 * SIZE_MAX


@settings(max_examples=100, deadline=None)
@given(jobs=st.integers(1, 60), seed=st.integers(0, 2**32))
def test_a_requesters_jobs_take_turns_whatever_they_need(jobs: int, seed: int) -> None:
    rng, turns = random.Random(seed), Turns()
    for job in range(jobs):
        turns.add(f"j{job}", "anna", rng.choice((AUDIT, QUORUM, ("quorum", 3))))
    seen: list[str] = []
    for _ in range(3 * jobs):
        job, _ = turns.next_job("anna", ())  # type: ignore[misc]
        turns.served_job(job)
        seen.append(job)
    for start in range(0, len(seen), jobs):
        assert len(set(seen[start : start + jobs])) == jobs, "a job came twice before another came once"


def test_who_comes_late_is_next_and_owes_nothing() -> None:
    turns = Turns()
    for job in range(1_000):
        turns.add(f"a{job}", "anna", AUDIT)
    served_in_order(turns, lambda _who: 10, 500)
    turns.add("b", "bert", AUDIT)
    assert [who for who, _ in served_in_order(turns, lambda _who: 10, 6)].count("bert") == 3


def test_leaving_and_coming_back_wins_nothing() -> None:
    turns = Turns()
    turns.add("a", "anna", AUDIT)
    turns.add("b", "bert", AUDIT)
    order = served_in_order(turns, lambda who: 100 if who == "bert" else 1, 2)
    assert {who for who, _ in order} == {"anna", "bert"}
    turns.remove("b")
    served_in_order(turns, lambda _who: 1, 5)
    turns.add("b2", "bert", AUDIT)
    assert "bert" not in {who for who, _ in served_in_order(turns, lambda _who: 1, 50)}, "it got 100 a moment ago"


def test_who_could_not_be_served_saves_up_a_few_tasks_and_no_more() -> None:
    turns = Turns()
    turns.add("a", "anna", AUDIT)
    turns.add("b", "bert", QUORUM)
    assert not turns.late("bert")
    for _ in range(100):
        served: list[str] = []

        def serve(who: str, served: list[str] = served) -> float:
            if who == "bert":
                return 0
            served.append(who)
            return 1

        turns.begin().run(serve, lambda served=served: len(served) < 10)  # type: ignore[misc]
    assert turns.late("bert") and not turns.late("anna")
    order = [who for who, _ in served_in_order(turns, lambda _who: 1, 60)]
    assert CREDIT_TASKS <= order.count("bert") - order.count("anna") <= CREDIT_TASKS + 2, "it waited 1,000 tasks"


def test_what_is_blocked_is_passed_over_and_keeps_its_place() -> None:
    turns = Turns()
    turns.add("q", "anna", QUORUM)
    turns.add("a", "anna", AUDIT)
    assert turns.next_job("anna", ()) == ("a", AUDIT)
    assert turns.next_job("anna", {AUDIT}) == ("q", QUORUM)
    assert turns.next_job("anna", {AUDIT, QUORUM}) is None and turns.next_job("nobody", ()) is None
    turns.remove("a")
    turns.remove("a")
    assert turns.next_job("anna", ()) == ("q", QUORUM) and len(turns) == 1 and "a" not in turns


# -- the matchmaker ---------------------------------------------------------------------------------------------------


class Mesh:
    """A matchmaker on a story. Workers answer at once, and every answer is verified, when told to."""

    def __init__(self, *workers: str, gops: float = 10.0) -> None:
        self.story, self.core, self.rng = Story(), MatchmakerCore(Matchmaker()), random.Random(3)
        self.lent: list[tuple[str, ev.TaskCreated]] = []  # requester, task
        for worker in workers:
            self.add(joined(worker, gops=gops), tiered(worker))

    @property
    def fold(self) -> Any:
        return self.core.matchmaker.fold

    def add(self, *events: ev.Event) -> None:
        for recorded in self.story.add(*events):
            self.core.evolve(recorded)

    def submit(self, requester: str, *jobs: str, **more: Any) -> None:
        for job in jobs:
            self.add(ev.JobSubmitted(job, matmul(64, 4, 3, task_rows=4, **more), requester))

    def decide(self) -> list[ev.Event]:
        items = self.core.matchmaker.decide(self.story.now_ms, self.rng)
        for item in items:
            if isinstance(item.event, ev.TaskCreated):
                self.lent.append((self.fold.jobs[item.event.job].requester, item.event))
        for recorded in self.story.append(items):
            self.core.evolve(recorded)
        return [item.event for item in items]

    def answer(self, count: int, *, verify: bool = True) -> None:
        """The oldest tasks that are out are answered by all that have them."""
        for task in list(self.fold.tasks.values())[:count]:
            for lease in list(task.leases):
                if task.leases[lease].state == "live":
                    self.add(result(task.id, int(lease.rpartition("-")[2]), task.leases[lease].worker, job=task.job))
            if verify and task.id in self.fold.tasks:
                workers = [lease.worker for lease in task.leases.values()]
                self.add(ev.TaskVerified(task.id, task.job, task.tile, "aa", 128, workers, "quorum", 0, task.ops))


def few_leases(mesh: Mesh, count: int) -> None:
    for worker in mesh.fold.workers.values():
        worker.max_leases = count


def test_one_job_is_not_kept_by_a_thousand_of_somebody_else() -> None:
    mesh = Mesh("a", "b")
    few_leases(mesh, 2)
    mesh.submit("many", *(f"m{n}" for n in range(1_000)))
    for _ in range(5):
        mesh.decide()
        mesh.answer(2)
    mesh.submit("one", "lonely")
    before = len(mesh.lent)
    for _ in range(20):
        mesh.decide()
        mesh.answer(2)
    since = [who for who, _ in mesh.lent[before:]]
    assert since.count("one") == 16, "all of its tasks"
    assert since[: 2 * 16 + 2].count("one") == 16, "one of two tasks is its own, from when it came"


def test_a_task_costs_a_look_at_one_job_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Mesh("a", "b")
    few_leases(mesh, 2)
    mesh.submit("many", *(f"m{n}" for n in range(1_000)))
    mesh.decide()  # here each job takes its place
    looks = 0
    shape_of = deciding._shape

    def counted(job: Any) -> tuple[int, int]:
        nonlocal looks
        looks += 1
        return shape_of(job)

    monkeypatch.setattr(deciding, "_shape", counted)
    for _ in range(50):
        mesh.answer(2)
        mesh.decide()
    assert len(mesh.lent) >= 100 and looks <= 4 * len(mesh.lent)
    looks = 0
    mesh.answer(1)  # both devices have room for one: each task of an audit, none of a quorum of three
    for _ in range(50):
        mesh.core.matchmaker.decide(mesh.story.now_ms, mesh.rng)
    assert looks <= 200


def test_a_job_that_needs_two_devices_is_not_kept_by_jobs_that_take_each_as_it_comes_free() -> None:
    """Devices come free one at a time, and the audits are always ready to take them."""
    mesh = Mesh("a", "b")
    few_leases(mesh, 1)
    mesh.submit("audits", *(f"m{n}" for n in range(20)), policy="audit")
    mesh.decide()
    mesh.submit("pair", "quorum")
    for _ in range(20):
        mesh.answer(1)
        mesh.decide()
    assert any(who == "pair" for who, _ in mesh.lent)
    assigned = [e.event for e in mesh.story.log.events if isinstance(e.event, ev.TaskAssigned)]
    assert assigned and {event.job for event in assigned} == {"quorum"}, "its second device follows"


def test_tasks_that_nobody_can_finish_keep_nobody_elses_from_being_carved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "WANTING_EACH_MAX", 8)
    mesh = Mesh("a")
    mesh.submit("greedy", "g1", "g2", redundancy=7)  # one device is here
    for _ in range(10):
        mesh.decide()
    assert [who for who, _ in mesh.lent].count("greedy") == 8
    mesh.submit("modest", "m", policy="audit")
    mesh.decide()
    assert [who for who, _ in mesh.lent].count("modest") == 16, "all of it"


def test_retries_count_as_the_work_that_they_are() -> None:
    """Somebody's tasks run out again and again: he pays for that, not the others."""
    mesh = Mesh("a", "b", "c", "d")
    few_leases(mesh, 1)
    mesh.submit("unlucky", *(f"u{n}" for n in range(20)), policy="audit")
    mesh.submit("lucky", *(f"l{n}" for n in range(20)), policy="audit")
    got: Counter[str] = Counter()
    for _ in range(40):
        for event in mesh.decide():
            if isinstance(event, (ev.TaskCreated, ev.TaskAssigned)):
                got[mesh.fold.jobs[event.job].requester] += len(event.leases)
        for task in list(mesh.fold.tasks.values()):
            for lease, state in list(task.leases.items()):
                if state.state != "live":
                    continue
                if task.job.startswith("u"):
                    mesh.add(ev.TaskExpired(task.id, task.job, [lease], "lost"))
                else:
                    mesh.add(result(task.id, int(lease.rpartition("-")[2]), state.worker, job=task.job))
                    mesh.add(
                        ev.TaskVerified(task.id, task.job, task.tile, "aa", 1, [state.worker], "audit", 2, task.ops)
                    )
    assert got["lucky"] >= 0.45 * got.total()


def test_a_quorum_that_is_behind_slows_what_it_must_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "AUDITS_WAITING_MAX", 3)
    monkeypatch.setattr(deciding, "VERDICTS_WAITING_MAX", 6)
    mesh = Mesh("a", "b")
    few_leases(mesh, 2)
    mesh.submit("anna", "x", policy="audit")
    mesh.decide()
    mesh.answer(4, verify=False)
    assert len(mesh.fold.unjudged) == 4
    assert not mesh.decide(), "the devices are free, and get no more to be audited"
    mesh.submit("bert", "y")
    assert {who for who, _ in mesh.lent} == {"anna"}
    mesh.decide()
    assert {who for who, _ in mesh.lent} == {"anna", "bert"}, "what is only counted goes on"
    mesh.answer(100, verify=False)
    assert len(mesh.fold.unjudged) == 6 and not mesh.decide(), "until that is too much too"
    mesh.answer(100)
    assert mesh.fold.unjudged == {} and mesh.decide()


def test_jobs_of_another_replica_are_passed_over_and_found_when_they_move() -> None:
    mine: set[str] = {"m1"}
    mesh = Mesh("a", "b")
    mesh.core.matchmaker.owns = lambda key: key in mine or key in ("a", "b")
    mesh.submit("anna", "m1", "m2")
    mesh.decide()
    assert {task.job for _, task in mesh.lent} == {"m1"}
    mine.add("m2")
    mesh.decide()
    assert {task.job for _, task in mesh.lent} == {"m1"}, "not looked at again at once"
    mesh.core.matchmaker.review()
    mesh.decide()
    assert {task.job for _, task in mesh.lent} == {"m1", "m2"}


def test_a_job_whose_end_another_lost_is_looked_at_from_the_rows() -> None:
    mesh = Mesh("a")
    mesh.submit("anna", "m1", policy="audit")
    mesh.decide()
    mesh.answer(100)
    assert list(mesh.fold.ending) == ["m1"]
    assert [type(event) for event in mesh.decide()] == [ev.JobCompleted]
    assert mesh.fold.ending == {} and mesh.fold.jobs == {} and len(mesh.core.matchmaker.turns) == 0
