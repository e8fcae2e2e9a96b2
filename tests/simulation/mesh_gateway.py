"""The gateways of a simulated mesh: views of the log, and what the hub does with them.

Leases go out to the workers whose sockets it holds. Results are stored, then appended, then acknowledged, each step
until it works: a full disk or an absent log only makes that late.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import mesh_verifiers
from mesh_nodes import Node, Pool
from mesh_oracle import check
from mesh_work import digest_of

from shardy_common import kinds
from shardy_common.log import Append, Appended, Conflict, Outcome, Recorded
from shardy_common.log.packs import pack
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_gateway import proving, replays, views

if TYPE_CHECKING:
    from mesh_workers import Worker
    from mesh_world import Mesh

AGAIN_MS = 1_000  # a store or a log that fails is tried again after this
UNTIERED_MS = 60_000  # a session that is given no tier for so long is over
GONE_MS = 20_000  # a gateway that is silent for so long is taken for gone by the others
GRACE_MS = 30_000  # of an API key that was replaced


class GatewayNode(Node):
    """sessions: workers whose sockets it holds. credited: what the oracle says its ledger must hold by now."""

    kind, tables, version = "gateway", views.TABLES, views.VERSION

    def __init__(self, mesh: Mesh, name: str, pool: Pool) -> None:
        self.sessions: dict[str, Worker] = {}
        self.tiered: set[str] = set()  # sessions that were given a tier
        self.leaving: dict[str, ev.WorkerLeft] = {}  # those that ended before
        self.results: list[Append] = []  # stored, and not sent to the log
        self.on_their_way: dict[str, Worker] = {}  # leases whose result is being recorded, or was
        self.in_the_log: set[str] = set()
        self.silent_since_ms = 0
        super().__init__(mesh, name, pool)

    def make_core(self) -> Any:
        core = views.Views()
        core.flush = self.commit
        return core

    def start(self) -> None:
        super().start()
        self.instance = f"{self.name}-{self.life}"
        self._check_ledger(self.mesh.explainer.credited_until(self.at))
        self.send([Append(ev.GatewayStarted(self.name, self.instance), f"gateway/{self.instance}")])

    def fall(self) -> None:
        super().fall()
        self.hang_up()
        self.results, self.on_their_way, self.in_the_log = [], {}, set()

    def hang_up(self) -> None:
        """All sockets break; the workers come back, here or elsewhere."""
        sessions, self.sessions, self.leaving = self.sessions, {}, {}
        for worker in sessions.values():
            worker.cut_off()

    def send(self, items: list[Append], done: Callable[[Append], None] | None = None) -> None:
        """Append until each is recorded, or somebody else was first."""
        life, left, again = self.life, len(items), []

        def answered(item: Append, outcome: Outcome) -> None:
            nonlocal left
            left -= 1
            if not isinstance(outcome, (Appended, Conflict)):
                again.append(item)
            elif done is not None:
                done(item)
            if not left and again:
                self.mesh.later(self.mesh.delay(AGAIN_MS), lambda: self.life == life and self.send(again, done))

        self.mesh.network.carry(self, items, answered)

    # -- what it reads --------------------------------------------------------------------------------------------

    def observe(self, batch: list[Recorded]) -> None:
        outbox = self.core.take_outbox()
        for task, leases in outbox.lent:
            for lease in leases:
                worker = self.sessions.get(lease.worker)
                if worker is not None and worker.session == lease.session and task.job in self.core.jobs:
                    self.mesh.network.frame(60, partial(worker.lent, task, lease.id))
        for task in sorted(outbox.dropped, key=lambda task: task.id):  # a set gave them
            for lease, holder in task.leases.items():
                if holder in self.sessions and holder not in task.workers:
                    self.mesh.network.frame(60, partial(self.sessions[holder].forget, lease))
        for challenged in outbox.challenged:
            if challenged.worker in self.sessions:
                self._ask(self.sessions[challenged.worker], challenged)
        for fraud in outbox.frauds:
            liar = self.sessions.pop(fraud.worker, None)
            if liar is not None:
                liar.banned()
        for tiered in outbox.tiered:
            self.tiered.add(tiered.session)
            if tiered.session in self.leaving:
                self._say_left(self.leaving.pop(tiered.session))
            back = self.sessions.get(tiered.worker)
            if back is not None and back.session == tiered.session:
                for challenged in self.core.proofs.asked_of(back.id):
                    self._ask(back, challenged)
        verdicts: list[int] = []
        for recorded in batch:
            event = recorded.event
            if isinstance(event, ev.TaskVerified):
                verdicts.append(recorded.seq)
            elif (
                isinstance(event, ev.GatewayStarted) and event.gateway == self.name and event.instance != self.instance
            ):
                self.mesh.count("taken for gone", not event.instance)
                self.hang_up()
            elif isinstance(event, (ev.KeyIssued, ev.KeyRevoked)):
                self._check_keys()
            elif isinstance(event, mesh_verifiers.EVENTS):
                mesh_verifiers.check_active(self, self.core.verifiers.registry)
        self._check_ledger([x for seq in verdicts if (x := self.mesh.explainer.credit.get(seq)) is not None])

    def _check_ledger(self, credits: list[Any]) -> None:
        """Its sums are what the verdicts that it has read give, counted apart."""
        for credit in credits:
            for worker in credit.workers:
                says = self.core.ledger.total_of(worker)
                owed = self.mesh.explainer.credit_of(worker, self.at)
                check(says == owed, "the ledger credits", worker, says, "where verdicts give", owed)
            says = self.core.ledger.used_by(credit.owner)
            owed = self.mesh.explainer.usage_of(credit.owner, self.at)
            check(says == owed, "the ledger charges", credit.owner, says, "where verdicts give", owed)

    def _check_keys(self) -> None:
        """A key that was ended stays so, or ends earlier."""
        for key, end in self.mesh.explainer.key_ends(self.at).items():
            known = self.core.keyring.keys.get(key)
            if known is not None:
                check(0 < self.core.keyring.end_of(known) <= end, "a key that was ended goes on:", key, end)

    # -- workers --------------------------------------------------------------------------------------------------

    def admit(self, worker: Worker, join: ev.WorkerJoined) -> None:
        self.sessions[worker.id] = worker
        self.send([Append(join, f"join/{join.session}")])

    def leave(self, worker: Worker, session: str, cause: str) -> None:
        """Said once the session was given a tier, for only then is it listened to; or when none came for too long."""
        if self.sessions.get(worker.id) is worker:
            del self.sessions[worker.id]
        left = ev.WorkerLeft(worker.id, session, cause)
        if session in self.tiered:
            self._say_left(left)
        else:
            self.leaving[session] = left
            life = self.life
            self.mesh.later(UNTIERED_MS, lambda: self.life == life and self._given_up(session))

    def _given_up(self, session: str) -> None:
        left = self.leaving.pop(session, None)
        if left is not None:
            self.mesh.count("left before a tier came")
            self._say_left(left)

    def _say_left(self, event: ev.WorkerLeft) -> None:
        life, item = self.life, Append(event, f"left/{event.session}")
        self.mesh.later(self.mesh.delay(2000), lambda: self.life == life and self.send([item]))

    def bans(self, worker: str) -> bool:
        known = self.core.workers.get(worker)
        return known is not None and known.banned

    def result(self, worker: Worker, lease_id: str, data: bytes, ms: float) -> None:
        """Its form is checked; then it is stored, appended and acknowledged."""
        task_id = lease_id.rpartition("-")[0]
        task = self.core.tasks.get(task_id)
        if task is None:
            try:
                self.core.task_state(task_id)  # late, or not known here: nobody waits for it in either case
            except sqlite3.OperationalError:
                self.mesh.count("look-ups on a full disk")
                return
            self.acknowledge(worker, lease_id)
            return
        job = self.core.jobs[task.job]
        if task.leases.get(lease_id) != worker.id:
            self.acknowledge(worker, lease_id)
        elif len(data) == kinds.KINDS[job.spec.kind].result_bytes(job.spec, task.tile.rows, task.tile.cols):
            event = ev.ResultSubmitted(
                task_id, task.job, lease_id, worker.id, digest_of(data), len(data), ms, "wasm", sig="ab" * 64
            )
            self.record(worker, event, data)

    def record(self, worker: Worker, event: ev.ResultSubmitted, data: bytes) -> None:
        """Stored before it is appended, appended before it is acknowledged."""
        life = self.life
        if not self.store(event.digest, data):
            self.mesh.later(AGAIN_MS, lambda: self.life == life and self.record(worker, event, data))
            return
        known = self.on_their_way.get(event.lease)
        if known is not None:  # it comes again
            self.on_their_way[event.lease] = worker
            if event.lease in self.in_the_log:
                self.acknowledge(worker, event.lease)
            return
        self.on_their_way[event.lease] = worker
        if not self.results:
            self.mesh.later(self.mesh.delay(20), lambda: self.life == life and self._hand_in())
        self.results.append(Append(event, f"result/{event.lease}"))

    def _hand_in(self) -> None:
        """What came in since is appended together."""
        results, self.results = self.results, []
        messages, which = pack(results)
        inside: dict[str, list[str]] = {}
        for item, number in zip(results, which, strict=True):
            inside.setdefault(messages[number].msg_id, []).append(item.event.lease)  # type: ignore[attr-defined]
        self.mesh.count("results in messages of many", sum(len(some) for some in inside.values() if len(some) > 1))

        def taken(message: Append) -> None:
            for lease in inside[message.msg_id]:
                self.in_the_log.add(lease)
                self.acknowledge(self.on_their_way[lease], lease)

        self.send(messages, taken)

    def store(self, digest: str, data: bytes) -> bool:
        if self.mesh.now_ms < self.mesh.store_full_until_ms:
            self.mesh.count("results that waited for a full disk")
            return False
        self.mesh.work.blobs[digest] = data
        return True

    def acknowledge(self, worker: Worker, lease_id: str) -> None:
        self.mesh.network.frame(60, partial(worker.forget, lease_id))

    def failed(self, worker: Worker, lease_id: str) -> None:
        task = self.core.tasks.get(lease_id.rpartition("-")[0])
        if task is not None and task.leases.get(lease_id) == worker.id:
            event = ev.ResultFailed(task.id, task.job, lease_id, worker.id, "oom", "")
            self.send([Append(event, f"failed/{lease_id}")])

    # -- proofs ---------------------------------------------------------------------------------------------------

    def _ask(self, worker: Worker, challenged: ev.ProofChallenged) -> None:
        frame = proving.prove_frame(self.core, challenged, self.now_ms)
        if frame is not None:
            tile = self.core.tasks[challenged.task].tile
            self.mesh.network.frame(60, partial(worker.prove, frame, tile))

    def proofs(self, worker: Worker, lease_id: str, data: bytes) -> None:
        """Looked at by the gateway's own rules; then stored, appended and acknowledged."""
        header = {"t": "proof", "lease": lease_id, "s": 0, "ms": 5.0, "backend": "wasm"}
        session: Any = SimpleNamespace(worker=worker.id)
        try:
            event, _, refused = proving.read_proofs(self.core, session, header, [memoryview(data)])
        except sqlite3.OperationalError:
            self.mesh.count("look-ups on a full disk")
            return
        if event is None:
            self.mesh.count(f"proofs refused: {refused}")
            self.mesh.network.frame(60, partial(worker.heard, lease_id))
        elif self.store(event.proofs, data):
            hear = partial(self.mesh.network.frame, 60, partial(worker.heard, lease_id))
            self.send([Append(event, f"proof/{lease_id}")], lambda _: hear())

    # -- requesters and operators ---------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> None:
        job = self.core.jobs.get(job_id)
        if job is not None:
            event = ev.JobCancelled(job_id, job.requester)
            only = subjects.of_entity("job", job_id)
            self.propose([Append(event, f"cancel/{job_id}/{job.seq}", job.seq, only)])

    def reopen(self, job_id: str) -> None:
        """As an operator's replay of the job's newest open letter, by what this gateway has read so far."""
        try:
            job = self.core.job(job_id)
            found = [x for x in self.core.letters.page(100, None, "unresolved", "open") if x.evidence["job"] == job_id]
            if job is None or job.state != "failed" or not found or job.spec.policy == kinds.CANARY:
                return
            tasks = self.core.tasks_in(job_id)
        except sqlite3.OperationalError:
            self.mesh.count("look-ups on a full disk")
            return
        tag = lambda: self.mesh.rng.randrange(2**24)  # noqa: E731 - the seed's, not the module's
        event = replays.reopening(job, tasks, found[0].entry, "operator", tag)
        only = subjects.of_entity("job", job_id)
        self.propose([Append(event, f"reopen/{event.entry}/{job.seq}", job.seq, only)])

    def discard(self, entry: str) -> None:
        """An operator closes a letter, if it is open as far as this gateway has read."""
        try:
            letter = self.core.letters.get(entry)
        except sqlite3.OperationalError:
            self.mesh.count("look-ups on a full disk")
            return
        if letter is not None and letter.state == "open":
            event = ev.DlqDiscarded(entry, "operator", "nothing to be done")
            self.propose([Append(event, f"discarded/{entry}", letter.at, subjects.of_entity("dlq", entry))])

    def change_keys(self, number: int) -> None:
        """An operator issues, replaces or revokes an API key, as the calls of the API do."""
        ring, rng = self.core.keyring, self.mesh.rng
        what = rng.choice(("issue", "replace", "revoke")) if ring.keys else "issue"
        only = subjects.of_entity("key", "*")
        fresh = f"{number:04d}{rng.getrandbits(48):012x}"
        if what == "revoke":
            key = rng.choice(sorted(ring.replaced & ring.keys.keys()) or sorted(ring.keys))
            event = ev.KeyRevoked(key, "operator", self.now_ms)
            self.propose([Append(event, f"key-revoked/{key}/{ring.seq}", ring.seq, only)])
            return
        old = rng.choice(sorted(ring.keys)) if what == "replace" else ""
        if old and ring.ends.get(old):
            return
        expires_ms = rng.choice((0, 0, self.now_ms + 10_000))
        issued = ev.KeyIssued(fresh, fresh * 4, old or fresh, ["submit"], "", "operator", expires_ms, old)
        replaced = Append(ev.KeyRevoked(old, "operator", self.now_ms + GRACE_MS), f"key-replaced/{old}")

        def answered(_item: Append, outcome: Outcome) -> None:
            if old and isinstance(outcome, Appended):
                self.mesh.later(self.mesh.delay(2_000), lambda: self.send([replaced]))

        self.mesh.network.carry(self, [Append(issued, f"key/{fresh}", ring.seq, only)], answered)

    def look_for(self, other: GatewayNode) -> None:
        """Siblings: whoever misses a gateway for long enough says that it is gone."""
        there = other.up and other.line.reads and other.line.sends
        if there or not (self.up and self.line.reads and self.line.sends):
            self.silent_since_ms = self.mesh.now_ms
        elif self.mesh.now_ms - self.silent_since_ms >= GONE_MS:
            present = {w.instance for w in self.core.workers.values() if w.present and w.gateway == other.name}
            for instance in sorted(present):
                gone = Append(ev.GatewayStarted(other.name, ""), f"gateway/gone/{other.name}/{instance}")
                self.propose([gone])
