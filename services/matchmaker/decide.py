"""decide: what the matchmaker proposes to the log. Pure: time and randomness arrive as arguments.

What has been proposed and not yet read back is kept in `Overlay`, apart from the folded state: it keeps the next call
from proposing the same again, and is dropped when the event arrives or the log refuses it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import islice

from shardy_common import ids, kinds, limits, trust
from shardy_common.carving import Cursor
from shardy_common.log import Append
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_common.wire.job import Tile
from shardy_matchmaker.chunker import Device, next_tile
from shardy_matchmaker.fair import Turns, Wants, dear, wants_of
from shardy_matchmaker.fold import Fold
from shardy_matchmaker.pool import TASK_OVERHEAD_MS, Candidate, Devices, Pool
from shardy_matchmaker.state import EXPIRED, FAILED, LIVE, JobState, TaskState
from shardy_matchmaker.tiers import tier_for

GRACE_MS = 10_000  # how long a worker that dropped off may take to come back with its leases
LEASE_BASE_MS = 10_000
LEASE_FACTOR = 5  # a lease lasts so many times the work queued before it and its own
WANTING_EACH_MAX = 256  # tasks of a requester that wait for another replica before no new ones are carved for it
WANTING_MAX = 4_096  # of all; beyond it only those who have none of them get new ones
AUDITS_WAITING_MAX = 4_000  # tasks without a verdict before no more are carved that have to be audited
VERDICTS_WAITING_MAX = 20_000  # before none are carved at all: the quorum is behind, or away
ASIDE_MS = 1_000  # how often jobs of other replicas are looked at again
DECISIONS_MAX = 4_000  # of one round
SWEEP_MS = 200  # how often deadlines are looked at


class Overlay:
    """Proposed, not yet read back. leases: lease id → (worker, work in ms); cursors: job → where to carve on;
    carving: task → the run of carving that it belongs to; a run ends when one of its tasks is refused or void."""

    def __init__(self) -> None:
        self.leases: dict[str, tuple[str, float]] = {}
        self.of_worker: dict[str, dict[str, float]] = {}  # the same by worker: work of each lease
        self.moved: set[str] = set()  # workers of which a proposed lease came or went, for the next round
        self.devices = Devices()
        self.cursors: dict[str, Cursor] = {}
        self.runs: dict[str, int] = {}
        self.carving: dict[str, int] = {}
        self.tasks: set[str] = set()
        self.jobs: set[str] = set()
        self.tiered: set[str] = set()
        self.lone: dict[str, tuple[str, int]] = {}  # task → (worker, operations), given to it alone
        self.lone_ops: dict[str, int] = {}  # the same, summed for each worker

    def lend(self, lease: str, worker: str, work_ms: float) -> None:
        self.leases[lease] = (worker, work_ms)
        self.of_worker.setdefault(worker, {})[lease] = work_ms
        self.moved.add(worker)

    def read_back(self, lease: str) -> None:
        """It stands in the log, or was refused."""
        worker, _ = self.leases.pop(lease, ("", 0.0))
        held = self.of_worker.get(worker)
        if held is not None:
            held.pop(lease, None)
            self.moved.add(worker)
            if not held:
                del self.of_worker[worker]


class Matchmaker:
    """fold: what the log says; allow_same_address: for meshes on one machine, where all addresses are equal.

    owns: what this replica looks after, by the id of the job, or of the worker that waits for its tier. Replicas lend
    to the same devices, and each counts what is in the log and what it has proposed itself: so several may fill the
    room that they see at the same moment, and a device holds at most max_leases for each of them
    (docs/adr/0010-replicas.md).
    """

    def __init__(self, *, allow_same_address: bool = False, owns: Callable[[str], bool] = lambda _id: True) -> None:
        self.fold = Fold()
        self.overlay = Overlay()
        self.allow_same_address = allow_same_address
        self.owns = owns
        self.turns = Turns()
        self._aside: dict[str, None] = {}  # uncarved jobs that other replicas look after
        self._short: Counter[str] = Counter()  # tasks of this round that want further leases, by requester
        self._looked_ms = 0
        self._swept_ms = 0

    def decide(self, now_ms: int, rng: random.Random) -> list[Append]:
        """All proposals that the state calls for now, at most DECISIONS_MAX."""
        out: list[Append] = []
        self._tier(out)
        if self.fold.incoming or not 0 <= now_ms - self._swept_ms < SWEEP_MS:  # a clock may be set back
            self._swept_ms = now_ms
            self._expire(now_ms, out)
        self._end_jobs(out)
        pool = Pool(self.fold, self.overlay, self.allow_same_address, rng, now_ms)
        if pool.free():
            self._lend_in_turn(now_ms, pool, rng, out)
        return out

    def review(self) -> None:
        """Other replicas came or went, so this one may look after what it passed over."""
        self.fold.fresh.update(self._aside)
        self._aside.clear()

    def settled(self, item: Append, accepted: bool) -> None:
        """The log answered. An accepted event clears its marks when it is read back, a refused one now."""
        if not accepted:
            self._forget(item.event)

    def read_back(self, event: ev.Event | None) -> None:
        """Call after evolve: what is folded now needs no mark any more."""
        if isinstance(event, (ev.TaskCreated, ev.TaskAssigned, ev.TaskExpired, ev.TaskUnresolved)):
            self._forget(event)
        elif isinstance(event, (ev.JobCompleted, ev.JobFailed, ev.JobCancelled)):
            self.overlay.jobs.discard(event.job)
            self.overlay.cursors.pop(event.job, None)
            self.overlay.runs.pop(event.job, None)
            self.turns.remove(event.job)
            self._aside.pop(event.job, None)
        elif isinstance(event, ev.WorkerTiered):
            self.overlay.tiered.discard(event.session)

    def _forget(self, event: ev.Event) -> None:
        overlay = self.overlay
        if isinstance(event, (ev.TaskCreated, ev.TaskAssigned)):
            for lease in event.leases:
                overlay.read_back(lease.id)
        if isinstance(event, ev.TaskCreated):
            run = overlay.carving.pop(event.task, None)
            if event.task in overlay.lone:
                worker, ops = overlay.lone.pop(event.task)
                overlay.lone_ops[worker] -= ops
            if run is None:
                return
            job = self.fold.jobs.get(event.job)
            if job is None or overlay.cursors.get(event.job) == job.cursor:
                overlay.cursors.pop(event.job, None)
            elif event.task not in self.fold.tasks and run == overlay.runs.get(event.job, 0):
                overlay.cursors.pop(event.job, None)  # refused or void: carve on from where the fold stands
                overlay.runs[event.job] = run + 1
                self.fold.fresh[event.job] = None
        elif isinstance(event, (ev.TaskAssigned, ev.TaskExpired, ev.TaskUnresolved)):
            overlay.tasks.discard(event.task)
        elif isinstance(event, (ev.JobCompleted, ev.JobFailed)):
            overlay.jobs.discard(event.job)
        elif isinstance(event, ev.WorkerTiered):
            overlay.tiered.discard(event.session)

    # -- workers --------------------------------------------------------------------------------------------------

    def _tier(self, out: list[Append]) -> None:
        for worker_id in self.fold.untiered:
            worker = self.fold.workers[worker_id]
            if worker.session in self.overlay.tiered or not self.owns(worker_id):
                continue
            tier = tier_for(worker.gops, worker.memory_mib, worker.backend != "wasm")
            name, leases = (tier.name, tier.max_leases) if tier else ("too-small", 0)
            if worker.banned:
                name, leases = "banned", 0
            self.overlay.tiered.add(worker.session)
            out.append(
                Append(ev.WorkerTiered(worker_id, worker.session, name, leases, worker.gops), f"tier/{worker.session}")
            )

    def _expire(self, now_ms: int, out: list[Append]) -> None:
        """Leases past their deadline, of workers that are gone for good, or that a worker came back without.

        An event has one cause, and a worker is judged by it: where leases of a task end for several, those of the
        first cause go now, and the others when that is read back.
        """
        doomed: dict[str, tuple[str, list[str]]] = {}  # task → (cause, leases)

        def doom(lease_id: str, task_id: str, cause: str) -> None:
            first, leases = doomed.setdefault(task_id, (cause, []))
            if cause == first:
                leases.append(lease_id)

        for worker_id, lost in self.fold.incoming.items():
            worker = self.fold.workers.find(worker_id)
            for lease_id in lost:
                if worker is not None and lease_id in worker.leases:
                    doom(lease_id, worker.leases[lease_id], "lost")
        for worker in self.fold.workers.values():
            if not worker.leases:
                continue
            gone = not worker.present and now_ms > worker.absent_ms + GRACE_MS
            for lease_id, task_id in worker.leases.items():
                if gone or worker.banned:
                    doom(lease_id, task_id, "lost" if gone else "banned")
                else:
                    task = self.fold.tasks.get(task_id)
                    if task is not None and task.leases[lease_id].deadline_ms < now_ms:
                        doom(lease_id, task_id, "deadline")
        for task_id, (cause, leases) in doomed.items():
            task = self.fold.tasks.get(task_id)
            if task is None or task_id in self.overlay.tasks or not self.owns(task.job):
                continue
            leases = sorted({lease for lease in leases if task.leases[lease].state == LIVE})
            if leases:
                self._propose(out, task, ev.TaskExpired(task.id, task.job, leases, cause), f"expire/{leases[0]}")
        self.fold.incoming = {
            worker: [
                lease for lease in lost if worker in self.fold.workers and lease in self.fold.workers[worker].leases
            ]
            for worker, lost in self.fold.incoming.items()
        }
        self.fold.incoming = {worker: lost for worker, lost in self.fold.incoming.items() if lost}

    # -- jobs -----------------------------------------------------------------------------------------------------

    def _end_jobs(self, out: list[Append]) -> None:
        for job in [self.fold.jobs[job_id] for job_id in self.fold.ending]:
            if job.id in self.overlay.jobs or not self.owns(job.id):
                continue
            event: ev.Event
            if job.failing:
                event = ev.JobFailed(job.id, job.failing)
            elif job.cells_done >= job.cells:
                event = ev.JobCompleted(job.id, job.cells_done, job.tasks_made)
            else:
                continue
            self.overlay.jobs.add(job.id)
            out.append(
                Append(event, f"end/{job.id}/{job.seq}", job.seq, subjects.of_entity("job", job.id), trace=job.trace)
            )

    def _lend_in_turn(self, now_ms: int, pool: Pool, rng: random.Random, out: list[Append]) -> None:
        """What devices have room for goes to requesters in turn by the work that each got (fair.py): first to tasks of
        theirs that want another lease, then to new ones."""
        self._list_jobs(now_ms)
        self._short.clear()
        tries: dict[str, list[str]] = {}
        blocked: set[Wants] = self._held_back()

        def serve(who: str) -> float:
            if who not in tries:
                tries[who] = list(islice(self.fold.wanting_of.get(who, ()), WANTING_EACH_MAX))[::-1]
            while tries[who]:
                work = self._replicate(self.fold.tasks[tries[who].pop()], now_ms, pool, out)
                if work or not pool.free() or len(out) >= DECISIONS_MAX:
                    return work
            return self._carve(who, blocked, now_ms, pool, rng, out)

        lending = self.turns.begin(self.fold.wanting_of)
        lending.run(serve, lambda: pool.free() and len(out) < DECISIONS_MAX)

    def _list_jobs(self, now_ms: int) -> None:
        """Jobs that came since the last time, or may have become this replica's, take their places."""
        if now_ms - self._looked_ms >= ASIDE_MS:
            self._looked_ms = now_ms
            self.review()
        for job_id in self.fold.fresh:
            job = self.fold.jobs.get(job_id)
            if job is not None and self._uncarved(job):
                self.turns.add(job_id, job.requester, wants_of(job.spec))
        self.fold.fresh.clear()

    def _held_back(self) -> set[Wants]:
        """Jobs of which nothing is carved while the quorum has so much to judge."""
        waiting = len(self.fold.unjudged)
        if waiting < AUDITS_WAITING_MAX:
            return set()
        return {wants for wants in self.turns.kinds() if dear(wants) or waiting >= VERDICTS_WAITING_MAX}

    def _replicate(self, task: TaskState, now_ms: int, pool: Pool, out: list[Append]) -> float:
        """Further leases for a task that has too few: a retry, a third opinion, a replica that found no device before.
        The work lent, in operations."""
        if task.id in self.overlay.tasks or not self.owns(task.job):
            return 0
        if len(task.leases) >= limits.ATTEMPTS_MAX:
            if task.counting == 0 or not any(lease.state == LIVE for lease in task.leases.values()):
                cause = f"given up after {len(task.leases)} leases without agreement"
                self._propose(out, task, ev.TaskUnresolved(task.id, task.job, cause), f"unresolved/{task.id}")
            return 0
        leases: list[ev.Lease] = []
        tried = {lease.worker for lease in task.leases.values()}
        barred_workers = {lease.worker for lease in task.leases.values() if lease.state != EXPIRED}
        # a lease that ran out may still be answered late, so its address has had its voice whatever came of it
        heard = {lease.address for lease in task.leases.values()}
        room = limits.ATTEMPTS_MAX - len(task.leases)
        proves_mib = kinds.proving_mib(self.fold.jobs[task.job].spec)
        while len(leases) < min(task.need - task.counting, room):
            # whoever let it expire before gets it again only when nobody else can have it
            worker = pool.pick(barred_workers | tried, heard, proves_mib)
            worker = worker or pool.pick_again(tried - barred_workers, task.strangers(tried), proves_mib)
            if worker is None:
                break
            leases.append(self._lease(pool, worker, task.id, len(task.leases) + len(leases), task.ops, now_ms))
            barred_workers.add(worker.id)
            heard.add(worker.address)
        if leases:
            spent = any(lease.state in (EXPIRED, FAILED) for lease in task.leases.values())
            cause = "retry" if spent else "replica"
            event = ev.TaskAssigned(task.id, task.job, task.tile, leases, cause)
            self._propose(out, task, event, f"assign/{leases[0].id}")
        return float(task.ops * len(leases))

    def _carve(
        self, who: str, blocked: set[Wants], now_ms: int, pool: Pool, rng: random.Random, out: list[Append]
    ) -> float:
        """A new task of one of this requester's jobs, in turn; the work lent. blocked: what the devices cannot do in
        this round any more; their room only shrinks, so nobody asks for that again."""
        wanting = len(self.fold.wanting_of.get(who, ())) + self._short[who]
        if wanting >= WANTING_EACH_MAX or (wanting and len(self.fold.wanting) >= WANTING_MAX):
            return 0
        while (found := self.turns.next_job(who, blocked)) is not None:
            job_id, wants = found
            job = self.fold.jobs.get(job_id)
            if job is None or job.failing or not self._uncarved(job):
                self.turns.remove(job_id)
            elif not self.owns(job_id):
                self.turns.remove(job_id)
                self._aside[job_id] = None
            else:
                work = self._carve_one(job, now_ms, pool, rng, out, late=self.turns.late(who))
                if work:
                    self.turns.served_job(job_id)
                    made = out[-1].event
                    assert isinstance(made, ev.TaskCreated)
                    if len(made.leases) < (made.need or wants[1]):
                        self._short[who] += 1
                    return work
                blocked.add(wants)
        return 0

    def _uncarved(self, job: JobState) -> bool:
        return not self.overlay.cursors.get(job.id, job.cursor).done(_shape(job))

    def _carve_one(
        self, job: JobState, now_ms: int, pool: Pool, rng: random.Random, out: list[Append], late: bool
    ) -> float:
        """One task for the least loaded devices; the work lent, 0 when the devices have nothing left for it."""
        shape = _shape(job)
        cursor = self.overlay.cursors.get(job.id, job.cursor)
        chosen = self._choose(job, cursor, now_ms, pool, rng, late)
        if chosen is None:
            return 0
        workers, tile, need = chosen
        task_id = ids.task_id(job.id, tile.col0, tile.row0, rng.getrandbits(24))
        ops = kinds.KINDS[job.spec.kind].ops(job.spec, tile.rows, tile.cols)
        leases = [self._lease(pool, worker, task_id, i, ops, now_ms) for i, worker in enumerate(workers)]
        event = ev.TaskCreated(task_id, job.id, tile, leases, need)
        # no expectation: where it stands in the log decides whether it is real (shardy_common/carving.py)
        out.append(Append(event, f"create/{task_id}", trace=job.trace))
        self.overlay.cursors[job.id] = cursor.after(tile, shape)
        self.overlay.carving[task_id] = self.overlay.runs.get(job.id, 0)
        if job.spec.policy == "adaptive" and need == 1:
            self.overlay.lone[task_id] = (workers[0].id, ops)
            self.overlay.lone_ops[workers[0].id] = self.overlay.lone_ops.get(workers[0].id, 0) + ops
        return float(max(ops, 1) * len(leases))

    def _choose(
        self, job: JobState, cursor: Cursor, now_ms: int, pool: Pool, rng: random.Random, late: bool
    ) -> tuple[list[Candidate], Tile, int] | None:
        """Who computes the next task, which tile it is, and what `task.created` says of the answers wanted."""
        spec = job.spec
        replicas = kinds.answers_wanted(spec)
        if spec.policy == kinds.CANARY:
            worker = pool.pick_by(lambda w: trust.canary_urgency(self.fold.book.of(w), now_ms))
            rows, cols = _shape(job)
            return ([worker], Tile(0, rows, 0, cols), 0) if worker is not None else None
        chosen: list[Candidate] = []
        while len(chosen) < replicas:
            worker = pool.pick({w.id for w in chosen}, {w.address for w in chosen}, kinds.proving_mib(spec))
            if worker is None:
                break
            chosen.append(worker)
            if spec.policy == "adaptive" and len(chosen) == 1:
                # whoever has room for work is taken, so that new devices get their checks; then chance decides
                tile = next_tile(spec, cursor.row0, cursor.col0, cursor.band_cols, _device(chosen), max(pool.size, 1))
                ops = kinds.KINDS[spec.kind].ops(spec, tile.rows, tile.cols)
                asked = ops + self.overlay.lone_ops.get(worker.id, 0)
                if rng.random() >= trust.replication_probability(self.fold.book.of(worker.id), asked):
                    return chosen, tile, 1
        if not chosen or (len(chosen) < min(replicas, pool.size) and not late):
            return None  # enough devices are here, but busy: a task lent whole costs one event instead of two
        sharers = max(pool.size // replicas, 1)
        tile = next_tile(spec, cursor.row0, cursor.col0, cursor.band_cols, _device(chosen), sharers)
        return chosen, tile, replicas if spec.policy == "adaptive" else 0

    # -- shared ---------------------------------------------------------------------------------------------------

    def _lease(self, pool: Pool, worker: Candidate, task: str, attempt: int, ops: int, now_ms: int) -> ev.Lease:
        lease_id = ids.lease_id(task, attempt)
        work_ms = ops / worker.gops / 1e6 + TASK_OVERHEAD_MS
        deadline = now_ms + LEASE_BASE_MS + int(LEASE_FACTOR * (worker.load_ms + work_ms))
        pool.lend(worker, work_ms)
        self.overlay.lend(lease_id, worker.id, work_ms)
        return ev.Lease(lease_id, worker.id, worker.session, deadline)

    def _propose(self, out: list[Append], task: TaskState, event: ev.Event, msg_id: str) -> None:
        """A further event of a task: only if the task stands where we saw it."""
        self.overlay.tasks.add(task.id)
        trace = self.fold.jobs[task.job].trace if task.job in self.fold.jobs else ""
        out.append(Append(event, f"{msg_id}/{task.seq}", task.seq, subjects.of_entity("task", task.id), trace=trace))


def _shape(job: JobState) -> tuple[int, int]:
    return kinds.KINDS[job.spec.kind].shape(job.spec)


def _device(chosen: list[Candidate]) -> Device:
    """The slowest speed and the smallest memory of those that will compute the same task."""
    parts = [
        (w.gops, int(w.memory_mib * w.tier.memory_share * 2**20), w.tier.task_ms, w.tier.result_mib_max * 2**20)
        for w in chosen
    ]
    if len(set(parts)) == 1:  # as in a mesh of equal devices: nothing to compare
        return Device(*parts[0])
    gops, memory_bytes, task_ms, result_bytes_max = zip(*parts, strict=True)
    return Device(min(gops), min(memory_bytes), min(task_ms), min(result_bytes_max))
