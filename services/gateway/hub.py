"""All sessions of this gateway, what the log sends to them, and the way back for their results.

Leases: read from the log, packed many to a frame. Results: queued from all sockets, stored and appended in
micro-batches, acknowledged once they are durable. Nothing is judged here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from typing import Any

import msgspec
from blake3 import blake3

from shardy_common import kinds, limits
from shardy_common.blobs import DirectoryStore, MissingBlob
from shardy_common.log import Append, Appended, Full, JetStreamLog
from shardy_common.log.packs import pack
from shardy_common.wire import events as ev
from shardy_gateway import proving
from shardy_gateway.inbox import Inbox
from shardy_gateway.outbox import Outbox
from shardy_gateway.reputation import MALFORMED
from shardy_gateway.session import CloseSession, Session
from shardy_gateway.shapes import TaskView
from shardy_gateway.signed import SignedFrame, check_signature
from shardy_gateway.views import Views

log = logging.getLogger("shardy.gateway")
CARRY_BYTES_MAX = 256 * 1024
FRAME_CARRY_BYTES_MAX = 4 * 1024 * 1024
LEASES_PER_FRAME_MAX = 512
RESULTS_PER_FRAME_MAX = 512
CANCELS_PER_FRAME_MAX = 4_096  # after a rebuild all of the past is called back at once: more than one header holds
RESULT_BATCH_MAX = 4_000
RESULT_BATCH_BYTES = 64 * 1024 * 1024
GIVEN_BACK_MAX = 10_000
IN_THE_LOG_MAX = 20_000
ACCEPTED = "accepted"
BUSY_RESULTS = 8
REST_S = 0.003
CARRY_CACHE_BYTES = 32 * 1024 * 1024


class Incoming(msgspec.Struct):
    """A result on its way into the log. data: bytes to store, None when they were uploaded before."""

    session: Session
    event: ev.Event
    lease: str
    msg_id: str
    trace: str
    data: memoryview | None = None
    digest: str = ""
    leaves: bytes = b""  # of its whole frame, where that held several results: stored under event.batch


class Hub:
    def __init__(self, views: Views, event_log: JetStreamLog, blobs: DirectoryStore) -> None:
        self.views, self.log, self.blobs = views, event_log, blobs
        self.sessions: dict[str, Session] = {}  # by worker id
        self.inbox: Inbox[Incoming] = Inbox()
        self._queued = asyncio.Event()
        self._drained = asyncio.Event()
        self._slices: dict[tuple[str, int, int], bytes] = {}
        self._slices_bytes = 0
        # leases, the latest: whose malformed result is recorded, and whose result this gateway has recorded
        self._given_back: OrderedDict[str, None] = OrderedDict()
        self._in_the_log: OrderedDict[str, None] = OrderedDict()
        self._on_their_way: dict[str, Session] = {}  # leases whose result is being recorded → who is to hear of it
        self.results_accepted = 0
        event_log.on_break.append(self._in_the_log.clear)  # it may come back without its end

    # -- leases out -----------------------------------------------------------------------------------------------

    def deliver(self, outbox: Outbox) -> None:
        """Act on what a folded batch means for this gateway's sockets."""
        for seq, joined in outbox.joined:
            session = self.sessions.get(joined.worker)
            if session is None:
                continue
            if session.id == joined.session:
                session.joined_seq = seq
            elif 0 < session.joined_seq < seq:  # not an earlier join of this key, read late or again by a rebuild
                session.close(CloseSession(4409, "the same key joined elsewhere"))
        for tiered in outbox.tiered:
            session = self.sessions.get(tiered.worker)
            if session is not None and session.id == tiered.session and not session.tiered.done():
                session.tiered.set_result(tiered)
        by_session: dict[str, list[tuple[TaskView, ev.Lease]]] = {}
        for task, leases in outbox.lent:
            for lease in leases:
                session = self.sessions.get(lease.worker)
                if session is not None and session.id == lease.session:
                    by_session.setdefault(lease.worker, []).append((task, lease))
        for worker, lent in by_session.items():
            self._lend(self.sessions[worker], lent)
        self._cancel(outbox.dropped)
        for challenged in outbox.challenged:
            session = self.sessions.get(challenged.worker)
            if session is not None:
                self._challenge(session, challenged)
        for fraud in outbox.frauds:
            session = self.sessions.get(fraud.worker)
            if session is not None:
                session.close(CloseSession(4403, f"a wrong result was proven (task {fraud.task}, row {fraud.row})"))

    def _lend(self, session: Session, lent: list[tuple[TaskView, ev.Lease]]) -> None:
        now_ms = self.log.now_ms()
        params: dict[str, dict[str, Any]] = {}
        entries: list[dict[str, Any]] = []
        carry: list[list[Any]] = []
        segments: list[bytes] = []
        carried = 0

        def flush() -> None:
            nonlocal carried
            if entries:
                session.post({"t": "lease", "leases": list(entries), "carry": list(carry)}, list(segments))
            entries.clear()
            carry.clear()
            segments.clear()
            carried = 0

        for task, lease in lent:
            job = self.views.jobs.get(task.job)
            if job is None or task.id not in self.views.tasks:
                continue
            p = params.get(task.id)
            if p is None:
                p = params[task.id] = kinds.KINDS[job.spec.kind].lease_params(job.spec, task.tile)
            for name in kinds.KINDS[job.spec.kind].operand_names:
                operand = p[name]
                session.show(operand["d"])
                key = (operand["d"], operand["o"], operand["l"])
                if key[2] <= CARRY_BYTES_MAX and session.carry(key):
                    data = self._slice(key)
                    if data is not None:
                        carry.append([*key, len(segments)])
                        segments.append(data)
                        carried += len(data)
            entries.append(
                {
                    "lease": lease.id,
                    "task": task.id,
                    "job": task.job,
                    "kind": job.spec.kind,
                    "deadline_ms": max(lease.deadline_ms - now_ms, 1),
                    "p": p,
                    "trace": job.trace,
                }
            )
            if len(entries) >= LEASES_PER_FRAME_MAX or carried >= FRAME_CARRY_BYTES_MAX:
                flush()
        flush()

    def _challenge(self, session: Session, challenged: ev.ProofChallenged) -> None:
        """Ask the worker for proofs of its result."""
        asked = proving.prove_frame(self.views, challenged, self.log.now_ms())
        if asked is not None:
            for digest in proving.named_blobs(asked):
                session.show(digest)
            session.post(asked)

    def challenge_again(self, session: Session) -> None:
        """What was asked of the worker and is not answered, for one that has come back."""
        for challenged in self.views.proofs.asked_of(session.worker):
            self._challenge(session, challenged)

    def remember(self, session: Session, held: list[str]) -> None:
        """What the leases name that a worker brings from an earlier session: it may still have to fetch it."""
        for lease in held:
            task = self.views.tasks.get(lease.rpartition("-")[0])
            if task is not None and task.leases.get(lease) == session.worker and task.job in self.views.jobs:
                for operand in self.views.jobs[task.job].spec.operands.values():
                    session.show(operand.digest)

    def _slice(self, key: tuple[str, int, int]) -> bytes | None:
        """Operand bytes to carry; both replicas of a task ask for the same, so the last ones are kept."""
        data = self._slices.get(key)
        if data is None:
            try:
                data = self.blobs.read(*key)
            except (MissingBlob, ValueError):
                return None  # the worker's fetch gets the clear error
            if self._slices_bytes > CARRY_CACHE_BYTES:
                self._slices.clear()
                self._slices_bytes = 0
            self._slices[key] = data
            self._slices_bytes += len(data)
        return data

    def _cancel(self, dropped: list[TaskView]) -> None:
        by_session: dict[str, list[str]] = {}
        for task in dropped:
            for lease, worker in task.leases.items():
                if worker in self.sessions and worker not in task.workers:
                    by_session.setdefault(worker, []).append(lease)
        for worker, leases in by_session.items():
            for start in range(0, len(leases), CANCELS_PER_FRAME_MAX):
                self.sessions[worker].post({"t": "cancel", "leases": leases[start : start + CANCELS_PER_FRAME_MAX]})

    # -- results in -----------------------------------------------------------------------------------------------

    def take_results(self, session: Session, header: dict[str, Any], segments: list[memoryview]) -> None:
        """Check a result frame's form and queue what can be recorded; answer the rest at once."""
        results = header.get("results")
        if not isinstance(results, list):
            raise CloseSession(4400, "a result frame holds a list of results")
        if len(results) > RESULTS_PER_FRAME_MAX:
            raise CloseSession(4413, f"a result frame holds a list of at most {RESULTS_PER_FRAME_MAX} results")
        signed = check_signature(session, header.get("sig"), results)
        refused: list[list[str]] = []
        for index, result in enumerate(results):
            outcome = self._take_one(session, result["lease"], result, segments, signed, index)
            if outcome:
                refused.append([result["lease"], outcome])
            if outcome == MALFORMED:
                self._give_back(session, result["lease"])
        if refused:
            session.send({"t": "ack", "acks": refused})

    def _take_one(
        self,
        session: Session,
        lease_id: str,
        result: dict[str, Any],
        segments: list[memoryview],
        signed: SignedFrame,
        index: int,
    ) -> str:
        """Queue one result; returns an outcome when it is not to be recorded."""
        task_id = lease_id.rpartition("-")[0]
        task = self.views.tasks.get(task_id)
        if task is None:
            return "late" if self.views.task_state(task_id) == "ended" else "unknown"
        if task.leases.get(lease_id) != session.worker:
            return "unknown"
        if lease_id in self._in_the_log:
            session.recorded(lease_id)
            return ACCEPTED
        if lease_id in self._on_their_way:  # sent again, by a worker that has come back, perhaps
            self._on_their_way[lease_id] = session
            return ""
        job = self.views.jobs[task.job]
        digest, size, segment = result.get("digest"), result.get("len"), result.get("s")
        expected = kinds.KINDS[job.spec.kind].result_bytes(job.spec, task.tile.rows, task.tile.cols)
        if not isinstance(digest, bytes) or len(digest) != 32 or size != expected:
            return MALFORMED
        data: memoryview | None = None
        if segment is not None:
            if type(segment) is not int or not 0 <= segment < len(segments):
                return MALFORMED
            data = segments[segment]
            if len(data) != size or len(data) > limits.RESULT_INLINE_BYTES_MAX:
                return MALFORMED
            if blake3(data).digest() != digest:
                return MALFORMED
        elif session.uploaded(lease_id) != (digest.hex(), size) and self.blobs.size(digest.hex()) != size:
            return MALFORMED
        ms, backend, spans = result.get("ms"), result.get("backend"), result.get("spans")
        event = ev.ResultSubmitted(
            task_id,
            task.job,
            lease_id,
            session.worker,
            digest.hex(),
            size,
            float(ms) if isinstance(ms, (int, float)) and 0 <= ms < 1e9 else 0.0,
            backend[:16] if isinstance(backend, str) else "",
            _spans(spans),
            signed.sig,
            signed.batch,
            index,
        )
        self._on_their_way[lease_id] = session
        self._put(
            Incoming(session, event, lease_id, f"result/{lease_id}", job.trace, data, event.digest, signed.leaves)
        )
        return ""

    def take_proofs(self, session: Session, header: dict[str, Any], segments: list[memoryview]) -> None:
        """Proofs that were asked for."""
        event, data, refused = proving.read_proofs(self.views, session, header, segments)
        if event is None:
            session.send({"t": "ack", "acks": [[header["lease"], refused]]})
            return
        trace = self.views.jobs[event.job].trace
        self._put(Incoming(session, event, event.lease, f"proof/{event.lease}", trace, data, event.proofs))

    def take_failed(self, session: Session, header: dict[str, Any]) -> None:
        """A lease given back."""
        lease_id = header.get("lease")
        task = self.views.tasks.get(lease_id.rpartition("-")[0]) if isinstance(lease_id, str) else None
        if task is None or not isinstance(lease_id, str) or task.leases.get(lease_id) != session.worker:
            return
        code = str(header.get("code", "internal"))[:32]
        event = ev.ResultFailed(
            task.id,
            task.job,
            lease_id,
            session.worker,
            "internal" if code == MALFORMED else code,  # only the gateway says so
            str(header.get("message", ""))[:200],
        )
        self._put(Incoming(session, event, lease_id, f"failed/{lease_id}", self.views.jobs[task.job].trace))

    def _give_back(self, session: Session, lease_id: str) -> None:
        """Something came for this lease that is no result: it is counted once, and somebody else gets the task."""
        if lease_id in self._given_back:
            return
        self._given_back[lease_id] = None
        while len(self._given_back) > GIVEN_BACK_MAX:
            self._given_back.popitem(last=False)
        task = self.views.tasks[lease_id.rpartition("-")[0]]
        event = ev.ResultFailed(task.id, task.job, lease_id, session.worker, MALFORMED, "")
        trace = self.views.jobs[task.job].trace
        self._put(Incoming(session, event, lease_id, f"malformed/{lease_id}", trace))

    def _put(self, item: Incoming) -> None:
        self.inbox.put(item.session.worker, item, len(item.data) if item.data is not None else 0)
        self._queued.set()

    @property
    def queued(self) -> int:
        """Results that are here and not in the log."""
        return self.inbox.items

    async def until_room(self, session: Session) -> None:
        """Before the next frame of this worker is read: wait until the log has taken enough of what it handed in."""
        while self.inbox.full_for(session.worker) and session.closing is None:
            session.held_back = True
            self._drained.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), 1.0)
        if session.held_back:
            session.held_back, session.seen = False, time.monotonic()  # its silence was of our making

    async def record_results(self) -> None:
        """Store and append queued results in micro-batches, for ever; acknowledge what is durable."""
        while True:
            await self._queued.wait()
            self._queued.clear()
            while self.inbox.queued:
                if self.inbox.queued > BUSY_RESULTS:  # many are coming: one write and one transaction for more of them
                    await asyncio.sleep(REST_S)
                taken = self.inbox.take(RESULT_BATCH_MAX, RESULT_BATCH_BYTES)
                batch = [item for _, item, _ in taken]
                while not self._store(batch):
                    await asyncio.sleep(1.0)  # a full disk: workers keep their results until an ack names them
                await self._append(batch)
                self.inbox.done(taken)
                self._drained.set()

    def _store(self, batch: list[Incoming]) -> bool:
        try:
            blobs: list[tuple[str, bytes | memoryview]] = [(i.digest, i.data) for i in batch if i.data is not None]
            blobs += {i.event.batch: i.leaves for i in batch if i.leaves}.items()  # type: ignore[attr-defined]
            self.blobs.put(blobs)
        except OSError as error:
            log.error("results cannot be stored: %s; trying again", error)
            return False
        return True

    async def _append(self, batch: list[Incoming]) -> None:
        messages, which = pack([Append(i.event, i.msg_id, trace=i.trace) for i in batch])
        inside: list[list[Incoming]] = [[] for _ in messages]
        for item, number in zip(batch, which, strict=True):
            inside[number].append(item)
        waiting = list(zip(messages, inside, strict=True))
        for attempt in range(1_000_000):  # bounded by the queue's limit and the workers' patience, not by a count
            outcomes = await self.log.append([message for message, _ in waiting])
            recorded: list[Incoming] = []
            again = []
            for one, outcome in zip(waiting, outcomes, strict=True):
                if isinstance(outcome, Appended):
                    recorded += one[1]
                else:
                    again.append(one)
            self._recorded(recorded)
            waiting = again
            if not waiting:
                return
            if attempt == 0 and any(isinstance(outcome, Full) for outcome in outcomes):
                log.error("the log is full: %d results wait for room", sum(len(items) for _, items in waiting))
            await asyncio.sleep(min(0.1 * 2**attempt, 2.0))

    def _recorded(self, items: list[Incoming]) -> None:
        """They are durable: whoever waits for that hears of it."""
        acks: dict[str, tuple[Session, list[list[str]]]] = {}
        for item in items:
            if isinstance(item.event, ev.ResultSubmitted):
                self.results_accepted += 1
                item.session.recorded(item.lease)
                session = self._on_their_way.pop(item.lease, item.session)
                self._in_the_log[item.lease] = None
                acks.setdefault(session.id, (session, []))[1].append([item.lease, ACCEPTED])
            elif isinstance(item.event, ev.ProofSubmitted):
                acks.setdefault(item.session.id, (item.session, []))[1].append([item.lease, ACCEPTED])
        for session, entries in acks.values():
            session.send({"t": "ack", "acks": entries})
        while len(self._in_the_log) > IN_THE_LOG_MAX:
            self._in_the_log.popitem(last=False)  # of a plain dict the first is found by passing over all that left


def _spans(spans: Any) -> dict[str, float]:
    """At most 12 named milliseconds; anything else is left out."""
    if not isinstance(spans, dict):
        return {}
    return {
        str(name)[:24]: round(float(ms), 3)
        for name, ms in list(spans.items())[:12]
        if isinstance(ms, (int, float)) and 0 <= ms < 1e9
    }
