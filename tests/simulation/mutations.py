"""Bugs planted on purpose, which the storms must find: a simulation that cannot fail shows nothing.

Each says what it plants, in which module, and which fault brings it to light: it is looked for in worlds in which
nothing but that fault goes wrong, and where it names one it must not show in worlds without any.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest
import storms
from mesh_gateway import GatewayNode
from mesh_oracle import BrokenInvariant

from shardy_common import trust
from shardy_common.carving import Cursor
from shardy_common.log import Append, MemoryLog
from shardy_common.replicas import Replicas, owner
from shardy_common.service import FoldLoop
from shardy_common.wire import events as ev
from shardy_dlq.letters import Letters
from shardy_gateway.evidence import Answers
from shardy_gateway.keyring import Keyring
from shardy_gateway.ledger import Ledger
from shardy_gateway.reputation import Reputations
from shardy_gateway.views import _HANDLERS as views_handlers
from shardy_gateway.views import Views
from shardy_gossip_bridge.directory import Directory
from shardy_matchmaker.decide import Matchmaker, Overlay
from shardy_matchmaker.fold import _HANDLERS as matchmaker_handlers
from shardy_matchmaker.fold import Fold
from shardy_matchmaker.pool import Pool
from shardy_matchmaker.state import TaskState
from shardy_prover_verifier.registry import Registry
from shardy_quorum.canary import Canaries
from shardy_quorum.state import Findings, Vote
from shardy_quorum.tally import verdict
from shardy_quorum.task import _HANDLERS as quorum_handlers
from shardy_quorum.task import Quorum

Patch = pytest.MonkeyPatch
WITHOUT = 6  # worlds without any fault in which a bug that needs one must not show
FOUND = (AssertionError, LookupError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True)
class Mutation:
    """needs: a fault; empty: any world may show it. kind, large: of the worlds; seeds: within so many
    it must be found."""

    name: str
    what: str
    module: str
    needs: str
    kind: str
    seeds: int
    large: bool
    plant: Callable[[Patch], None]


MUTATIONS: dict[str, Mutation] = {}


def planted(
    module: str, needs: str = "", kind: str = "", seeds: int = 60, large: bool = False
) -> Callable[[Any], Any]:
    def register(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        name, what = plant.__name__, (plant.__doc__ or "").strip()
        MUTATIONS[name] = Mutation(name, what, module, needs, kind, seeds, large, plant)
        return plant

    return register


@dataclass(frozen=True)
class Hunt:
    """seed: where it was found, -1: nowhere. without: what a world without faults said, if one said anything."""

    name: str
    seed: int
    says: str
    without: str = ""


def hunt(name: str) -> Hunt:
    mutation = MUTATIONS[name]
    with pytest.MonkeyPatch.context() as patch:
        mutation.plant(patch)
        seed, says = _look(mutation, mutation.needs, mutation.seeds)
        without = _look(mutation, "none", WITHOUT)[1] if mutation.needs else ""
    return Hunt(name, seed, says, without)


def _look(mutation: Mutation, only: str, seeds: int) -> tuple[int, str]:
    for seed in range(seeds):
        try:
            storms.storm(seed, mutation.kind, only, mutation.large)
        except FOUND as error:
            return seed, f"{'' if isinstance(error, BrokenInvariant) else type(error).__name__ + ': '}{error}"
    return -1, ""


# -- matchmaker -------------------------------------------------------------------------------------------------------


@planted("common/carving")
def no_carving_rule(patch: Patch) -> None:
    """Void tiles count."""
    patch.setattr(Cursor, "accepts", lambda *_: True)


@planted("matchmaker/decide", "appends lost")
def refused_proposals_stay_marked(patch: Patch) -> None:
    """What the log refused or lost is never proposed again."""
    patch.setattr(Matchmaker, "settled", lambda *_: None)


@planted("matchmaker/decide", "log full")
def what_a_full_log_refused_is_taken_for_recorded(patch: Patch) -> None:
    """Any answer of the log is taken for a yes."""
    honest = Matchmaker.settled
    patch.setattr(Matchmaker, "settled", lambda self, item, _accepted: honest(self, item, True))


@planted("matchmaker/decide", "partition", seeds=100)
def no_expectation_on_leases(patch: Patch) -> None:
    """Further events of a task are appended whatever happened to it, each try under an id of its own."""
    tries = itertools.count()

    def propose(self: Matchmaker, out: list[Append], task: TaskState, event: ev.Event, msg_id: str) -> None:
        honest(self, out, task, event, msg_id)
        out[-1] = Append(event, f"{msg_id}/{next(tries)}", trace=out[-1].trace)

    honest = Matchmaker._propose
    patch.setattr(Matchmaker, "_propose", propose)


@planted("matchmaker/decide", "clock jump")
def a_clock_that_only_goes_forward(patch: Patch) -> None:
    """The latest time ever read counts: after a jump back, leases run out early."""

    def expire(self: Matchmaker, now_ms: int, out: list[Append]) -> None:
        self.latest_ms = max(now_ms, getattr(self, "latest_ms", 0))  # type: ignore[attr-defined]
        honest(self, self.latest_ms, out)  # type: ignore[attr-defined]

    honest = Matchmaker._expire
    patch.setattr(Matchmaker, "_expire", expire)


@planted("matchmaker/decide", "clock jump", seeds=100)
def no_sweep_until_the_clock_catches_up(patch: Patch) -> None:
    """After a jump back nobody looks at deadlines for as long as the jump was."""

    def decide(self: Matchmaker, now_ms: int, rng: Any) -> list[Append]:
        if now_ms < self._swept_ms:
            swept, self._swept_ms = self._swept_ms, now_ms
            out = honest(self, now_ms, rng)
            self._swept_ms = swept
            return out
        return honest(self, now_ms, rng)

    honest = Matchmaker.decide
    patch.setattr(Matchmaker, "decide", decide)


@planted("matchmaker/state")
def expired_leases_count(patch: Patch) -> None:
    """A task waits for workers that are gone."""
    patch.setattr(TaskState, "counting", property(lambda task: len(task.leases)))


@planted("matchmaker/state", kind="trusting", seeds=150)
def leases_count_instead_of_workers(patch: Patch) -> None:
    """A worker that has a task twice is taken for two."""
    states = ("live", "answered")
    patch.setattr(TaskState, "counting", property(lambda task: sum(x.state in states for x in task.leases.values())))


@planted("matchmaker/fold", "crash")
def further_leases_are_not_written_down(patch: Patch) -> None:
    """The row of a task that is assigned again is not touched, so a restart knows nothing of its new leases."""

    def fold(fold: Fold, event: ev.TaskAssigned, recorded: Any) -> None:
        before = set(fold.touched["tasks"])
        honest(fold, event, recorded)
        fold.touched["tasks"] = before

    honest = Fold._task_assigned
    patch.setitem(matchmaker_handlers, ev.TaskAssigned, fold)


@planted("matchmaker/fold")
def the_convicted_get_work(patch: Patch) -> None:
    """A proven fraud bans nobody from the pool."""

    def fold(fold: Fold, event: ev.FraudDetected, recorded: Any) -> None:
        honest(fold, event, recorded)
        if event.worker in fold.workers:
            fold.workers[event.worker].banned = False

    honest = Fold._fraud_detected
    patch.setitem(matchmaker_handlers, ev.FraudDetected, fold)


@planted("matchmaker/pool", kind="trusting", large=True)
def nobody_rests(patch: Patch) -> None:
    """Who lets leases run out again and again gets more of them at once."""
    patch.setattr("shardy_matchmaker.pool.rests_until_ms", lambda *_: 0)


@planted("matchmaker/pool", kind="shared", large=True)
def room_is_counted_by_the_log_alone(patch: Patch) -> None:
    """A matchmaker forgets what it has proposed, and lends the same room again and again."""

    def pool(fold: Fold, _overlay: Overlay, *more: Any) -> Pool:
        return Pool(fold, Overlay(), *more)

    patch.setattr("shardy_matchmaker.decide.Pool", pool)


@planted("matchmaker/decide", kind="failing")
def an_end_is_known_by_its_job_alone(patch: Patch) -> None:
    """Its message id is that of the job's first end, so the log takes it for a repeat."""
    honest = Matchmaker.decide

    def decide(matchmaker: Matchmaker, *more: Any) -> list[Append]:
        ends = (ev.JobCompleted, ev.JobFailed)
        return [
            replace(item, msg_id=f"end/{item.event.entity_id}") if isinstance(item.event, ends) else item
            for item in honest(matchmaker, *more)
        ]

    patch.setattr(Matchmaker, "decide", decide)


# -- replicas, trust --------------------------------------------------------------------------------------------------


@planted("common/replicas", kind="shared", large=True)
def the_old_view_is_remembered(patch: Patch) -> None:
    """Who owned a job once owns it for ever, whoever else is gone."""

    def owns(replicas: Replicas, key: str) -> bool:
        if len(replicas.names) == 1:
            return True
        return replicas.__dict__.setdefault("first", {}).setdefault(key, owner(replicas.names, key) == replicas.me)

    patch.setattr(Replicas, "owns", owns)


@planted("quorum/task", kind="shared", seeds=150, large=True)
def what_others_leave_is_not_looked_at(patch: Patch) -> None:
    """Nobody looks again at what a replica that is gone has left."""
    patch.setattr(Quorum, "review", lambda _quorum: None)


@planted("common/trust")
def trust_without_a_record(patch: Patch) -> None:
    """Everybody may work alone."""
    patch.setattr(trust, "budget", lambda _record: 10**9)
    patch.setattr(trust, "replication_probability", lambda *_: 0.2)


@planted("common/trust", kind="trusting", large=True)
def what_is_out_on_trust_is_not_counted(patch: Patch) -> None:
    """A budget is never used up."""
    patch.setattr(trust, "room", lambda record: trust.budget(record) - record.lent)


@planted("common/trust", kind="trusting", large=True)
def what_is_lent_on_trust_is_not_counted(patch: Patch) -> None:
    """The same budget is lent several times at once."""
    patch.setattr(trust, "room", lambda record: trust.budget(record) - record.exposure)


@planted("matchmaker/fold, quorum/task", kind="trusting")
def a_lost_lone_task_stays_lone(patch: Patch) -> None:
    """What one worker had on trust and lost is given to nobody else."""
    patch.setattr(Fold, "_share", lambda *_: None)
    patch.setattr(Quorum, "_share", lambda *_: None)


@planted("matchmaker/fold, quorum/task", seeds=150)
def the_convicted_keep_their_voice(patch: Patch) -> None:
    """What a liar said of other tasks still counts."""
    patch.setattr(Fold, "_silence", lambda *_: None)
    patch.setattr(Quorum, "_silence", lambda *_: None)


# -- quorum -----------------------------------------------------------------------------------------------------------


@planted("quorum/tally")
def one_vote_too_few(patch: Patch) -> None:
    """One answer less than asked for is enough."""
    patch.setattr("shardy_quorum.task.verdict", lambda votes, need, asked: verdict(votes, need - 1, asked))


@planted("quorum/task", "log full")
def refused_verdicts_stay_busy(patch: Patch) -> None:
    """A verdict that the log refused is never proposed again."""
    patch.setattr(Quorum, "settled", lambda *_: None)


@planted("quorum/task", seeds=150)
def a_worker_votes_twice(patch: Patch) -> None:
    """A late answer to a lease that ran out counts beside the same worker's answer to the next."""

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


@planted("quorum/task", "bytes that were missing", seeds=100)
def a_minority_is_guilty_unproven(patch: Patch) -> None:
    """Bytes that cannot be read are taken for wrong ones."""
    honest = Quorum.judge

    def judge(quorum: Quorum, findings: Findings) -> Any:
        for digest in findings.missing[1:]:
            findings.wrong[digest] = 0
        return honest(quorum, findings)

    patch.setattr(Quorum, "judge", judge)


@planted("quorum/task", "partition", seeds=150)
def no_expectation_on_verdicts(patch: Patch) -> None:
    """A verdict is appended whatever happened to its task: one that somebody cut off decides by an old state."""

    def own(quorum: Quorum, task: Any, job: Any, event: ev.Event, msg_id: str) -> Append:
        return Append(event, f"{msg_id}/{quorum.canaries.name}/{task.seq}", trace=job.trace)

    patch.setattr(Quorum, "_own", own)


@planted("quorum/task")
def only_the_matchmaker_silences(patch: Patch) -> None:
    """The quorum counts on words that the matchmaker does not."""
    patch.setattr(Quorum, "_silence", lambda *_: None)


@planted("quorum/canary", seeds=150)
def canaries_expect_nothing(patch: Patch) -> None:
    """Two quorums that want a canary both get one."""
    honest = Canaries.drafted

    def drafted(canaries: Canaries, draft: Any) -> list[Append]:
        return [Append(item.event, item.msg_id) for item in honest(canaries, draft)]

    patch.setattr(Canaries, "drafted", drafted)


@planted("quorum/canary")
def a_failed_canary_is_not_ended(patch: Patch) -> None:
    """Whatever goes wrong with a canary, it goes on for ever."""
    patch.setattr(Canaries, "cancel", lambda *_: [])


@planted("quorum/task", kind="failing")
def the_quorum_forgets_reopened_tasks(patch: Patch) -> None:
    """A job that goes on has no tasks that anybody judges."""
    patch.delitem(quorum_handlers, ev.JobReopened)


# -- dead letters -----------------------------------------------------------------------------------------------------


@planted("dlq/letters", "crash after commit", seeds=150)
def wanted_letters_are_forgotten(patch: Patch) -> None:
    """A restart knows nothing of the letters that are still to be written."""

    def load(letters: Letters, projection: Any) -> None:
        honest(letters, projection)
        letters.wanted.clear()

    honest = Letters.load
    patch.setattr(Letters, "load", load)


@planted("dlq/letters", kind="failing")
def letters_of_reopened_jobs_stay_open(patch: Patch) -> None:
    """A job goes on, and its letters say that it does not."""
    patch.setattr(Letters, "_job_reopened", lambda *_: None)


@planted("dlq/letters", seeds=150)
def letters_expect_nothing(patch: Patch) -> None:
    """Who heard no answer writes the letter again, under another id."""

    def propose(letters: Letters, event: Any, msg_id: str, _expect: int, trace: str) -> None:
        honest(letters, event, msg_id, 0, trace)
        for name, item in letters.wanted.items():
            letters.wanted[name] = Unexpecting(item.event, item.msg_id, trace=trace)

    honest = Letters._propose
    patch.setattr(Letters, "_propose", propose)


class Unexpecting(Append):
    """As a proposer with a random id for each try."""

    tries = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "msg_id":
            Unexpecting.tries += 1
            return f"{super().__getattribute__(name)}/{Unexpecting.tries}"
        return super().__getattribute__(name)


# -- gateway ----------------------------------------------------------------------------------------------------------


@planted("gateway/views")
def void_tasks_are_handed_out(patch: Patch) -> None:
    """The gateway lends tasks whatever the carving rule says."""

    def fold(views: Views, event: ev.TaskCreated, recorded: Any) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Cursor, "accepts", lambda *_: True)
            honest(views, event, recorded)

    honest = Views._task_created
    patch.setitem(views_handlers, ev.TaskCreated, fold)


@planted("gateway/views", kind="failing", seeds=150)
def late_verdicts_are_credited(patch: Patch) -> None:
    """A verdict on a task that its job's end had dropped pays its workers all the same."""

    def fold(views: Views, event: ev.TaskVerified, recorded: Any) -> None:
        job = views.job(event.job)
        if event.task not in views.tasks and job is not None:
            views.ledger.credit(event, job.requester, recorded.seq)
        honest(views, event, recorded)

    honest = Views._task_verified
    patch.setitem(views_handlers, ev.TaskVerified, fold)


@planted("gateway/ledger", "crash")
def totals_are_not_loaded(patch: Patch) -> None:
    """After a restart the ledger counts from nothing."""

    def load(ledger: Ledger, projection: Any) -> None:
        honest(ledger, projection)
        ledger._workers.clear()

    honest = Ledger.load
    patch.setattr(Ledger, "load", load)


@planted("gateway/ledger")
def credit_is_counted_once_for_each_verdict(patch: Patch) -> None:
    """Only the first of a verdict's workers is paid."""
    honest = Ledger.credit

    def credit(ledger: Ledger, event: ev.TaskVerified, owner: str, seq: int) -> int:
        return honest(ledger, msgspec.structs.replace(event, workers=event.workers[:1]), owner, seq)

    patch.setattr(Ledger, "credit", credit)


@planted("gateway/reputation", "crash")
def reputations_are_not_loaded(patch: Patch) -> None:
    """After a restart everybody is unknown."""

    def load(reputations: Reputations, projection: Any) -> None:
        super(Reputations, reputations).load(projection)

    patch.setattr(Reputations, "load", load)


@planted("gateway/evidence")
def the_last_answer_counts(patch: Patch) -> None:
    """A receipt names a worker's latest answer, where the verdict rests on its first."""

    def evolve(answers: Answers, recorded: Any) -> None:
        event = recorded.event
        if isinstance(event, ev.ResultSubmitted) and event.task in answers._tasks:
            answers._tasks[event.task].answers.pop(event.worker, None)
        honest(answers, recorded)

    honest = Answers.evolve
    patch.setattr(Answers, "evolve", evolve)
    patch.setattr(Pool, "pick", _eager_pick)


@planted("gateway/keyring", seeds=150)
def ends_of_keys_are_forgotten(patch: Patch) -> None:
    """An end that is over leaves memory, so a later one takes its place, and the key is good again after a restart."""

    def forget(ring: Keyring, now_ms: int) -> None:
        gone = [key.id for key in ring.keys.values() if ring.end_of(key) and ring.end_of(key) <= now_ms]
        honest(ring, now_ms)
        for key in gone:
            ring.ends.pop(key, None)

    honest = Keyring._forget
    patch.setattr(Keyring, "_forget", forget)


@planted("gateway/hub, as the simulation has it", "store full")
def a_result_is_appended_before_it_is_stored(patch: Patch) -> None:
    """On a full disk the log points at bytes that were not written."""

    def record(gateway: GatewayNode, worker: Any, event: ev.ResultSubmitted, data: bytes) -> None:
        gateway.store(event.digest, data)
        gateway.send(Append(event, f"result/{event.lease}"), lambda: gateway.acknowledge(worker, event.lease))

    patch.setattr(GatewayNode, "record", record)


@planted("gateway/closing, as the simulation has it", kind="failing", seeds=100)
def a_job_is_reopened_without_expectation(patch: Patch) -> None:
    """Two operators reopen one job at the same time, and both are heard."""

    def propose(node: GatewayNode, items: list[Append]) -> None:
        honest(node, [_unexpected(item, node) for item in items])

    def _unexpected(item: Append, node: GatewayNode) -> Append:
        if isinstance(item.event, ev.JobReopened):
            return Append(item.event, f"{item.msg_id}/{node.mesh.rng.random()}")
        return item

    honest = GatewayNode.propose
    patch.setattr(GatewayNode, "propose", propose)


# -- registries -------------------------------------------------------------------------------------------------------


@planted("prover-verifier/registry", "crash", seeds=400)
def the_registry_is_not_loaded(patch: Patch) -> None:
    """After a restart no version is known that could move to grace."""
    patch.setattr(Registry, "load", lambda *_: None)


@planted("gossip-bridge/directory", seeds=100)
def one_digest_for_each_commit(patch: Patch) -> None:
    """Of a batch with several verdicts only the last digest is written."""

    def rows(directory: Directory) -> Any:
        out = honest(directory)
        return {table: found[-1:] for table, found in out.items()}

    honest = Directory.rows
    patch.setattr(Directory, "rows", rows)


# -- the loop and the log ---------------------------------------------------------------------------------------------


@planted("common/service", "disk full", seeds=100)
def a_checkpoint_ahead_of_its_rows(patch: Patch) -> None:
    """The checkpoint is written first, and the rows after it."""

    def flush(loop: FoldLoop) -> None:
        if loop._uncommitted:
            loop.projection.commit({}, loop._last_seq)
            honest(loop)

    honest = FoldLoop.flush
    patch.setattr(FoldLoop, "flush", flush)


@planted("common/service", "disk full", seeds=100)
def rows_are_given_up_once(patch: Patch) -> None:
    """Rows that a full disk refused are gone, and the next commit moves the checkpoint past them."""

    def flush(loop: FoldLoop) -> None:
        if loop._uncommitted:
            loop.projection.commit(loop.core.rows(), loop._last_seq)
            loop._uncommitted = 0

    patch.setattr(FoldLoop, "flush", flush)


@planted("common/service", "crash after append")
def a_commit_skips_ahead(patch: Patch) -> None:
    """A crash after an append begins after it, though what came before was not written."""
    honest = FoldLoop.flush

    def flush(loop: FoldLoop) -> None:
        if loop._uncommitted:
            loop._last_seq += 1
        honest(loop)

    patch.setattr(FoldLoop, "flush", flush)


@planted("common/log")
def a_repeated_append_is_recorded_twice(patch: Patch) -> None:
    """The log does not know its message ids."""

    def append_now(log: MemoryLog, item: Append) -> Any:
        return honest(log, replace(item, msg_id=f"{item.msg_id}/{len(log.events)}"))

    honest = MemoryLog.append_now
    patch.setattr(MemoryLog, "append_now", append_now)


@planted("common/log", kind="shared")
def expectations_are_not_looked_at(patch: Patch) -> None:
    """The log appends whatever was expected."""

    def append_now(log: MemoryLog, item: Append) -> Any:
        return honest(log, item if item.expect is None else replace(item, expect=None))

    honest = MemoryLog.append_now
    patch.setattr(MemoryLog, "append_now", append_now)
