"""Bugs of the quorum, of trust, and of the dead letter queue."""

from __future__ import annotations

from typing import Any

from planting import Patch, eager_pick, planted

from shardy_common import trust
from shardy_common.log import Append
from shardy_common.replicas import Replicas, owner
from shardy_common.wire import events as ev
from shardy_dlq.letters import Letters
from shardy_matchmaker.fold import Fold
from shardy_matchmaker.pool import Pool
from shardy_quorum.canary import Canaries
from shardy_quorum.state import Findings, Vote
from shardy_quorum.tally import verdict
from shardy_quorum.task import _HANDLERS as quorum_handlers
from shardy_quorum.task import Quorum


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
    patch.setattr(Pool, "pick", eager_pick)


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


# -- trust and replicas ---------------------------------------------------------------------------------------------


@planted("common/replicas", kind="shared", seeds=100)
def the_old_view_is_remembered(patch: Patch) -> None:
    """Who owned a job once owns it for ever, whoever else is gone."""

    def owns(replicas: Replicas, key: str) -> bool:
        if len(replicas.names) == 1:
            return True
        return replicas.__dict__.setdefault("first", {}).setdefault(key, owner(replicas.names, key) == replicas.me)

    patch.setattr(Replicas, "owns", owns)


@planted("quorum/task", kind="shared", seeds=150)
def what_others_leave_is_not_looked_at(patch: Patch) -> None:
    """Nobody looks again at what a replica that is gone has left."""
    patch.setattr(Quorum, "review", lambda _quorum: None)


@planted("common/trust")
def trust_without_a_record(patch: Patch) -> None:
    """Everybody may work alone."""
    patch.setattr(trust, "budget", lambda _record: 10**9)
    patch.setattr(trust, "replication_probability", lambda *_: 0.2)


@planted("common/trust", "nothing", kind="trusting", large=True, seeds=100)
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


# -- dead letters ----------------------------------------------------------------------------------------------------


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
