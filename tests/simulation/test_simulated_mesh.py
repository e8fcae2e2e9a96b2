"""Hundreds of meshes in storms, each from a seed; and bugs planted on purpose, which the storms must find.

SHARDY_SIM_SEEDS=n runs n seeds, SHARDY_SIM_SEED=n replays one.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from mesh_simulation import LEASES_MAX, GatewayNode, Mesh, random_tile

from shardy_common import limits, trust
from shardy_common.carving import Cursor
from shardy_common.log import Append, Projection
from shardy_common.replicas import Replicas, owner
from shardy_common.wire import events as ev
from shardy_dlq.letters import Letters
from shardy_matchmaker.decide import Matchmaker, Overlay
from shardy_matchmaker.fold import _HANDLERS as matchmaker_handlers
from shardy_matchmaker.fold import Fold
from shardy_matchmaker.pool import Pool
from shardy_matchmaker.state import TaskState
from shardy_matchmaker.tiers import Tier, tier_for
from shardy_quorum.canary import Canaries
from shardy_quorum.state import Findings, Vote
from shardy_quorum.tally import verdict
from shardy_quorum.task import _HANDLERS as quorum_handlers
from shardy_quorum.task import Quorum

SEEDS = int(os.environ.get("SHARDY_SIM_SEEDS", "160"))
ONE = os.environ.get("SHARDY_SIM_SEED")
POOL: dict[str, Projection] = {}
TRUST = {"PROBATION_TASKS": 2, "PROBATION_OPS": 40, "FLOOR": 0.2, "VALUE_SHARE": 2, "CHECK_COVERS": 4}


def storm(seed: int, patch: pytest.MonkeyPatch, trusting: bool = False) -> Mesh:
    """Odd seeds carve tiles of every shape, even ones those of the real chunker. Trust is scaled down with the tasks:
    a few checked ones are a long record here."""
    for name, value in TRUST.items():
        patch.setattr(trust, name, value)
    if seed % 2:
        patch.setattr("shardy_matchmaker.decide.next_tile", random_tile)
    return Mesh(seed, POOL, trusting=trusting).run()


def test_storms_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    events = verified = frauds = 0
    methods: Counter[str] = Counter()
    for seed in [int(ONE)] if ONE else range(SEEDS):
        with monkeypatch.context() as patch:
            try:
                mesh = storm(seed, patch)
            except Exception as error:
                raise AssertionError(f"seed {seed} fails; SHARDY_SIM_SEED={seed} replays it: {error}") from error
        events += len(mesh.log.events)
        verified += sum(r.subject.startswith("task.verified") for r in mesh.log.events)
        frauds += sum(r.subject.startswith("fraud.") for r in mesh.log.events)
        for recorded in mesh.log.events:
            if isinstance(recorded.event, ev.TaskVerified):
                methods[recorded.event.method] += 1
            elif isinstance(recorded.event, ev.FraudDetected):
                methods["caught by a canary"] += bool(recorded.event.expected)
    print(f"{events} events, {verified} verified tasks, {frauds} frauds, {dict(methods)}")
    assert ONE or (verified > SEEDS and frauds > SEEDS / 10), "storms in which nothing happens show nothing"
    rare = ("trust", "canary", "caught by a canary")
    assert ONE or SEEDS < 100 or all(methods[name] > SEEDS / 80 for name in rare), dict(methods)


def test_storms_of_a_trusting_mesh_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = wrong = 0
    for seed in range(SEEDS // 8):
        with monkeypatch.context() as patch:
            try:
                mesh = storm(seed, patch, trusting=True)
            except Exception as error:
                raise AssertionError(f"seed {seed} of a trusting mesh fails: {error}") from error
        for recorded in mesh.log.events:
            if isinstance(recorded.event, ev.TaskVerified) and recorded.event.method == "trust":
                alone += 1
                wrong += recorded.event.digest != mesh.right_digest(recorded.event)
    print(f"{alone} results on trust, {wrong} of them wrong")
    assert SEEDS < 100 or (alone > SEEDS and 0 < wrong < alone / 4), (alone, wrong)


def failing_storm(seed: int, patch: pytest.MonkeyPatch) -> Mesh:
    """Tasks are given up soon, so that jobs fail, and operators reopen them."""
    patch.setattr(limits, "ATTEMPTS_MAX", 4)
    return storm(seed, patch)


def test_storms_in_which_jobs_fail_and_go_on_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    reopened = again = finished = 0
    for seed in [int(ONE)] if ONE else range(SEEDS // 2):
        with monkeypatch.context() as patch:
            try:
                mesh = failing_storm(seed, patch)
            except Exception as error:
                raise AssertionError(f"seed {seed} fails; SHARDY_SIM_SEED={seed} replays it: {error}") from error
        reopened += sum(mesh.reopenings.values())
        again += sum(count > 1 for count in mesh.reopenings.values())
        ends = [r.event for r in mesh.log.events if isinstance(r.event, ev.JobCompleted)]
        finished += sum(event.job in mesh.reopenings for event in ends)
    print(f"{reopened} jobs reopened, {again} more than once, {finished} completed then")
    assert ONE or (reopened > SEEDS / 8 and finished > SEEDS / 16 and again), "jobs that never go on show nothing"


def shared_storm(seed: int, patch: pytest.MonkeyPatch) -> Mesh:
    """Two or three matchmakers and quorums that share the work; in odd seeds they see each other come and go, each by
    itself. Workers hold few leases, so that lending to one from several sides meets the limit."""

    def few(gops: float, memory_mib: int, gpu: bool) -> Tier | None:
        tier = tier_for(gops, memory_mib, gpu)
        return replace(tier, max_leases=LEASES_MAX) if tier else None

    patch.setattr("shardy_matchmaker.decide.tier_for", few)
    patch.setattr("shardy_matchmaker.decide.next_tile", random_tile)
    return Mesh(seed, POOL, shared=True).run()


def test_storms_in_which_replicas_share_the_work_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = beyond = 0
    for seed in [int(ONE)] if ONE else range(SEEDS // 3):
        with monkeypatch.context() as patch:
            try:
                mesh = shared_storm(seed, patch)
            except Exception as error:
                raise AssertionError(f"seed {seed} fails; SHARDY_SIM_SEED={seed} replays it: {error}") from error
        verified += sum(r.subject.startswith("task.verified") for r in mesh.log.events)
        beyond += mesh.held_most > LEASES_MAX
    print(f"{verified} verified tasks; in {beyond} storms a device held more than one matchmaker would lend")
    assert ONE or (verified > SEEDS // 3 and beyond), "storms that never meet a limit say nothing about it"


def test_a_seed_replays_to_the_same_log(monkeypatch: pytest.MonkeyPatch) -> None:
    for run in (storm, shared_storm):
        first, second = (run(11, monkeypatch).log.events for _ in range(2))
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


def plant_what_others_leave_is_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Quorum, "review", lambda _quorum: None)


def plant_the_old_view_is_remembered(patch: pytest.MonkeyPatch) -> None:
    def owns(replicas: Replicas, key: str) -> bool:
        if len(replicas.names) == 1:
            return True
        return replicas.__dict__.setdefault("first", {}).setdefault(key, owner(replicas.names, key) == replicas.me)

    patch.setattr(Replicas, "owns", owns)


def plant_room_is_counted_by_the_log_alone(patch: pytest.MonkeyPatch) -> None:
    """A matchmaker forgets what it has proposed, and lends the same room again and again."""

    def pool(fold: Fold, _overlay: Overlay, *more: Any) -> Pool:
        return Pool(fold, Overlay(), *more)

    patch.setattr("shardy_matchmaker.decide.Pool", pool)


# seeds within which each must be found, of storms in which replicas share the work
PLANTED_SHARED = {
    plant_what_others_leave_is_not_looked_at: 400,
    plant_the_old_view_is_remembered: 40,
    plant_room_is_counted_by_the_log_alone: 40,
    plant_no_expectation_on_verdicts: 60,
}


def plant_trust_without_a_record(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trust, "budget", lambda _record: 10**9)
    patch.setattr(trust, "replication_probability", lambda *_: 0.2)


def plant_what_is_out_on_trust_is_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trust, "room", lambda record: trust.budget(record) - record.lent)


def plant_what_is_lent_on_trust_is_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trust, "room", lambda record: trust.budget(record) - record.exposure)


def plant_a_lost_lone_task_stays_lone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fold, "_share", lambda *_: None)
    patch.setattr(Quorum, "_share", lambda *_: None)


def plant_the_convicted_keep_their_voice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fold, "_silence", lambda *_: None)
    patch.setattr(Quorum, "_silence", lambda *_: None)


def plant_only_the_matchmaker_silences(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Quorum, "_silence", lambda *_: None)


def plant_canaries_expect_nothing(patch: pytest.MonkeyPatch) -> None:
    honest = Canaries.drafted

    def drafted(canaries: Canaries, draft: Any) -> list[Append]:
        return [Append(item.event, item.msg_id) for item in honest(canaries, draft)]

    patch.setattr(Canaries, "drafted", drafted)


def plant_a_failed_canary_is_not_ended(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Canaries, "cancel", lambda *_: [])


def plant_nobody_rests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("shardy_matchmaker.pool.rests_until_ms", lambda *_: 0)


def plant_the_quorum_forgets_reopened_tasks(patch: pytest.MonkeyPatch) -> None:
    patch.delitem(quorum_handlers, ev.JobReopened)


def plant_letters_of_reopened_jobs_stay_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Letters, "_job_reopened", lambda *_: None)


def plant_an_end_is_known_by_its_job_alone(patch: pytest.MonkeyPatch) -> None:
    """Its message id is that of the job's first end, so the log takes it for a repeat."""
    honest = Matchmaker.decide

    def decide(matchmaker: Matchmaker, *more: Any) -> list[Append]:
        ends = (ev.JobCompleted, ev.JobFailed)
        return [
            replace(item, msg_id=f"end/{item.event.entity_id}") if isinstance(item.event, ends) else item
            for item in honest(matchmaker, *more)
        ]

    patch.setattr(Matchmaker, "decide", decide)


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
    plant_trust_without_a_record: 60,
    plant_what_is_out_on_trust_is_not_counted: 60,
    plant_what_is_lent_on_trust_is_not_counted: 60,
    plant_a_lost_lone_task_stays_lone: 60,
    plant_the_convicted_keep_their_voice: 60,
    plant_only_the_matchmaker_silences: 60,
    plant_canaries_expect_nothing: 60,
    plant_a_failed_canary_is_not_ended: 60,
    plant_nobody_rests: 60,
}


# of storms in which jobs fail and go on
PLANTED_FAILING = {
    plant_the_quorum_forgets_reopened_tasks: 20,
    plant_letters_of_reopened_jobs_stay_open: 20,
    plant_a_job_is_reopened_without_expectation: 40,
    plant_an_end_is_known_by_its_job_alone: 20,
}


IN_TRUSTING_MESHES = {
    plant_what_is_out_on_trust_is_not_counted,
    plant_what_is_lent_on_trust_is_not_counted,
    plant_a_lost_lone_task_stays_lone,
}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    with monkeypatch.context() as patch:
        yield patch


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Any, planted: pytest.MonkeyPatch) -> None:
    run = functools.partial(storm, trusting=plant in IN_TRUSTING_MESHES)
    finds(run, plant, PLANTED[plant], planted)


@pytest.mark.parametrize("plant", PLANTED_FAILING, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found_where_jobs_fail_and_go_on(plant: Any, planted: pytest.MonkeyPatch) -> None:
    finds(failing_storm, plant, PLANTED_FAILING[plant], planted)


@pytest.mark.parametrize("plant", PLANTED_SHARED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found_where_replicas_share_the_work(plant: Any, planted: pytest.MonkeyPatch) -> None:
    finds(shared_storm, plant, PLANTED_SHARED[plant], planted)


def finds(run: Any, plant: Any, seeds: int, planted: pytest.MonkeyPatch) -> None:
    plant(planted)
    for seed in range(seeds):
        with planted.context() as patch:
            try:
                run(seed, patch)
            except (AssertionError, LookupError, ValueError, TypeError) as found:
                print(f"seed {seed}: {found}"[:300])
                return
    raise AssertionError(f"{seeds} seeds saw nothing wrong")
