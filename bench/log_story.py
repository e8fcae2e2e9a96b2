"""A log as a busy mesh would have written it: valid event sequences of any length, by seed, with their expectations.

One writer appends it to an empty stream, so the sequence of every event is known before it is written; that is how the
expectations of state machines can be right without reading. Jobs run side by side, tasks are open side by side, some
devices lie, are late, leave and come back. Signatures and digests are random bytes of the right length: no fold checks
them, and they compress as little as real ones. tests/bench holds the story to the folds of all services.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from shardy_common import ids
from shardy_common.log import Append
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_common.wire.job import JobSpec, Operand, Tile

VERSION = 1  # of the story: kept logs of another one are made anew
GATEWAY = "gateway-0"  # the name of a one-machine mesh's gateway: when it starts on this log, these workers are gone
BORN_MS = 1_700_000_000_000
TASKS_PER_JOB = 200
JOBS_OPEN = 8
TASKS_OPEN = 64
COLS, K = 16, 16
RESULT_BYTES = 4 * COLS
LEASE_MS = 60_000


@dataclass(frozen=True)
class Odds:
    """liars: of the tasks, one of the two answers is proven wrong; late: one of the leases runs out, and another device
    gets the task; moves: chance at each task that a device leaves and joins again; cancelled: of the jobs; audited: of
    the jobs, one answer and an audit of it."""

    liars: float = 0.0004
    late: float = 0.01
    moves: float = 0.002
    cancelled: float = 0.02
    audited: float = 0.25


@dataclass
class _Job:
    id: str
    spec: JobSpec
    owner: str
    trace: str
    seq: int
    cancelled_at: int  # after so many tasks; 0: never
    made: int = 0
    done: int = 0


@dataclass
class _Task:
    """seq: last sequence of its own events. steps: what still happens to it, in order; each writes one event."""

    id: str
    job: _Job
    tile: Tile
    workers: list[str]
    seq: int = 0
    steps: deque[Callable[[], None]] = field(default_factory=deque)


class Story:
    """`for append in Story(events=…)`: at least `events` of them, until the last job has ended. first: sequence of the
    first one. tasks, jobs: how many were verified and completed so far."""

    def __init__(
        self, events: int, *, workers: int = 2_000, seed: int = 1, first: int = 1, odds: Odds = Odds()
    ) -> None:
        self._odds = odds
        self._rng = random.Random(seed)
        self._end, self._count_workers = first + events, workers
        self._next = first
        self._out: deque[Append] = deque()
        self._workers: list[str] = []
        self._sessions: dict[str, str] = {}
        self._jobs: list[_Job] = []
        self._tasks: deque[_Task] = deque()
        self._made = 0
        self.tasks = self.jobs = self.frauds = 0

    def __iter__(self) -> Iterator[Append]:
        self._append(ev.GatewayStarted(GATEWAY, "story"), "gateway/story")
        for _ in range(self._count_workers):
            self._workers.append(self._new_worker())
            self._join(self._workers[-1])
        yield from self._drain()
        while True:
            ending = self._next >= self._end
            while not ending and len(self._jobs) < JOBS_OPEN:
                self._submit()
            if not self._jobs:
                return
            while len(self._tasks) < TASKS_OPEN and self._carve():
                pass
            if self._tasks:
                self._step()
            yield from self._drain()

    def _drain(self) -> Iterator[Append]:
        while self._out:
            yield self._out.popleft()

    # -- what happens -------------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        self._made += 1
        name = ids.new_job_id(BORN_MS + 7 * self._made, self._rng.randbytes(5))
        operands = {
            "a": Operand(self._digest(), "int8", TASKS_PER_JOB, K),
            "b": Operand(self._digest(), "int8", COLS, K),
        }
        policy = "audit" if self._rng.random() < self._odds.audited else "quorum"
        spec = JobSpec("matmul", operands, policy, task_rows=1)
        trace = f"00-{self._rng.randbytes(16).hex()}-{self._rng.randbytes(8).hex()}-01"
        cancelled = self._rng.randrange(1, TASKS_PER_JOB) if self._rng.random() < self._odds.cancelled else 0
        owner = f"requester-{self._rng.randrange(20)}"
        self._jobs.append(_Job(name, spec, owner, trace, self._next, cancelled))
        self._append(ev.JobSubmitted(name, spec, owner), f"job/{name}", 0, "", trace)

    def _carve(self) -> bool:
        """One more task, of one of the open jobs; False when all of them are carved."""
        jobs = [job for job in self._jobs if job.made < TASKS_PER_JOB]
        if not jobs:
            return False
        job, fate = self._rng.choice(jobs), self._rng.random()
        answers = 1 if job.spec.policy == "audit" else 2
        workers = self._rng.sample(self._workers, answers + 1)
        spare = workers.pop()
        lies = answers == 2 and fate < self._odds.liars
        if lies:  # a key of its own, that has nothing else to answer for
            workers[1] = self._new_worker()
            self._join(workers[1])
        tile = Tile(job.made, 1, 0, COLS)
        task = _Task(
            ids.task_id(job.id, 0, job.made, self._rng.getrandbits(24)), job, tile, [*workers, spare], self._next
        )
        job.made += 1
        leases = [self._lease(task, i, worker) for i, worker in enumerate(workers)]
        self._append(ev.TaskCreated(task.id, job.id, tile, leases), f"create/{task.id}", None, "", job.trace)
        self._plan(task, leases, spare, lies, self._odds.liars <= fate < self._odds.liars + self._odds.late)
        self._tasks.append(task)
        if self._rng.random() < self._odds.moves:
            self._move()
        return True

    def _plan(self, task: _Task, leases: list[ev.Lease], spare: str, lies: bool, late: bool) -> None:
        """What will happen to a task, one event a step."""
        right = self._digest()
        if lies:
            honest, liar = leases
            task.steps.append(lambda: self._result(task, honest, right))
            task.steps.append(lambda: self._lie(task, liar, self._digest()))
            task.steps.append(lambda: self._verdict(task, [honest.worker], right, "arbitration", 2))
            return
        if late:
            missed = leases.pop()
            again = self._lease(task, len(leases) + 1, spare)
            task.steps.append(lambda: self._expire(task, missed))
            task.steps.append(lambda: self._assign(task, again))
            leases = [*leases, again]
        for lease in leases:
            task.steps.append(partial(self._result, task, lease, right))
        method, rounds = ("audit", 2) if task.job.spec.policy == "audit" else ("quorum", 0)
        task.steps.append(lambda: self._verdict(task, [lease.worker for lease in leases], right, method, rounds))

    def _step(self) -> None:
        """The next event of the task that waits longest, as a pipeline has it: many are open at once."""
        task = self._tasks.popleft()
        task.steps.popleft()()
        if task.steps:
            self._tasks.append(task)
        job = task.job
        if job.cancelled_at and job.done >= job.cancelled_at:
            self._append(
                ev.JobCancelled(job.id, job.owner), f"end/{job.id}/{job.seq}", job.seq,
                subjects.of_entity("job", job.id), job.trace,
            )  # fmt: skip
            self._jobs.remove(job)
            self._tasks = deque(task for task in self._tasks if task.job is not job)

    def _result(self, task: _Task, lease: ev.Lease, digest: str) -> None:
        rng = self._rng
        compute = rng.random()
        event = ev.ResultSubmitted(
            task.id, task.job.id, lease.id, lease.worker, digest, RESULT_BYTES, round(compute, 3), "wasm",
            {"fetch": 0.0, "compute": round(compute, 3), "queue": round(9 * compute, 3)},
            rng.randbytes(64).hex(), self._digest(), rng.randrange(64),
        )  # fmt: skip
        self._append(event, f"result/{lease.id}", None, "", task.job.trace)

    def _verdict(self, task: _Task, workers: list[str], digest: str, method: str, rounds: int) -> None:
        job = task.job
        event = ev.TaskVerified(
            task.id, job.id, task.tile, digest, RESULT_BYTES, workers, method, rounds, 2 * COLS * K
        )  # fmt: skip
        self._own(task, event, f"verdict/{task.id}")
        self.tasks += 1
        job.done += 1
        if job.done == TASKS_PER_JOB:
            completed = ev.JobCompleted(job.id, TASKS_PER_JOB * COLS, TASKS_PER_JOB)
            expected = subjects.of_entity("job", job.id)
            self._append(completed, f"end/{job.id}/{job.seq}", job.seq, expected, job.trace)
            self._jobs.remove(job)
            self.jobs += 1

    def _expire(self, task: _Task, lease: ev.Lease) -> None:
        self._own(task, ev.TaskExpired(task.id, task.job.id, [lease.id], "deadline"), f"expire/{lease.id}")

    def _assign(self, task: _Task, lease: ev.Lease) -> None:
        self._own(task, ev.TaskAssigned(task.id, task.job.id, task.tile, [lease], "retry"), f"assign/{lease.id}")

    def _lie(self, task: _Task, lease: ev.Lease, wrong: str) -> None:
        """A wrong answer, found out at once; its letter; and the end of that worker."""
        self._result(task, lease, wrong)
        at, worker, job = self._next, lease.worker, task.job
        fraud = ev.FraudDetected(task.id, job.id, worker, lease.id, wrong, "audit", task.tile.row0, 2, "story")
        self._append(fraud, f"fraud/{lease.id}", None, "", job.trace)
        self.frauds += 1
        entry = f"fraud-{lease.id}"
        evidence = {
            "task": task.id, "job": job.id, "worker": worker, "name": "story", "lease": lease.id, "digest": wrong,
            "method": "audit", "row": str(task.tile.row0), "rounds": "2", "trace": job.trace,
        }  # fmt: skip
        letter = ev.DlqRecorded(entry, "fraud", fraud.subject, at, evidence)
        self._append(letter, f"dlq/{entry}", 0, subjects.of_entity("dlq", entry), job.trace)
        session = self._sessions.pop(worker)
        self._append(ev.WorkerLeft(worker, session, "dropped"), f"left/{session}")

    # -- devices ------------------------------------------------------------------------------------------------------

    def _new_worker(self) -> str:
        return ids.worker_id(self._rng.randbytes(32))

    def _join(self, worker: str) -> None:
        rng = self._rng
        session = rng.randbytes(8).hex()
        self._sessions[worker] = session
        probe = ev.Probe(10.0, 50.0, 1024, "wasm", "", rng.randbytes(32).hex(), rng.randbytes(32).hex(), 60.0)
        address = f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}"
        joined = ev.WorkerJoined(worker, session, GATEWAY, "story", address, "story", rng.randbytes(32).hex(), probe)
        self._append(joined, f"join/{session}")
        self._append(ev.WorkerTiered(worker, session, "wasm-laptop", 512, 10.0), f"tier/{session}")

    def _move(self) -> None:
        """A device that nobody waits for leaves, and is back at once."""
        busy = {worker for task in self._tasks for worker in task.workers}
        worker = self._rng.choice(self._workers)
        if worker not in busy:
            self._append(ev.WorkerLeft(worker, self._sessions[worker], "left"), f"left/{self._sessions[worker]}")
            self._join(worker)

    def _lease(self, task: _Task, attempt: int, worker: str) -> ev.Lease:
        return ev.Lease(ids.lease_id(task.id, attempt), worker, self._sessions[worker], BORN_MS * 2 + LEASE_MS)

    # -- writing ------------------------------------------------------------------------------------------------------

    def _own(self, task: _Task, event: ev.Event, msg_id: str) -> None:
        seq, task.seq = task.seq, self._next
        self._append(event, f"{msg_id}/{seq}", seq, subjects.of_entity("task", task.id), task.job.trace)

    def _append(
        self, event: ev.Event, msg_id: str, expect: int | None = None, expected: str = "", trace: str = ""
    ) -> None:
        self._out.append(Append(event, msg_id, expect, expected, trace))
        self._next += 1

    def _digest(self) -> str:
        return self._rng.randbytes(32).hex()
