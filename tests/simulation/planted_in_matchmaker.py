"""Bugs of the matchmaker."""

from __future__ import annotations

import itertools
from typing import Any

from msgspec.structs import replace
from planting import Patch, planted

from shardy_common.carving import Cursor
from shardy_common.log import Append
from shardy_common.wire import events as ev
from shardy_matchmaker.decide import Matchmaker, Overlay
from shardy_matchmaker.fold import _HANDLERS as matchmaker_handlers
from shardy_matchmaker.fold import Fold
from shardy_matchmaker.pool import Pool
from shardy_matchmaker.state import TaskState


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


@planted("matchmaker/pool", kind="single", large=True)
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
