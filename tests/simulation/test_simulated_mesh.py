"""Hundreds of meshes in storms, each from a seed; and bugs planted on purpose, which the storms must find.

SHARDY_SIM_SEEDS=n runs n seeds, SHARDY_SIM_SEED=n replays one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from mesh_simulation import BrokenInvariant, GatewayNode, Mesh, random_tile

from shardy_common import limits
from shardy_common.carving import Cursor
from shardy_common.log import Append, Projection
from shardy_common.wire import events as ev
from shardy_dlq.letters import Letters
from shardy_matchmaker.decide import Matchmaker
from shardy_matchmaker.fold import _HANDLERS as matchmaker_handlers
from shardy_matchmaker.fold import Fold
from shardy_matchmaker.pool import Pool
from shardy_matchmaker.state import TaskState
from shardy_quorum.tally import verdict
from shardy_quorum.task import _HANDLERS as quorum_handlers
from shardy_quorum.task import Findings, Quorum, Vote

SEEDS = int(os.environ.get("SHARDY_SIM_SEEDS", "300"))
ONE = os.environ.get("SHARDY_SIM_SEED")
POOL: dict[str, Projection] = {}


def storm(seed: int, patch: pytest.MonkeyPatch) -> Mesh:
    """Odd seeds carve tiles of every shape, even ones those of the real chunker. In every third seed tasks are given up
    soon, so that jobs fail and are reopened."""
    if seed % 3 == 0:
        patch.setattr(limits, "ATTEMPTS_MAX", 4)
    if seed % 2:
        patch.setattr("shardy_matchmaker.decide.next_tile", random_tile)
    return Mesh(seed, POOL).run()


def test_storms_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    events = verified = frauds = reopened = finished = 0
    for seed in [int(ONE)] if ONE else range(SEEDS):
        with monkeypatch.context() as patch:
            try:
                mesh = storm(seed, patch)
            except Exception as error:
                raise AssertionError(f"seed {seed} fails; SHARDY_SIM_SEED={seed} replays it: {error}") from error
        events += len(mesh.log.events)
        verified += sum(r.subject.startswith("task.verified") for r in mesh.log.events)
        frauds += sum(r.subject.startswith("fraud.") for r in mesh.log.events)
        reopened += sum(mesh.reopenings.values())
        finished += sum(
            isinstance(r.event, ev.JobCompleted) and r.event.job in mesh.reopenings for r in mesh.log.events
        )
    print(
        f"{events} events, {verified} verified tasks, {frauds} frauds, {reopened} reopened, {finished} then completed"
    )
    assert ONE or (reopened > SEEDS / 10 and finished > SEEDS / 20), "jobs that never go on show nothing"
    assert ONE or (verified > SEEDS and frauds > SEEDS / 10), "storms in which nothing happens show nothing"


def test_a_seed_replays_to_the_same_log(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (storm(11, monkeypatch).log.events for _ in range(2))
    assert first == second


# -- planted bugs: a simulation that cannot fail shows nothing ---------------------------------------------------------


def plant_no_carving_rule(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cursor, "accepts", lambda *_: True)


def plant_one_vote_too_few(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("shardy_quorum.task.verdict", lambda votes, need, asked: verdict(votes, need - 1, asked))


def plant_refused_proposals_stay_marked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Matchmaker, "settled", lambda *_: None)


def plant_refused_verdicts_stay_busy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Quorum, "settled", lambda *_: None)


def plant_expired_leases_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TaskState, "counting", property(lambda task: len(task.leases)))


def plant_leases_count_instead_of_workers(patch: pytest.MonkeyPatch) -> None:
    states = ("live", "answered")
    patch.setattr(TaskState, "counting", property(lambda task: sum(x.state in states for x in task.leases.values())))


def plant_a_worker_votes_twice(patch: pytest.MonkeyPatch) -> None:
    def fold(quorum: Quorum, event: ev.ResultSubmitted, _recorded: Any) -> None:
        task = quorum.tasks.get(event.task)
        if task is not None and task.leases.get(event.lease) == event.worker and event.lease not in task.votes:
            task.votes[event.lease] = Vote(event.worker, event.digest, event.size)
            quorum.touched_tasks.add(event.task)
            quorum.ready[event.task] = None

    patch.setitem(quorum_handlers, ev.ResultSubmitted, fold)
    # as when nobody else is there: who let a lease expire gets the task again at once
    patch.setattr(Pool, "pick", _eager_pick)


def _eager_pick(pool: Pool, barred_workers: set[str], barred_addresses: set[str]) -> Any:
    fitting = [c for c in pool._items if c.id not in barred_workers and c.address not in barred_addresses]
    return min(fitting, key=lambda c: c.id) if fitting else None


def plant_a_minority_is_guilty_unproven(patch: pytest.MonkeyPatch) -> None:
    honest = Quorum.judge

    def judge(quorum: Quorum, findings: Findings) -> Any:
        for digest in findings.missing[1:]:
            findings.wrong[digest] = 0
        return honest(quorum, findings)

    patch.setattr(Quorum, "judge", judge)


def plant_a_dispute_is_not_written_down(patch: pytest.MonkeyPatch) -> None:
    honest = Fold._task_disputed

    def fold(fold: Fold, event: ev.TaskDisputed, recorded: Any) -> None:
        before = set(fold.touched["tasks"])
        honest(fold, event, recorded)
        fold.touched["tasks"] = before

    patch.setitem(matchmaker_handlers, ev.TaskDisputed, fold)


def plant_a_checkpoint_ahead_of_its_rows(patch: pytest.MonkeyPatch) -> None:
    def commit(projection: Projection, rows: Any, checkpoint: int) -> None:
        projection.connection.execute("UPDATE _meta SET checkpoint = ?", (checkpoint,))
        if checkpoint % 5:
            honest(projection, rows, checkpoint)

    honest = Projection.commit
    patch.setattr(Projection, "commit", commit)


def plant_wanted_letters_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    def load(letters: Letters, projection: Projection) -> None:
        honest(letters, projection)
        letters.wanted.clear()

    honest = Letters.load
    patch.setattr(Letters, "load", load)


def plant_no_expectation_on_verdicts(patch: pytest.MonkeyPatch) -> None:
    def own(quorum: Quorum, task: Any, job: Any, event: ev.Event, msg_id: str) -> Append:
        return Append(event, f"{msg_id}/{id(quorum)}/{task.seq}", trace=job.trace)

    patch.setattr(Quorum, "_own", own)


def plant_the_quorum_forgets_reopened_tasks(patch: pytest.MonkeyPatch) -> None:
    patch.delitem(quorum_handlers, ev.JobReopened)


def plant_letters_of_reopened_jobs_stay_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Letters, "_job_reopened", lambda *_: None)


def plant_a_job_is_reopened_without_expectation(patch: pytest.MonkeyPatch) -> None:
    def propose(node: GatewayNode, items: list[Append]) -> None:
        honest(node, [Append(item.event, f"{item.msg_id}/{node.mesh.rng.random()}") for item in items])

    honest = GatewayNode.propose
    patch.setattr(GatewayNode, "propose", propose)


# seeds within which each must be found
PLANTED = {
    plant_no_carving_rule: 20,
    plant_one_vote_too_few: 20,
    plant_refused_proposals_stay_marked: 60,
    plant_refused_verdicts_stay_busy: 60,
    plant_expired_leases_count: 20,
    plant_leases_count_instead_of_workers: 300,
    plant_a_worker_votes_twice: 100,
    plant_a_minority_is_guilty_unproven: 100,
    plant_a_dispute_is_not_written_down: 60,
    plant_a_checkpoint_ahead_of_its_rows: 10,
    plant_wanted_letters_are_forgotten: 150,
    plant_no_expectation_on_verdicts: 60,
    plant_the_quorum_forgets_reopened_tasks: 30,
    plant_letters_of_reopened_jobs_stay_open: 30,
    plant_a_job_is_reopened_without_expectation: 60,
}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    with monkeypatch.context() as patch:
        yield patch


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Any, planted: pytest.MonkeyPatch) -> None:
    plant(planted)
    for seed in range(PLANTED[plant]):
        with planted.context() as patch:
            try:
                storm(seed, patch)
            except (BrokenInvariant, KeyError, IndexError) as found:
                print(f"seed {seed}: {found}"[:300])
                return
    raise AssertionError(f"{PLANTED[plant]} seeds saw nothing wrong")
