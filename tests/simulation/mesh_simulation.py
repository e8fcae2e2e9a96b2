"""A whole mesh in one process, driven by one seed: services, workers, network and crashes; no clock, no socket.

The services' pure cores run as they do in production: read a batch, fold, commit rows with the checkpoint, propose.
Everything between them may go wrong: proposals are delayed, lost, or recorded with the answer lost; frames to and
from workers are dropped, repeated and overtaken; workers lie, collude, dawdle, fail, vanish and come back; a service
dies at any moment and goes on from what it last committed; operators, two at once at times, replay the letters of jobs
that failed. Where replicas share the work, each sees others come and go by itself, wrongly at times. After a while the
storm ends, and everything must come to a good end. What is right is computed apart, with NumPy, from the operands.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from blake3 import blake3
from mesh_oracle import Oracle

from shardy_common import kinds
from shardy_common.log import Append, Appended, MemoryLog, Projection, Recorded
from shardy_common.log import memory as memory_log
from shardy_common.replicas import Replicas
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_common.wire.job import JobSpec, Operand, Pre, Tile
from shardy_dlq import evidence, letters
from shardy_gateway import replays, views
from shardy_matchmaker import core as matchmaker_core
from shardy_matchmaker import decide as matchmaker_decide
from shardy_quorum import core as quorum_core
from shardy_quorum.canary import REQUESTER, Draft, Pacing
from shardy_quorum.state import Examination, Findings

STORM_MS = 60_000
CALM_MS_MAX = 400_000
STEP_MS = 400
REOPENINGS_MAX = 3
LEASES_MAX = 3  # of a worker, where replicas share the work: few, so that the limit is met
IN_FLIGHT_MS = 10_000  # what a matchmaker proposed before it died has arrived after so long


class BrokenInvariant(AssertionError):
    """What the mesh promised did not hold."""


def check(holds: bool, *says: Any) -> None:
    if not holds:
        raise BrokenInvariant(" ".join(map(str, says)))


# -- services ---------------------------------------------------------------------------------------------------------


class Node:
    """A service: a core over its own projection, which outlives it."""

    tables: Any
    version: int

    def __init__(self, mesh: Mesh, name: str, pool: dict[str, Projection]) -> None:
        self.mesh, self.name = mesh, name
        if name not in pool:
            pool[name] = Projection(":memory:", self.tables, version=self.version)
        self.projection = pool[name]
        empty(self.projection)
        self.life = 0
        self.starts: list[int] = []
        self.replicas = Replicas(name)
        self.start()

    def make_core(self) -> Any:
        raise NotImplementedError

    def start(self) -> None:
        self.life += 1
        self.starts.append(self.mesh.now_ms)
        self.core = self.make_core()
        self.core.load(self.projection)
        self.reader = memory_log.MemoryReader(self.mesh.log, self.core.filters, self.projection.checkpoint)
        self.live = False
        self.uncommitted = 0
        self.oracle = Oracle()
        for recorded in self.mesh.log.events[: self.projection.checkpoint]:
            self.oracle.see(recorded)

    def step(self) -> None:
        rng = self.mesh.rng
        batch = self.reader.take(rng.choice((1, 3, 20, 500)))
        for recorded in batch:
            self.core.evolve(recorded)
            self.oracle.see(recorded)
        if batch:
            self.uncommitted = batch[-1].seq
            self.observe(batch)
        if self.uncommitted and rng.random() < 0.8:  # commits may lag the fold
            self.commit()
        self.live = self.live or self.reader.caught_up
        if self.live:
            self.react()

    def commit(self) -> None:
        if self.uncommitted:
            self.projection.commit(self.core.rows(), self.uncommitted)
            self.uncommitted = 0

    def observe(self, batch: list[Recorded]) -> None:
        pass

    def react(self) -> None:
        pass

    def replicas_changed(self) -> None:
        pass

    def settled(self, item: Append, accepted: bool) -> None:
        pass

    def propose(self, items: list[Append]) -> None:
        """As a pipeline over one connection: in order, and each item's fate is its own."""
        mesh, life = self.mesh, self.life
        delay = mesh.delay(40)
        for item in items:
            lost, deaf = mesh.chance(0.04), mesh.chance(0.04)

            def arrive(item: Append = item, lost: bool = lost, deaf: bool = deaf) -> None:
                accepted = not lost and isinstance(mesh.log.append_now(item), Appended)

                def answer() -> None:
                    if self.life == life:
                        self.settled(item, accepted and not deaf)

                mesh.later(mesh.delay(3000 if lost or deaf else 30), answer)

            mesh.later(delay, arrive)


class MatchmakerNode(Node):
    tables, version = matchmaker_core.TABLES, matchmaker_core.VERSION

    def make_core(self) -> Any:
        return matchmaker_core.MatchmakerCore(matchmaker_decide.Matchmaker(owns=self.replicas.owns))

    def observe(self, batch: list[Recorded]) -> None:
        """A device holds at most its limit for each matchmaker that may have lent to it at the same moment."""
        recent = self.mesh.now_ms - IN_FLIGHT_MS
        nodes = [node for node in self.mesh.nodes if isinstance(node, MatchmakerNode)]
        lives = sum(1 + sum(at > recent for at in node.starts[1:]) for node in nodes)
        for worker in self.core.matchmaker.fold.workers.values():
            held, allowed = len(worker.leases), lives * worker.max_leases
            if not worker.banned:  # what one holds that was banned since is being taken back
                check(not worker.tier or held <= allowed, worker.id, "holds", held, "leases of", allowed)
            self.mesh.held_most = max(self.mesh.held_most, held)

    def react(self) -> None:
        items = self.core.matchmaker.decide(self.mesh.now_ms, self.mesh.rng)
        for item in items:
            for lease in getattr(item.event, "leases", ()) if not isinstance(item.event, ev.TaskExpired) else ():
                rests = self.oracle.of(lease.worker).rests_until()
                check(rests <= self.mesh.now_ms, "a worker that rests gets work:", lease, rests)
        self.propose(items)

    def settled(self, item: Append, accepted: bool) -> None:
        self.core.matchmaker.settled(item, accepted)


class QuorumNode(Node):
    tables, version = quorum_core.TABLES, quorum_core.VERSION

    def make_core(self) -> Any:
        return quorum_core.QuorumCore(self.replicas.owns, self.mesh.pacing, self.name)

    def propose(self, items: list[Append]) -> None:
        for item in items:
            if isinstance(item.event, ev.TaskVerified):
                guilty = [worker for worker in item.event.workers if self.oracle.of(worker).guilty]
                check(not guilty, "the word of a convicted worker counts:", guilty, item.event)
        super().propose(items)

    def replicas_changed(self) -> None:
        self.core.quorum.review()

    def react(self) -> None:
        appends, examinations = self.core.quorum.decide(self.mesh.now_ms)
        self.propose(appends)
        life = self.life
        source = self.core.quorum.canaries.wanted(self.mesh.now_ms)
        if source is not None:
            draft = self.mesh.canary(source)

            def prepared() -> None:
                if self.life == life:
                    self.propose(self.core.quorum.canaries.drafted(draft))

            self.mesh.later(self.mesh.delay(300), prepared)
        for examination in examinations:
            findings = self.mesh.examine(examination)

            def judge(findings: Findings = findings) -> None:
                if self.life == life:
                    self.propose(self.core.quorum.judge(findings))

            self.mesh.later(self.mesh.delay(200), judge)

    def settled(self, item: Append, accepted: bool) -> None:
        self.core.quorum.settled(item, accepted)


class LettersNode(Node):
    tables, version = letters.TABLES, letters.VERSION

    def make_core(self) -> Any:
        self.proposed: set[str] = set()
        return letters.Letters()

    def react(self) -> None:
        self.proposed.intersection_update(self.core.wanted)
        fresh = [name for name in self.core.wanted if name not in self.proposed]
        self.proposed.update(fresh)
        self.propose([self._completed(self.core.wanted[name]) for name in fresh])

    def _completed(self, item: Append) -> Append:
        event = item.event
        if not isinstance(event, ev.DlqRecorded) or event.cause != "unresolved":
            return item
        more = evidence.of_task(
            [r for r in self.mesh.log.events if getattr(r.event, "task", "") == event.evidence["task"]], event.seq_of
        )
        check(int(more["leases"]) > 0 and "tile" in more, "a task given up without a lease:", event)
        event = msgspec.structs.replace(event, evidence={**event.evidence, **more})
        return Append(event, item.msg_id, item.expect, item.expect_filter, item.trace)

    def settled(self, item: Append, accepted: bool) -> None:
        if not accepted:
            self.proposed.discard(letters.key(item.event))


class GatewayNode(Node):
    """Views, and what the hub does with them: leases out, results in."""

    tables, version = views.TABLES, views.VERSION

    def make_core(self) -> Any:
        return views.Views()

    def observe(self, batch: list[Recorded]) -> None:
        for task, leases in self.core.take_outbox().lent:
            for lease in leases:
                worker = self.mesh.workers.get(lease.worker)
                job = self.core.jobs.get(task.job)
                if worker is not None and worker.session == lease.session and job is not None:
                    for _ in range(1 + self.mesh.chance(0.05)):
                        if not self.mesh.chance(0.04):
                            self.mesh.later(self.mesh.delay(60), lambda w=worker, t=task, i=lease.id: w.lent(t, i))

    def result(self, worker: Worker, lease_id: str, data: bytes, ms: float) -> bool:
        """Whether the worker may forget the result: recorded, or not wanted."""
        task_id = lease_id.rpartition("-")[0]
        task = self.core.tasks.get(task_id)
        if task is None:
            self.commit()
            return self.core.task_state(task_id) == "ended"
        if task.leases.get(lease_id) != worker.id:
            return True
        job = self.core.jobs[task.job]
        if len(data) != kinds.KINDS[job.spec.kind].result_bytes(job.spec, task.tile.rows, task.tile.cols):
            return True
        digest = blake3(data).hexdigest()
        self.mesh.blobs[digest] = data
        event = ev.ResultSubmitted(task_id, task.job, lease_id, worker.id, digest, len(data), ms, "wasm")
        return isinstance(self.mesh.log.append_now(Append(event, f"result/{lease_id}")), Appended)

    def failed(self, worker: Worker, lease_id: str) -> None:
        task = self.core.tasks.get(lease_id.rpartition("-")[0])
        if task is not None and task.leases.get(lease_id) == worker.id:
            event = ev.ResultFailed(task.id, task.job, lease_id, worker.id, "oom", "")
            self.mesh.log.append_now(Append(event, f"failed/{lease_id}"))

    def reopen(self, job_id: str) -> None:
        """As an operator's replay of the job's newest open letter, by what this gateway has read so far."""
        self.commit()
        job = self.core.job(job_id)
        found = [x for x in self.core.letters.page(100, None, "unresolved", "open") if x.evidence["job"] == job_id]
        if job is None or job.state != "failed" or not found or job.spec.policy == kinds.CANARY:
            return
        tag = lambda: self.mesh.rng.randrange(2**24)  # noqa: E731 - the seed's, not the module's
        event = replays.reopening(job, self.core.tasks_in(job_id), found[0].entry, "operator", tag)
        only = subjects.of_entity("job", job_id)
        self.propose([Append(event, f"reopen/{event.entry}/{job.seq}", job.seq, only)])


def empty(projection: Projection) -> None:
    for table in projection.tables:
        projection.connection.execute(f"DELETE FROM {table}")
    projection.connection.execute("UPDATE _meta SET checkpoint = 0")


# -- workers ----------------------------------------------------------------------------------------------------------


@dataclass
class Worker:
    """ways: liar | colluder | sleeper | slow | lazy | vanishing | failing, in any mixture; none: honest and steady.

    A sleeper is right until it is trusted, and then lies now and then.
    """

    mesh: Mesh
    id: str
    address: str
    ways: frozenset[str]
    session: str = ""
    held: dict[str, Any] = field(default_factory=dict)
    present: bool = False
    joins: int = 0

    @property
    def honest(self) -> bool:
        return not self.ways & {"liar", "colluder", "sleeper"}

    def lies_now(self) -> bool:
        if "sleeper" not in self.ways:
            return not self.honest
        known = self.mesh.oracle.of(self.id)
        return known.may_be_trusted_with(1) and self.mesh.rng.random() < 0.5

    def join(self) -> None:
        self.joins += 1
        self.session = f"s{self.joins}-{self.id}"
        self.present = True
        if self.mesh.chance(0.3):
            self.held.clear()  # the page was loaded anew
        probe = ev.Probe(self.mesh.rng.choice((5.0, 20.0, 60.0)), 1.0, 1024, "wasm", gateway_ms=1.0)
        event = ev.WorkerJoined(
            self.id, self.session, "g", "i", self.address, f"agent {self.id}", "k", probe, list(self.held)
        )
        self.mesh.log.append_now(Append(event, f"join/{self.session}"))
        for lease_id, task in list(self.held.items()):
            self.mesh.later(self.mesh.delay(100), lambda t=task, i=lease_id: self.work(t, i))

    def vanish(self) -> None:
        if not self.present:
            return
        self.present = False
        session, cause = self.session, "dropped" if self.mesh.rng.random() < 0.8 else "left"
        if cause == "left":
            self.held.clear()
        left = ev.WorkerLeft(self.id, session, cause)
        self.mesh.later(self.mesh.delay(2000), lambda: self.mesh.log.append_now(Append(left, f"left/{session}")))
        self.mesh.later(self.mesh.delay(25_000), self.join)

    def lent(self, task: Any, lease_id: str) -> None:
        if self.present and lease_id not in self.held:
            self.held[lease_id] = task
            pause = self.mesh.rng.choice((200, 13_000, 25_000)) if "slow" in self.ways and self.mesh.stormy else 100
            self.mesh.later(self.mesh.delay(pause), lambda: self.work(task, lease_id))

    def work(self, task: Any, lease_id: str) -> None:
        if not self.present or lease_id not in self.held:
            return
        if "failing" in self.ways and self.mesh.chance(0.5):
            self.held.pop(lease_id)
            self.mesh.gateway.failed(self, lease_id)
            return
        if "lazy" in self.ways and self.mesh.chance(0.6):
            self.held.pop(lease_id)  # it takes work and never says a word about it
            return
        data = self.mesh.right_bytes(task.job, task.tile)
        if self.lies_now():
            secret = "together" if "colluder" in self.ways else self.id
            data = self.mesh.wrong_bytes(task.job, task.tile, secret)
        self.send(lease_id, data)

    def send(self, lease_id: str, data: bytes) -> None:
        """Until it is acknowledged, as often as it takes."""
        if not self.present or lease_id not in self.held:
            return
        for _ in range(1 + self.mesh.chance(0.1)):
            if not self.mesh.chance(0.1):
                self.mesh.later(self.mesh.delay(80), lambda: self.arrives(lease_id, data))
        self.mesh.later(3000 + self.mesh.delay(500), lambda: self.send(lease_id, data))

    def arrives(self, lease_id: str, data: bytes) -> None:
        if self.mesh.gateway.result(self, lease_id, data, float(self.mesh.rng.choice((0.2, 30.0, 900.0)))):
            self.held.pop(lease_id, None)


# -- the mesh ---------------------------------------------------------------------------------------------------------


class Mesh:
    """pool: projections that are emptied and used again by the next seed. shared: replicas share the work; otherwise
    each of them takes all of it for its own. trusting: job after job of policy adaptive, and few liars, so that much
    is lent on trust."""

    def __init__(
        self, seed: int, pool: dict[str, Projection] | None = None, *, shared: bool = False, trusting: bool = False
    ) -> None:
        pool = {} if pool is None else pool
        self.seed, self.rng, self.now_ms = seed, random.Random(seed), 1_000_000
        self.trusting = trusting
        self.log = MemoryLog(lambda: self.now_ms)
        self.events: list[tuple[int, int, Callable[[], Any]]] = []
        self.order = itertools.count()
        self.stormy = True
        self.blobs: dict[str, bytes] = {}
        self.operands: dict[str, np.ndarray] = {}
        self.specs: dict[str, JobSpec] = {}  # of all jobs in the log, canaries too
        self.drafts: dict[str, JobSpec] = {}
        self.oracle = Oracle()
        self.pacing = Pacing(self.rng.choice((0, 2, 5)), 3_000)
        self.rights: dict[tuple[str, Tile], bytes] = {}
        self.workers: dict[str, Worker] = {}
        self.checked = 0
        self.ended_tasks: set[str] = set()
        self.ended_jobs: set[str] = set()
        self.reopenings: dict[str, int] = {}
        self.ended_ms = 0
        self.held_most = 0
        self.gateway = GatewayNode(self, "gateway", pool)
        self.nodes: list[Node] = [self.gateway, LettersNode(self, "letters", pool)]
        for i in range(self.rng.choice((2, 3) if shared else (1, 1, 2))):
            self.nodes.append(MatchmakerNode(self, f"matchmaker{i}", pool))
        for i in range(self.rng.choice((2, 3) if shared else (1, 1, 2))):
            self.nodes.append(QuorumNode(self, f"quorum{i}", pool))
        kin = [(a, b) for a in self.nodes for b in self.nodes if a is not b and type(a) is type(b)]
        self.pairs = kin if shared else []  # of replicas that see each other
        for me, other in self.pairs:
            self._sees(me, other, True)
        if shared and seed % 2:  # each sees others go and come by itself, and not as it is
            for _ in range(self.rng.choice((1, 4, 20))):
                me, other = self.rng.choice(self.pairs)
                there = self.rng.random() < 0.5
                self.later(self.rng.randrange(STORM_MS), lambda m=me, o=other, t=there: self._sees(m, o, t))
            for node in self.rng.sample(self.nodes[2:], self.rng.choice((0, 1, 2))):
                self.later(self.rng.randrange(STORM_MS // 2), lambda node=node: self._falls(node))
        self.colluding = not trusting and self.rng.random() < 0.3
        self._people()
        for i in range(12 if trusting else self.rng.choice((1, 2, 3))):
            when = 4_000 * i if trusting else self.rng.randrange(STORM_MS // 2)
            self.later(when, lambda i=i: self.submit(i))
        for node in self.nodes:
            self.later(self.delay(100), lambda node=node: self._turn(node))

    def chance(self, probability: float) -> bool:
        return self.stormy and self.rng.random() < probability

    def delay(self, mean_ms: int) -> int:
        return int(self.rng.expovariate(1 / mean_ms)) if self.stormy else mean_ms // 4

    def later(self, after_ms: int, call: Callable[[], Any]) -> None:
        heapq.heappush(self.events, (self.now_ms + after_ms, next(self.order), call))

    def run(self) -> Mesh:
        storm_ends = self.now_ms + STORM_MS
        ends = storm_ends + CALM_MS_MAX
        while True:
            at, _, call = heapq.heappop(self.events)
            if self.stormy and at >= storm_ends:
                self._calm()
            check(at < ends, "no end:", sorted(set(self.specs) - self.ended_jobs), "or somebody lags")
            self.now_ms = at
            call()
            self._check_new()
            if not self.stormy and self._quiet():
                break
        self._check_end()
        return self

    def _quiet(self) -> bool:
        """All jobs ended a while ago, and everybody has read and written down all of it."""
        if len(self.specs) > len(self.ended_jobs):
            self.ended_ms = 0
            return False
        self.ended_ms = self.ended_ms or self.now_ms
        read = all(node.reader.caught_up and not node.uncommitted for node in self.nodes)
        return read and self.now_ms > self.ended_ms + 20_000

    def _turn(self, node: Node) -> None:
        if node not in self.nodes:
            return
        if self.chance(0.006):
            node.start()  # it died after whatever it did last, and begins from what it had committed
        else:
            node.step()
        self.later(self.delay(STEP_MS), lambda: self._turn(node))

    def _people(self) -> None:
        rng = self.rng
        if self.trusting:
            self._person("sleeper0", {"sleeper"})
            for i in range(2):
                self._person(f"w{i}", set(rng.sample(["vanishing", "failing", "lazy", "slow"], rng.choice((0, 1)))))
            return
        if self.colluding:
            for name in ("c1", "c2"):
                self._person(name, {"colluder"})
        for i in range(rng.choice((0, 1, 1, 2))):
            self._person(f"liar{i}", {"liar"} | set(rng.sample(["slow", "vanishing"], rng.choice((0, 1, 2)))))
        for i in range(rng.choice((0, 0, 1))):
            self._person(f"sleeper{i}", {"sleeper"})
        for i in range(rng.choice((1, 2, 3, 4))):
            self._person(f"w{i}", set(rng.sample(["slow", "vanishing", "failing", "lazy"], rng.choice((0, 0, 1, 2)))))

    def _person(self, name: str, ways: set[str], address: str = "") -> None:
        worker = self.workers[name] = Worker(self, name, address or f"at-{name}", frozenset(ways))
        self.later(self.rng.randrange(20_000) if self.stormy else 0, worker.join)
        if "vanishing" in ways:
            for _ in range(self.rng.choice((1, 2, 3))):
                self.later(self.rng.randrange(STORM_MS), worker.vanish)

    def _sees(self, me: Node, other: Node, there: bool) -> None:
        """One replica believes from now on that another is there, or that it is not. Nobody hears one that is gone."""
        there = there and other in self.nodes
        if me.replicas.heard(other.name, 0.0) if there else me.replicas.left(other.name):
            me.replicas_changed()

    def _falls(self, node: Node) -> None:
        """A replica is gone for good, unless it is the last of its kind; the others notice a little later."""
        left = [other for other, one in self.pairs if one is node]
        if left:
            self.nodes.remove(node)
            self.pairs = [pair for pair in self.pairs if node not in pair]
            for other in left:
                self.later(3_000 + self.delay(500), lambda other=other: self._sees(other, node, False))

    def _calm(self) -> None:
        """No faults any more, all replicas see each other, and enough steady honest workers for every job."""
        self.stormy = False
        for me, other in self.pairs:
            self._sees(me, other, True)
        for i in range(5):
            self._person(f"steady{i}", set())

    # -- jobs -----------------------------------------------------------------------------------------------------

    def submit(self, number: int) -> None:
        rng = self.rng
        job_id = f"j{number:016d}"
        policy = "adaptive" if self.trusting else rng.choice(("quorum", "quorum", "audit", "adaptive", "adaptive"))
        redundancy = 3 if self.colluding else rng.choice((2, 2, 3))
        if rng.random() < 0.3:
            x = self._operand(rng.randrange(1, 24), rng.randrange(1, 6), "float32")
            pre = Pre(-2.0, 2.0, segment_rows=1)
            policy = "quorum" if policy == "audit" else policy
            spec = JobSpec("stream", {"x": x}, policy, redundancy, pre=pre, task_rows=rng.randrange(1, 6))
        else:
            k = rng.randrange(1, 5)
            a, b = self._operand(rng.randrange(1, 24), k, "int8"), self._operand(rng.randrange(1, 8), k, "int8")
            spec = JobSpec("matmul", {"a": a, "b": b}, policy, redundancy, task_rows=rng.randrange(1, 6))
        self.specs[job_id] = kinds.checked(spec)
        event = ev.JobSubmitted(job_id, self.specs[job_id], "requester")
        self.log.append_now(Append(event, f"submit/{job_id}", 0))
        if rng.random() < 0.08:
            cancelled = Append(ev.JobCancelled(job_id, "requester"), f"cancel/{job_id}")
            self.later(self.delay(15_000), lambda: job_id in self.ended_jobs or self.log.append_now(cancelled))

    def canary(self, source: JobSpec) -> Draft:
        """As the quorum's preparer makes it, of rows of the simulated operands."""
        job_id = f"j{len(self.drafts):08d}{self.rng.getrandbits(32):08x}"
        operands = {}
        for name, operand in source.operands.items():
            rows = self.operands[operand.digest]
            picked = rows[sorted(self.rng.sample(range(len(rows)), self.rng.randint(1, len(rows))))]
            digest = blake3(picked.tobytes() + bytes([len(self.operands) % 256])).hexdigest()
            self.operands[digest] = picked
            operands[name] = Operand(digest, operand.dtype, *picked.shape)
        spec = self.drafts[job_id] = JobSpec(source.kind, operands, kinds.CANARY, pre=source.pre)
        right = self.right_bytes(job_id, Tile(0, kinds.KINDS[spec.kind].shape(spec)[0], 0, _columns(spec)))
        return Draft(job_id, spec, blake3(right).hexdigest())

    def _operand(self, rows: int, cols: int, dtype: str) -> Operand:
        source = np.random.default_rng(self.rng.randrange(2**32))
        array = source.integers(-128, 128, (rows, cols)).astype(dtype)
        if dtype == "float32":
            array /= np.float32(60)
        digest = blake3(array.tobytes() + bytes([len(self.operands)])).hexdigest()
        self.operands[digest] = array
        return Operand(digest, dtype, rows, cols)

    def right_bytes(self, job_id: str, tile: Tile) -> bytes:
        known = self.rights.get((job_id, tile))
        if known is None:
            spec = self.specs.get(job_id) or self.drafts[job_id]
            rows, cols = slice(tile.row0, tile.row0 + tile.rows), slice(tile.col0, tile.col0 + tile.cols)
            if spec.kind == "matmul":
                a, b = (self.operands[spec.operands[name].digest].astype(np.int64) for name in "ab")
                known = (a[rows] @ b[cols].T).astype("<i4").tobytes()
            else:  # any fixed function of the rows will do: the simulated audit compares bytes
                x = np.clip(self.operands[spec.operands["x"].digest][rows], -2, 2)
                known = np.abs(x).max(1).astype("<f4").tobytes() + np.rint(x * 60).astype("i1").tobytes()
            self.rights[job_id, tile] = known
        return known

    def right_digest(self, event: ev.TaskVerified) -> str:
        return blake3(self.right_bytes(event.job, event.tile)).hexdigest()

    def wrong_bytes(self, job_id: str, tile: Tile, secret: str) -> bytes:
        data = bytearray(self.right_bytes(job_id, tile))
        at = random.Random(f"{secret}{job_id}{tile}").randrange(len(data))
        data[at] ^= 1 + sum(secret.encode()) % 200  # each liar its own change
        return bytes(data)

    def examine(self, request: Examination) -> Findings:
        """What the auditor would find, from the bytes themselves."""
        found = Findings(request.task)
        right = self.right_bytes(request.job, request.tile)
        if self.chance(0.05):
            found.missing.extend(request.digests)
            return found
        data = {digest: self.blobs[digest] for digest in request.digests}
        if request.purpose != "compare":
            for digest, claimed in data.items():
                if claimed == right:
                    found.right.append(digest)
                else:
                    found.wrong[digest] = 0
            return found
        tile = request.tile

        def row(of: bytes, i: int) -> bytes:
            at = 4 * tile.rows + i * tile.cols
            return of[4 * i : 4 * i + 4] + of[at : at + tile.cols]

        first = request.digests[0]
        for other in request.digests[1:]:
            if first in found.wrong:
                break
            at = next(i for i in range(tile.rows) if row(data[first], i) != row(data[other], i))
            for digest in (first, other):
                if row(data[digest], at) != row(right, at):
                    found.wrong[digest] = at
        left = [digest for digest in request.digests if digest not in found.wrong]
        if len(left) == 1:
            found.right.append(left[0])
        return found

    def _operators(self, job_id: str) -> None:
        """They look at the queue now and then, and some of them at the same time."""
        if self.reopenings.get(job_id, 0) < REOPENINGS_MAX:
            for _ in range(self.rng.choice((0, 2, 4, 6))):
                self.later(self.delay(6_000), lambda: self.gateway.reopen(job_id))

    # -- what must hold -------------------------------------------------------------------------------------------

    def _check_new(self) -> None:
        """After every step: no verdict twice, none that is wrong but on trust, within what that may cost; nobody honest
        accused; canaries prepared before they are lent, and not more often than they may be."""
        for recorded in self.log.events[self.checked :]:
            event = recorded.event
            if isinstance(event, ev.CanaryPrepared) and self.oracle.canaries:
                gap = recorded.at_ms - self.oracle.canaries[-1]
                check(gap >= self.pacing.gap_ms, "two canaries within", gap, "ms:", event)
            if isinstance(event, ev.JobSubmitted) and event.requester == REQUESTER:
                check(event.job in self.oracle.prepared, "a canary whose answer nobody wrote down:", event)
                self.specs[event.job] = event.spec
            if isinstance(event, ev.TaskVerified) and event.method == "trust" and event.job not in self.ended_jobs:
                (worker,) = event.workers
                known = self.oracle.of(worker)
                check(known.may_be_trusted_with(event.ops), "more on trust than it has earned:", event, known)
            self.oracle.see(recorded)
            if isinstance(event, (ev.TaskVerified, ev.TaskUnresolved)):
                check(event.task not in self.ended_tasks, "a second verdict on", event.task)
                self.ended_tasks.add(event.task)
            if isinstance(event, ev.TaskVerified):
                right = self.right_digest(event)
                check(event.digest == right or event.method == "trust", "a wrong result was verified:", event)
                steady_liars = [w for w in event.workers if self.workers[w].ways & {"liar", "colluder"}]
                check(not steady_liars, "a liar was credited:", event)
                check(len(set(event.workers)) == len(event.workers), "a worker voted twice:", event)
            elif isinstance(event, ev.FraudDetected):
                check(not self.workers[event.worker].honest, "an honest worker was accused:", event)
                if event.expected:
                    spec = self.specs[event.job]
                    tile = Tile(0, kinds.KINDS[spec.kind].shape(spec)[0], 0, _columns(spec))
                    right = blake3(self.right_bytes(event.job, tile)).hexdigest()
                    check(event.expected == right, "a fraud with wrong evidence:", event)
            elif isinstance(event, (ev.JobCompleted, ev.JobFailed, ev.JobCancelled)):
                check(event.job not in self.ended_jobs, "a second end:", event)
                self.ended_jobs.add(event.job)
                if isinstance(event, ev.JobFailed):
                    self._operators(event.job)
            elif isinstance(event, ev.JobReopened):
                check(event.job in self.ended_jobs, "a job went on that had not ended:", event)
                self.ended_jobs.discard(event.job)
                self.ended_ms = 0
                self.reopenings[event.job] = self.reopenings.get(event.job, 0) + 1
            elif isinstance(event, ev.TaskAssigned):
                check(len({lease.id for lease in event.leases}) == len(event.leases), "one lease twice:", event)
        self.checked = len(self.log.events)

    def _check_end(self) -> None:
        events = [recorded.event for recorded in self.log.events]
        for job_id, spec in self.specs.items():
            ends = [e for e in events if isinstance(e, (ev.JobCompleted, ev.JobFailed, ev.JobCancelled))]
            ends = [e for e in ends if e.job == job_id]
            check(len(ends) == 1 + self.reopenings.get(job_id, 0), "not one end for each beginning:", job_id, ends)
            check(all(isinstance(e, ev.JobFailed) for e in ends[:-1]), "what had not failed went on:", job_id, ends)
            if isinstance(ends[-1], ev.JobCompleted):
                cover = self._cover(job_id, spec)
                check(bool((cover == 1).all()), "the tiles do not cover the result once:", job_id, cover)
            if any(isinstance(e, ev.JobFailed) for e in ends):
                unresolved = [e for e in events if isinstance(e, ev.TaskUnresolved) and e.job == job_id]
                check(bool(unresolved), "a job failed without a reason:", ends)
        frauds = {f"fraud-{e.lease}" for e in events if isinstance(e, ev.FraudDetected)}
        written = [e.entry for e in events if isinstance(e, ev.DlqRecorded)]
        check(len(set(written)) == len(written), "a dead letter twice")
        check(frauds <= set(written), "a fraud without a dead letter:", frauds - set(written))
        given_up = {f"task-{e.task}" for e in events if isinstance(e, ev.TaskUnresolved)}
        check(given_up <= set(written), "a task given up without a dead letter:", given_up - set(written))
        closed = [e.entry for e in events if isinstance(e, (ev.DlqReplayed, ev.DlqDiscarded))]
        check(len(set(closed)) == len(closed), "a dead letter was closed twice")
        answered = {e.entry for e in events if isinstance(e, ev.JobReopened)}
        check(answered <= set(closed), "a job went on and its letter is open:", answered - set(closed))
        for node in self.nodes:
            fresh = node.make_core()
            for recorded in self.log.events:
                if any(memory_log._matches(f.split("."), recorded.subject) for f in fresh.filters):
                    fresh.evolve(recorded)
            replayed = {table: {row[0]: tuple(row) for row in rows} for table, rows in fresh.rows().items()}
            for table in node.projection.tables:
                live = {row[0]: row for row in node.projection.rows(f"SELECT * FROM {table}")}
                check(live == replayed.get(table, {}), node.name, table, "is not what a replay gives")

    def _cover(self, job_id: str, spec: JobSpec) -> np.ndarray:
        """How often each cell was verified. A verdict on a task that its failed job left behind counts for nothing: the
        tile was made a task again."""
        cover = np.zeros(kinds.KINDS[spec.kind].shape(spec), int)
        alive: set[str] = set()
        for e in (r.event for r in self.log.events if getattr(r.event, "job", "") == job_id):
            if isinstance(e, ev.TaskCreated):
                alive.add(e.task)
            elif isinstance(e, ev.JobFailed):
                alive.clear()
            elif isinstance(e, ev.JobReopened):
                alive = {task for task, _ in e.tasks}
            elif isinstance(e, ev.TaskVerified) and e.task in alive:
                cover[e.tile.row0 : e.tile.row0 + e.tile.rows, e.tile.col0 : e.tile.col0 + e.tile.cols] += 1
        return cover


def _columns(spec: JobSpec) -> int:
    return kinds.KINDS[spec.kind].shape(spec)[1]


def random_tile(spec: JobSpec, row0: int, col0: int, band_cols: int, _device: Any, _sharers: int) -> Tile:
    """In place of the chunker: any tile that the carving rule takes, so that there are bands of columns even here."""
    rows, cols = kinds.KINDS[spec.kind].shape(spec)
    quantum = kinds.KINDS[spec.kind].col_quantum(spec)
    wide = band_cols or (cols - col0 if quantum == 0 else min(cols - col0, 1 + (7 * row0 + 5 * col0 + rows) % 4))
    return Tile(row0, min(rows - row0, 1 + (3 * row0 + col0 + rows) % 5), col0, wide)
