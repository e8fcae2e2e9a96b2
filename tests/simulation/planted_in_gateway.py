"""Bugs of the gateway."""

from __future__ import annotations

import itertools
from typing import Any

import mesh_verifiers
import msgspec
import pytest
from mesh_gateway import GatewayNode
from planting import Patch, eager_pick, planted

from shardy_common.carving import Cursor
from shardy_common.log import Append, Appended, Conflict
from shardy_common.wire import events as ev
from shardy_gateway.evidence import Answers
from shardy_gateway.keyring import Keyring
from shardy_gateway.ledger import Ledger
from shardy_gateway.reputation import Reputations
from shardy_gateway.views import _HANDLERS as views_handlers
from shardy_gateway.views import Views
from shardy_matchmaker.pool import Pool


@planted("gateway/views")
def void_tasks_are_handed_out(patch: Patch) -> None:
    """The gateway lends tasks whatever the carving rule says."""

    def fold(views: Views, event: ev.TaskCreated, recorded: Any) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Cursor, "accepts", lambda *_: True)
            honest(views, event, recorded)

    honest = Views._task_created
    patch.setitem(views_handlers, ev.TaskCreated, fold)


@planted("gateway/views", kind="failing", seeds=600)
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
        ledger._workers.recall = lambda _worker: None

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
    patch.setattr(Pool, "pick", eager_pick)


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
        gateway.send([Append(event, f"result/{event.lease}")], lambda _: gateway.acknowledge(worker, event.lease))

    patch.setattr(GatewayNode, "record", record)


@planted("gateway/hub, as the simulation has it", "answers lost")
def a_result_is_tried_again_under_another_id(patch: Patch) -> None:
    """Where the log's answer was lost, the result is recorded twice."""
    tries = itertools.count()

    def send(gateway: GatewayNode, items: list[Append], done: Any = None) -> None:
        for item in items:
            send_one(gateway, gateway.life, item, item, done)

    def send_one(gateway: GatewayNode, life: int, item: Append, renamed: Append, done: Any) -> None:
        def answered(_: Append, outcome: Any) -> None:
            if isinstance(outcome, (Appended, Conflict)):
                if done is not None:
                    done(item)
            elif gateway.life == life:
                again = msgspec.structs.replace(item, msg_id=f"{item.msg_id}/{next(tries)}")
                gateway.mesh.later(1_000, lambda: gateway.life == life and send_one(gateway, life, item, again, done))

        gateway.mesh.network.carry(gateway, [renamed], answered)

    patch.setattr(GatewayNode, "send", send)


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


@planted("gateway/verifiers, as the simulation has it", seeds=200)
def changes_of_a_circuit_expect_nothing(patch: Patch) -> None:
    """Two operators rotate one circuit at the same time, and both are heard."""
    honest = mesh_verifiers.append_of

    def append_of(event: Any, registry: Any) -> Append:
        return msgspec.structs.replace(honest(event, registry), expect=None)

    patch.setattr(mesh_verifiers, "append_of", append_of)
