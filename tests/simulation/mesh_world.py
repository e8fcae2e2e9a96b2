"""A whole mesh in one process, driven by one seed: services, workers, network, clocks and disks; no socket, no sleep.

Time goes from one thing that happens to the next. After a while the storm ends, and everything must come to a good end.
Each event is checked at the moment at which it enters the log.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import mesh_faults
import mesh_verifiers
from mesh_explainer import Explainer
from mesh_faults import Shape
from mesh_gateway import GatewayNode
from mesh_network import FULL, Network
from mesh_nodes import GossipNode, LettersNode, MatchmakerNode, Node, Pool, QuorumNode
from mesh_oracle import Oracle, check
from mesh_prover import VerifierNode
from mesh_work import Work
from mesh_workers import Worker

from shardy_common import kinds
from shardy_common.errors import Refused
from shardy_common.log import Append, Appended, Conflict, MemoryLog, Outcome
from shardy_common.log.packs import unpack
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec
from shardy_gateway.proving import planned
from shardy_quorum.canary import Pacing

SHARING = (MatchmakerNode, QuorumNode, VerifierNode)  # whose replicas share the work
CALM_MS_MAX = 400_000
REOPENINGS_MAX = 3
LOOK_MS = 5_000  # how often a gateway looks whether the other is there


class Mesh:
    """pool: disks that are wiped and used again by the next world."""

    def __init__(self, seed: int, shape: Shape, pool: Pool | None = None) -> None:
        pool = {} if pool is None else pool
        self.seed, self.shape, self.rng, self.now_ms = seed, shape, random.Random(seed), 1_000_000
        self.random = self.rng.random
        self.tally: Counter[str] = Counter()
        self.log_skew_ms = 0
        self.log = MemoryLog(lambda: self.now_ms + self.log_skew_ms)
        self.network = Network(self)
        self.work = Work(self.rng)
        self.oracle = Oracle()
        self.explainer = Explainer(self)
        self._events: list[tuple[int, int, Callable[[], Any]]] = []
        self._order = itertools.count()
        self.stormy = True
        self.rest_ms = self.rng.choice((200, 600, 1_200))  # how long events gather before a node reads them
        self.store_full_until_ms = self.log_full_until_ms = 0
        self.pacing = Pacing(self.rng.choice((0, 2, 5)), 3_000)
        self.held_most = 0
        self.workers: dict[str, Worker] = {}
        self.nodes: list[Node] = []
        self.revoked_amid_proof = False  # the version of the next proof that is handed in
        self.made: list[tuple[dict[str, Any], bytes]] = []  # proofs that workers made, with what was asked
        shared = shape.kind == "shared" or shape.shares
        self.gateways = [GatewayNode(self, f"gateway{i}", pool) for i in range(self.rng.choice((1, 1, 2)))]
        self.nodes += self.gateways
        self.circuits = (*mesh_verifiers.PROVED, "a") if shape.proofs else mesh_verifiers.CIRCUITS
        provers = [f"prover-verifier{i}" for i in range(self.rng.choice((1, 2, 2)) if shape.proofs else 0)]
        self.provers = [VerifierNode(self, name, pool) for name in provers or ["prover-verifier"]]
        self.nodes += [*self.provers, GossipNode(self, "gossip-bridge", pool)]
        for kind in (LettersNode, MatchmakerNode, QuorumNode):
            count = self.rng.choice((2, 3, 3) if shared and kind is not LettersNode else (1, 1, 2))
            self.nodes += [kind(self, f"{kind.kind}{i}", pool) for i in range(count)]
        self.quorums = [node for node in self.nodes if isinstance(node, QuorumNode)]
        self.pairs: list[tuple[Node, Node]] = []  # of replicas that see each other
        self.leaving: list[Node] = []  # replicas that will be gone for good, in the middle of some job
        if shared:
            self._share()
        for node in self.nodes:
            node.skew_ms = self.rng.choice((0, 0, -2_000, 300, 2_000))
            if node.ticks:
                self.later(self.delay(500), node.tick)
        if shape.proofs:
            mesh_verifiers.found(self)
        self.colluding = shape.kind != "trusting" and self.random() < 0.3
        self._people()
        for i in range(shape.jobs):
            every = 4_000 if shape.large else 3_000
            when = every * i if shape.kind == "trusting" else self.rng.randrange(shape.storm_ms // 2)
            self.later(when, partial(self.submit, i))
        for i in range(self.rng.choice((0, 1, 8))):
            self.later(self.rng.randrange(shape.storm_ms), partial(self._keys_and_versions, i))
        if len(self.gateways) > 1:
            self.later(LOOK_MS, self._look)
        mesh_faults.plan(self)

    # -- time and chance ------------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return self.stormy and self.random() < probability

    def happens(self, fault: str, probability: float) -> bool:
        if self.shape.only:  # nothing else goes wrong, so this does more often
            probability = 4 * probability if fault == self.shape.only else 0.0
        if self.stormy and self.random() < probability:
            self.tally[fault] += 1
            return True
        return False

    def count(self, fault: str, times: int = 1) -> None:
        self.tally[fault] += times

    def delay(self, mean_ms: int) -> int:
        return int(self.rng.expovariate(1 / mean_ms)) if self.stormy else mean_ms // 4

    def later(self, after_ms: int, call: Callable[[], Any]) -> None:
        heapq.heappush(self._events, (self.now_ms + after_ms, next(self._order), call))

    def run(self) -> Mesh:
        events, storm_ends = self._events, self.now_ms + self.shape.storm_ms
        ends = storm_ends + CALM_MS_MAX
        quiet_since = 0
        while True:
            at, _, call = heapq.heappop(events)
            if self.stormy and at >= storm_ends:
                self.now_ms = storm_ends
                self._calm()
            self.now_ms = max(at, self.now_ms)
            call()
            if self.stormy:
                continue
            if at >= ends:
                busy = [node.name for node in self.nodes if not node.idle]
                check(
                    False,
                    "no end:",
                    self.explainer.open_jobs(),
                    "due:",
                    list(self.explainer.due),
                    self.explainer.proofs.owed(),
                    busy,
                )
            if self.explainer.open or not self.explainer.idle() or not all(node.idle for node in self.nodes):
                quiet_since = 0
            elif not quiet_since:
                quiet_since = self.now_ms
            elif self.now_ms > quiet_since + 5_000:
                return self

    # -- the log --------------------------------------------------------------------------------------------------

    def record(self, item: Append) -> Outcome:
        """An append arrives at the log. What is new is explained before anybody reads it."""
        if self.now_ms < self.log_full_until_ms:
            self.count("appends on a full log")
            return FULL
        outcome = self.log.append_now(item)
        if isinstance(outcome, Conflict):
            self.tally["conflicts"] += 1
        elif isinstance(outcome, Appended) and not outcome.duplicate:
            recorded = self.log.events[-1]
            for single in unpack(recorded):
                self.explainer.see(single)
                self.oracle.see(single)
                self._answer(single.event)
            kind, length = type(recorded.event), len(self.log.events)
            for node in self.nodes:
                if node.takes[kind]:
                    if not node.due and node.up:
                        node.wake()
                elif node.at == length - 1:
                    node.at = length  # its reader passes over it
        return outcome

    def _answer(self, event: Any) -> None:
        """What people do when they see it: operators look at failed jobs, some of them at the same time."""
        if isinstance(event, ev.JobFailed) and self.explainer.jobs[event.job].reopenings < REOPENINGS_MAX:
            for _ in range(self.rng.choice((0, 2, 4, 6))):
                self.later(self.delay(6_000), lambda: self.gateway().reopen(event.job))
        elif isinstance(event, ev.ResultSubmitted) and self.chance(0.01):  # while its verdicts are on their way
            self.later(self.delay(200), lambda: self.gateway().cancel(event.job))
        elif isinstance(event, ev.ProofSubmitted) and self.revoked_amid_proof:
            self.revoked_amid_proof = False
            mesh_faults.revoked(self, self.explainer.proofs.of(event.lease).terms.circuit)
        elif isinstance(event, ev.DlqRecorded) and self.chance(0.08):
            self.later(self.delay(3_000), lambda: self.gateway().discard(event.entry))
        if self.leaving and isinstance(event, (ev.TaskCreated, ev.ResultSubmitted)) and self.chance(0.5):
            for node in [node for node in self.leaving if node.replicas.owns(event.job)]:
                self.leaving.remove(node)  # what comes to it to be decided from now on lies about when it is gone
                mesh_faults.cut(self, node, "both", 10_000)
                self.later(2_000 + self.delay(500), partial(self._gone, node))

    # -- who is there ---------------------------------------------------------------------------------------------

    def _people(self) -> None:
        rng = self.rng
        if self.shape.kind == "trusting":
            self._person("sleeper0", {"sleeper"})
            for i in range(2):
                self._person(f"w{i}", set(rng.sample(["vanishing", "failing", "lazy", "slow"], rng.choice((0, 1)))))
            return
        if self.colluding:
            together = "at-one-place" if rng.random() < 0.3 else ""
            for name in ("c1", "c2"):
                self._person(name, {"colluder"}, together)
        for i in range(rng.choice((0, 1, 1, 2))):
            self._person(f"liar{i}", {"liar"} | set(rng.sample(["slow", "vanishing"], rng.choice((0, 1, 2)))))
        for i in range(rng.choice((0, 0, 1))):
            self._person(f"sleeper{i}", {"sleeper"})
        for i in range(rng.choice((1, 2, 3, 4))):
            self._person(f"w{i}", set(rng.sample(["slow", "vanishing", "failing", "lazy"], rng.choice((0, 0, 1, 2)))))

    def _person(self, name: str, ways: set[str], address: str = "") -> None:
        worker = self.workers[name] = Worker(self, name, address or f"at-{name}", frozenset(ways))
        self.later(self.rng.randrange(self.shape.storm_ms // 3) if self.stormy else 0, worker.join)
        if "vanishing" in ways:
            for _ in range(self.rng.choice((1, 2, 3))):
                self.later(self.rng.randrange(self.shape.storm_ms), worker.vanish)

    def _calm(self) -> None:
        """No faults any more, all replicas see each other, and enough steady honest workers for every job. Clocks stay
        as wrong as they are."""
        self.stormy = False
        self.rest_ms = 1_200
        self.store_full_until_ms = self.log_full_until_ms = 0
        for node in self.nodes:
            node.full_until_ms, node.dies_after_append, node.dies_after_commit = 0, False, False
            mesh_faults.heal(self, node, at_once=True)
        for me, other in self.pairs:
            self._sees(me, other, True)
        for i in range(5 if self.shape.large else 4):
            self._person(f"steady{i}", set())
        if self.shape.proofs:
            self.later(1_000, self._renew)

    def _renew(self) -> None:
        """Until each circuit that jobs are proved in has an active version."""
        gateway, wanting = self.gateway(), False
        for circuit in mesh_verifiers.PROVED:
            if not self.explainer.versions.active(circuit, len(self.log.events)):
                wanting = True
                mesh_verifiers.renew(gateway, circuit)
        if wanting:
            self.later(5_000, self._renew)

    # -- replicas -------------------------------------------------------------------------------------------------

    def _share(self) -> None:
        """Each sees others come and go by itself, and at times not as it is; some are gone for good."""
        kin = [(a, b) for a in self.nodes for b in self.nodes if a is not b and type(a) is type(b)]
        self.pairs = [(a, b) for a, b in kin if isinstance(a, SHARING)]
        for me, other in self.pairs:
            self._sees(me, other, True)
        storm_ms = self.shape.storm_ms
        for _ in range(self.rng.choice((0, 0, 8))):
            me, other = self.rng.choice(self.pairs)
            self.later(self.rng.randrange(storm_ms), partial(self._sees, me, other, self.random() < 0.5))
        replicas = [node for node in self.nodes if isinstance(node, SHARING)]
        self.leaving = self.rng.sample(replicas, self.rng.choice((0, 1, 2)))

    def _sees(self, me: Node, other: Node, there: bool) -> None:
        """One replica believes from now on that another is there, or that it is not. Nobody hears one that is gone."""
        there = there and other in self.nodes
        changed = me.replicas.heard(other.name, 0.0) if there else me.replicas.left(other.name)
        if changed and me.up:
            me.replicas_changed()

    def _gone(self, node: Node) -> None:
        """A replica is gone for good, unless it is the last of its kind; the others notice a little later."""
        left = [other for other, one in self.pairs if one is node]
        if left:
            self.nodes.remove(node)
            node.start = lambda: None  # type: ignore[method-assign] - nobody starts it again
            node.fall()
            self.pairs = [pair for pair in self.pairs if node not in pair]
            self.count(f"{node.kind}s gone for good")
            for other in left:
                self.later(3_000 + self.delay(500), partial(self._sees, other, node, False))

    # -- what requesters and operators do -------------------------------------------------------------------------

    def gateway(self) -> GatewayNode:
        there = [gateway for gateway in self.gateways if gateway.up]
        return self.rng.choice(there or self.gateways)

    def submit(self, number: int) -> None:
        rng, shape = self.rng, self.shape
        policy = "adaptive" if shape.kind == "trusting" else rng.choice(("quorum", "quorum", "audit", "adaptive"))
        if shape.proofs and rng.random() < (0.8 if shape.kind == "proving" else 0.4):
            policy = kinds.PROOF
        redundancy = 3 if self.colluding else rng.choice((2, 2, 3))
        spec = self.work.job(shape.rows_max, shape.cols_max, policy, redundancy)
        self._planned(number, spec)

    def _planned(self, number: int, spec: JobSpec) -> None:
        """As the gateway plans it. Who is refused for now asks again later."""
        rng, gateway = self.rng, self.gateway()
        try:
            spec = planned(spec, gateway.core.verifiers.registry)
        except Refused:
            self.count("jobs that no circuit proved for now")
            self.later(4_000, partial(self._planned, number, spec))
            return
        job_id = f"j{number:016d}"
        owner = f"requester{number % 2}"
        submitted = Append(ev.JobSubmitted(job_id, spec, owner, f"idem{number}", "body"), f"submit/{job_id}", 0)
        self._submit(submitted)
        if rng.random() < 0.04:
            self.later(self.delay(3_000), lambda: self.gateway().cancel(job_id))

    def _submit(self, item: Append) -> None:
        """Until the log has it: who hears nothing asks again, of another gateway perhaps."""
        if item.event.entity_id not in self.explainer.jobs:
            gateway = self.gateway()
            if gateway.up:
                gateway.propose([item])
            self.later(4_000 + self.delay(1_000), partial(self._submit, item))

    def _keys_and_versions(self, number: int) -> None:
        gateway = self.gateway()
        if gateway.up:
            gateway.change_keys(number)
            if self.random() < 0.5:  # somebody else has something in mind too
                self.later(self.delay(1_200), partial(self.gateway().change_keys, 1_000 + number))
        for another in (0, 1):  # two of them, at about the same time
            self.later(self.delay(400), partial(self._verifiers, 2 * number + another))
        self.record(Append(ev.MeshKeyed(f"{number % 2:064x}"), f"mesh-key/{number % 2}", 0))

    def _verifiers(self, number: int) -> None:
        gateway = self.gateway()
        if gateway.up:
            mesh_verifiers.change(gateway, number)

    def _look(self) -> None:
        for gateway in self.gateways:
            for other in self.gateways:
                if other is not gateway:
                    gateway.look_for(other)
        self.later(LOOK_MS, self._look)
