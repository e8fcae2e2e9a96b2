"""The story of one task: what happened to it, in order, and for each event which earlier ones it follows from. Pure.

Given: the task's own events, those of its job, the letters about it, and as context what became of the workers that had
it (sessions, gateways, frauds proven elsewhere). Context is told only where something of the task follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from shardy_common.log import Recorded
from shardy_common.wire import events as ev

DIGEST_CHARS = 12
WORKER_CHARS = 6


class Line(msgspec.Struct, frozen=True):
    """One event in words. after_ms: since the task began; follows: sequences of the events that it follows from.
    context: it happened to something else, and something of the task follows from it."""

    seq: int
    at_ms: int
    after_ms: int
    event: str
    words: str
    follows: list[int]
    context: bool = False


def story(
    task: str, events: Iterable[Recorded], *, real: bool = True, names: Mapping[str, str] | None = None
) -> list[Line]:
    """Lines in the order of the log. real: whether the job's folds took the task (shardy_common/carving.py); names: of
    workers, by id."""
    teller = _Teller(task, real, names or {})
    for recorded in sorted(events, key=lambda r: r.seq):
        teller.tell(recorded)
    return teller.lines()


def unexplained(lines: Sequence[Line]) -> list[int]:
    """Sequences of events that follow from nothing: none but a job's submission begins anything."""
    return [line.seq for line in lines if not (line.follows or line.context or line.event == "job.submitted")]


def short(worker: str) -> str:
    """A worker's id as it is told: its end, for all begin alike."""
    return worker if len(worker) <= WORKER_CHARS + 1 else f"…{worker[-WORKER_CHARS:]}"


class _Told(msgspec.Struct):
    recorded: Recorded
    words: str
    follows: list[int]
    context: bool = False


class _Teller:
    def __init__(self, task: str, real: bool, names: Mapping[str, str]) -> None:
        self.task, self.real, self.names = task, real, names
        self.told: dict[int, _Told] = {}
        self.began_ms: int | None = None
        self.began = 0  # where the task began: its creation, or its job's reopening
        self.job = 0  # latest submission or reopening of the job
        self.job_end = 0
        self.lent: dict[str, tuple[int, str]] = {}  # lease → where, to whom
        self.spent: dict[str, int] = {}  # lease → where it expired or was given back
        self.answers: dict[str, tuple[int, str, str]] = {}  # lease → where, by whom, digest
        self.frauds: dict[str, int] = {}  # lease → where proven wrong
        self.convicted: dict[str, int] = {}  # worker → where first
        self.last_of: dict[str, int] = {}  # worker → its latest joining or leaving
        self.gateway_of: dict[str, str] = {}
        self.gateways: dict[str, int] = {}
        self.disputed = self.verdict = self.unresolved = self.asked = 0
        self.letters: dict[str, int] = {}
        self.proved: dict[str, int] = {}  # lease → what was said last of its proof

    def lines(self) -> list[Line]:
        cited = {seq for told in self.told.values() if not told.context for seq in told.follows}
        began = self.began_ms or 0
        return [
            Line(
                t.recorded.seq,
                t.recorded.at_ms,
                t.recorded.at_ms - began,
                t.recorded.event.name if t.recorded.event is not None else "",
                t.words,
                sorted(set(t.follows)),
                t.context,
            )
            for t in self.told.values()
            if not t.context or t.recorded.seq in cited
        ]

    def tell(self, recorded: Recorded) -> None:
        event = recorded.event
        if event is None:
            words = f"bytes on {recorded.subject} that this version cannot read: {recorded.error}"
            self._say(recorded, words, [self.began or self.job])
            return
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, recorded)

    def _say(self, recorded: Recorded, words: str, follows: Iterable[int], *, context: bool = False) -> None:
        self.told[recorded.seq] = _Told(recorded, words, [seq for seq in follows if seq], context)

    def who(self, worker: str) -> str:
        name = self.names.get(worker, "")
        return f"{name} ({short(worker)})" if name else short(worker)

    # -- the job --------------------------------------------------------------------------------------------------

    def job_submitted(self, event: ev.JobSubmitted, recorded: Recorded) -> None:
        spec = event.spec
        label = f", {spec.label!r}" if spec.label else ""
        words = f"job {event.job} submitted: {spec.kind}, policy {spec.policy}{label}"
        self._say(recorded, words, [])
        self.job = recorded.seq

    def canary_prepared(self, event: ev.CanaryPrepared, recorded: Recorded) -> None:
        words = f"the quorum prepared job {event.job} as a test, of which it knows the answer {_digest(event.digest)}"
        self._say(recorded, words, [], context=True)

    def job_reopened(self, event: ev.JobReopened, recorded: Recorded) -> None:
        mine = any(task == self.task for task, _ in event.tasks)
        words = f"job {event.job} goes on: letter {event.entry} was replayed"
        if mine:
            words += "; the tile is this task from now on"
            self._begin(recorded)
        self._say(recorded, words, [self.job_end or self.job, self.letters.get(event.entry, 0)])
        self.job, self.job_end = recorded.seq, 0

    def job_ended(self, event: Any, recorded: Recorded) -> None:
        words = {
            "job.completed": f"job {event.job} completed: all its cells are verified",
            "job.failed": f"job {event.job} failed: {getattr(event, 'cause', '')}",
            "job.cancelled": f"job {event.job} cancelled by {getattr(event, 'by', '')}",
        }[event.name]
        cause = {"job.completed": self.verdict, "job.failed": self.unresolved}.get(event.name, 0)
        self._say(recorded, words, [cause or self.job])
        self.job_end = recorded.seq

    # -- leases ---------------------------------------------------------------------------------------------------

    def task_created(self, event: ev.TaskCreated, recorded: Recorded) -> None:
        self._begin(recorded)
        tile = event.tile
        words = (
            f"carved: rows {tile.row0}–{tile.row0 + tile.rows - 1}, columns {tile.col0}–{tile.col0 + tile.cols - 1};"
            f" {self._lend(event.leases, recorded)}"
        )
        if event.need:
            words += "; one answer is enough, on trust" if event.need == 1 else f"; {event.need} answers are wanted"
        if not self.real:
            words += "; void, for the job's real tasks had come to another place: nobody counts it"
        self._say(recorded, words, [self.job])

    def task_assigned(self, event: ev.TaskAssigned, recorded: Recorded) -> None:
        why, follows = self._why_more(event)
        self._say(recorded, f"{why}: {self._lend(event.leases, recorded)}", follows or [self.began or self.job])
        self.asked = recorded.seq

    def _why_more(self, event: ev.TaskAssigned) -> tuple[str, list[int]]:
        fresh = [seq for seq in (*self.spent.values(), *self.frauds.values()) if seq > self.asked]
        if self.disputed > self.asked:
            return "the results differ, so another opinion is wanted", [self.disputed]
        if event.cause == "retry":
            return "lent again in place of what was lost", fresh or sorted(self.spent.values())[-1:]
        elsewhere = [
            self.convicted[worker]
            for _, worker in self.lent.values()
            if self.convicted.get(worker, 0) > max(self.asked, self.began)
        ]
        if elsewhere:
            return "its device was proven wrong elsewhere, so others are asked", elsewhere
        return "lent to more devices, for more answers are wanted", fresh or [self.began]

    def task_expired(self, event: ev.TaskExpired, recorded: Recorded) -> None:
        leases = [lease for lease in event.leases if lease in self.lent]
        workers = [self.lent[lease][1] for lease in leases]
        follows = [self.lent[lease][0] for lease in leases]
        why = "their time ran out" if event.cause == "deadline" else event.cause
        if event.cause == "lost":
            why = "the device was gone for too long, or came back without them"
            follows += [seq for worker in workers for seq in self._absence(worker)]
        elif event.cause == "banned":
            why = "the device was proven wrong"
            follows += [self.convicted[worker] for worker in workers if worker in self.convicted]
        for lease in event.leases:
            self.spent[lease] = recorded.seq
        words = f"lease {_ends(event.leases)} of {_and(self.who(w) for w in workers)} is waited for no longer: {why}"
        self._say(recorded, words, follows or [self.began or self.job])

    def _absence(self, worker: str) -> list[int]:
        gateway = self.gateways.get(self.gateway_of.get(worker, ""), 0)
        return [seq for seq in (max(self.last_of.get(worker, 0), gateway),) if seq]

    # -- results --------------------------------------------------------------------------------------------------

    def result_submitted(self, event: ev.ResultSubmitted, recorded: Recorded) -> None:
        where, worker = self.lent.get(event.lease, (0, ""))
        words = f"{self.who(event.worker)} answered {_digest(event.digest)} ({event.size:,} bytes, {event.ms:.0f} ms"
        words += f", {event.backend})" if event.backend else ")"
        follows = [where or self.began or self.job]
        if worker != event.worker:
            words += "; this lease was never its own: not counted"
        elif event.lease in self.answers:
            words += "; again: the first answer counts"
            follows.append(self.answers[event.lease][0])
        else:
            self.answers[event.lease] = (recorded.seq, event.worker, event.digest)
            if self.verdict or self.unresolved:
                words += "; too late: it was decided before"
                follows.append(self.verdict or self.unresolved)
            elif event.lease in self.spent:
                words += "; late, and welcome"
                follows.append(self.spent[event.lease])
        self._say(recorded, words, follows)

    def result_failed(self, event: ev.ResultFailed, recorded: Recorded) -> None:
        where, _ = self.lent.get(event.lease, (0, ""))
        self.spent.setdefault(event.lease, recorded.seq)
        said = f" {event.message}" if event.message else ""
        words = f"{self.who(event.worker)} gave lease {_ends([event.lease])} back ({event.code}){said}"
        self._say(recorded, words, [where or self.began or self.job])

    def task_disputed(self, event: ev.TaskDisputed, recorded: Recorded) -> None:
        votes = "; ".join(f"{_digest(d)} by {_and(self.who(w) for w in ws)}" for d, ws in event.votes.items())
        words = f"the results differ ({votes}): {event.need} more wanted"
        named = {worker for workers in event.votes.values() for worker in workers}
        self._say(recorded, words, self._answers_of(named) or [self.began])
        self.disputed = recorded.seq

    def fraud_detected(self, event: ev.FraudDetected, recorded: Recorded) -> None:
        self.convicted.setdefault(event.worker, recorded.seq)
        how = f"{event.rounds} Freivalds rounds" if event.rounds else "a recomputation"
        if event.task != self.task:
            words = f"{self.who(event.worker)} was proven wrong on task {event.task}"
            self._say(recorded, words, [], context=True)
            return
        self.frauds[event.lease] = recorded.seq
        expected = f" in place of {_digest(event.expected)}" if event.expected else ""
        wrong = f"{_digest(event.digest)}{expected}"
        words = f"{self.who(event.worker)} proven wrong: {wrong} fails {how} in row {event.row}"
        answer = self.answers.get(event.lease, (0, "", ""))[0]
        self._say(recorded, words, [answer or self.lent.get(event.lease, (self.began or self.job, ""))[0]])

    # -- proofs ---------------------------------------------------------------------------------------------------

    def proof_challenged(self, event: ev.ProofChallenged, recorded: Recorded) -> None:
        tiles = "its result" if event.tiles == 1 else f"{event.checked} of its result's {event.tiles} tiles"
        words = f"{self.who(event.worker)} is to prove {tiles}, in {event.circuit} under version {event.version}"
        self._prove(event.lease, words, recorded)

    def proof_submitted(self, event: ev.ProofSubmitted, recorded: Recorded) -> None:
        self._prove(event.lease, f"{self.who(event.worker)} handed in proofs ({event.ms:.0f} ms)", recorded)

    def proof_verified(self, event: ev.ProofVerified, recorded: Recorded) -> None:
        many = "proof holds" if event.checked == 1 else f"{event.checked} proofs hold"
        self._prove(event.lease, f"the {many} under version {event.version}", recorded)

    def proof_rejected(self, event: ev.ProofRejected, recorded: Recorded) -> None:
        words = f"there is no proof of {self.who(event.worker)}'s result ({event.cause}): {event.detail}"
        self._prove(event.lease, words, recorded)
        self.spent[event.lease] = recorded.seq

    def proof_reaudited(self, event: ev.ProofReaudited, recorded: Recorded) -> None:
        found = f"{event.rounds} Freivalds rounds over the bytes say: {event.outcome}"
        words = f"version {event.version} is revoked, so it was looked at again: {found}"
        self._say(recorded, words, [self.verdict or self.began or self.job])

    def _prove(self, lease: str, words: str, recorded: Recorded) -> None:
        answer = self.answers.get(lease, (0, "", ""))[0]
        self._say(recorded, words, [self.proved.get(lease, 0) or answer or self.began or self.job])
        self.proved[lease] = recorded.seq

    def task_verified(self, event: ev.TaskVerified, recorded: Recorded) -> None:
        how = {
            "quorum": f"{len(event.workers)} devices agree",
            "audit": f"{event.rounds} Freivalds rounds passed",
            "arbitration": "the bytes were looked at, and the others are wrong",
            "trust": "its device is trusted so far",
            "canary": "it is the answer that was known before",
            "proof": "what was drawn of it is proved",
        }.get(event.method, event.method)
        words = f"verified {_digest(event.digest)} by {event.method}: {how}; {event.ops:,} operations credited to "
        words += _and(self.who(worker) for worker in event.workers)
        votes = self.answers.values()
        right = [seq for seq, worker, digest in votes if digest == event.digest and worker in event.workers]
        right += self.proved.values() if event.method == "proof" else ()
        follows = [*right, *self.frauds.values(), self.disputed] if right else [self.began or self.job]
        self._say(recorded, words, follows)
        self.verdict = recorded.seq

    def task_unresolved(self, event: ev.TaskUnresolved, recorded: Recorded) -> None:
        follows = [*self.spent.values(), *self.frauds.values(), self.disputed]
        self._say(recorded, f"given up: {event.cause}", [seq for seq in follows if seq] or [self.began or self.job])
        self.unresolved = recorded.seq

    # -- letters --------------------------------------------------------------------------------------------------

    def dlq_recorded(self, event: ev.DlqRecorded, recorded: Recorded) -> None:
        self.letters[event.entry] = recorded.seq
        words = f"dead letter {event.entry} ({event.cause}) written"
        self._say(recorded, words, [event.seq_of if event.seq_of in self.told else self.unresolved or self.began])

    def dlq_replayed(self, event: ev.DlqReplayed, recorded: Recorded) -> None:
        follows = [self.letters.get(event.entry, 0), self.job if "goes on" in event.outcome else 0]
        words = f"dead letter {event.entry} replayed by {event.by}: {event.outcome}"
        self._say(recorded, words, follows)

    def dlq_discarded(self, event: ev.DlqDiscarded, recorded: Recorded) -> None:
        words = f"dead letter {event.entry} discarded by {event.by}: {event.reason}"
        self._say(recorded, words, [self.letters.get(event.entry, 0)])

    # -- context --------------------------------------------------------------------------------------------------

    def worker_joined(self, event: ev.WorkerJoined, recorded: Recorded) -> None:
        self.gateway_of[event.worker] = event.gateway
        self.last_of[event.worker] = recorded.seq
        held = f" with {len(event.held)} leases" if event.held else ""
        self._say(recorded, f"{self.who(event.worker)} joined {event.gateway}{held}", [], context=True)

    def worker_left(self, event: ev.WorkerLeft, recorded: Recorded) -> None:
        self.last_of[event.worker] = recorded.seq
        how = "left" if event.cause == "left" else "was lost: its connection broke"
        self._say(recorded, f"{self.who(event.worker)} {how}", [], context=True)

    def gateway_started(self, event: ev.GatewayStarted, recorded: Recorded) -> None:
        self.gateways[event.gateway] = recorded.seq
        how = "started anew" if event.instance else "was declared gone"
        self._say(recorded, f"{event.gateway} {how}: its earlier sessions are over", [], context=True)

    # -- shared ---------------------------------------------------------------------------------------------------

    def _begin(self, recorded: Recorded) -> None:
        self.began, self.began_ms = recorded.seq, recorded.at_ms

    def _lend(self, leases: Sequence[ev.Lease], recorded: Recorded) -> str:
        for lease in leases:
            self.lent[lease.id] = (recorded.seq, lease.worker)
        lent = (f"{self.who(x.worker)} for {max(x.deadline_ms - recorded.at_ms, 0) / 1000:.0f} s" for x in leases)
        return f"lent to {_and(lent)}"

    def _answers_of(self, workers: set[str]) -> list[int]:
        return [seq for seq, worker, _ in self.answers.values() if worker in workers]


def _digest(digest: str) -> str:
    return f"{digest[:DIGEST_CHARS]}…" if len(digest) > DIGEST_CHARS else digest


def _ends(leases: Sequence[str]) -> str:
    return _and(lease.rpartition("-")[2] for lease in leases)


def _and(parts: Iterable[str]) -> str:
    words = list(parts)
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words) or "nobody"


_HANDLERS: dict[type, Callable[[_Teller, Any, Recorded], None]] = {
    ev.JobSubmitted: _Teller.job_submitted,
    ev.CanaryPrepared: _Teller.canary_prepared,
    ev.JobReopened: _Teller.job_reopened,
    ev.JobCompleted: _Teller.job_ended,
    ev.JobFailed: _Teller.job_ended,
    ev.JobCancelled: _Teller.job_ended,
    ev.TaskCreated: _Teller.task_created,
    ev.TaskAssigned: _Teller.task_assigned,
    ev.TaskExpired: _Teller.task_expired,
    ev.TaskDisputed: _Teller.task_disputed,
    ev.TaskVerified: _Teller.task_verified,
    ev.TaskUnresolved: _Teller.task_unresolved,
    ev.ResultSubmitted: _Teller.result_submitted,
    ev.ResultFailed: _Teller.result_failed,
    ev.FraudDetected: _Teller.fraud_detected,
    ev.ProofChallenged: _Teller.proof_challenged,
    ev.ProofSubmitted: _Teller.proof_submitted,
    ev.ProofVerified: _Teller.proof_verified,
    ev.ProofRejected: _Teller.proof_rejected,
    ev.ProofReaudited: _Teller.proof_reaudited,
    ev.DlqRecorded: _Teller.dlq_recorded,
    ev.DlqReplayed: _Teller.dlq_replayed,
    ev.DlqDiscarded: _Teller.dlq_discarded,
    ev.WorkerJoined: _Teller.worker_joined,
    ev.WorkerLeft: _Teller.worker_left,
    ev.GatewayStarted: _Teller.gateway_started,
}
