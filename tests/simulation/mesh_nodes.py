"""The services of a simulated mesh: each core over its own disk, its own clock and its own connection to the log.

A node folds and commits by the services' own loop, at moments that the world chooses; it proposes over the simulated
network. Whatever it proposes is checked by what it has read.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec
from mesh_disk import SimulatedDisk
from mesh_oracle import Oracle, check

from shardy_common import kinds
from shardy_common.log import Append, Appended, Outcome, Recorded
from shardy_common.log.packs import unpack
from shardy_common.replicas import Replicas
from shardy_common.service import FoldLoop
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_dlq import evidence, letters
from shardy_gossip_bridge import directory
from shardy_matchmaker import core as matchmaker_core
from shardy_matchmaker import decide as matchmaker_decide
from shardy_quorum import core as quorum_core
from shardy_quorum.state import Findings

if TYPE_CHECKING:
    from mesh_world import Mesh

LENT_MS = 30_000  # what somebody lent before he died or lost his connection has arrived, and run out, after so long
OVERDUE_MS = 1_000  # a lease past its deadline is looked at within so long by whoever reads and decides
TICK_MS, TICK_MS_MAX = 800, 8_000

Pool = dict[str, SimulatedDisk]  # disks, wiped and used again by the next world
_taken: dict[tuple[str, ...], dict[type, bool]] = {}
_OF_A_TASK = (ev.TaskAssigned, ev.TaskExpired, ev.TaskUnresolved)


class Line:
    """A node's connection to the log. sends: what it appends arrives; answers: it hears what came of it; reads: it is
    sent events."""

    def __init__(self) -> None:
        self.sends = self.answers = self.reads = True
        self.cut_until_ms = 0


class Node:
    """A service. Its disk outlives it; its oracle has read what its core has."""

    kind = ""
    tables: Any
    version: int
    ticks = False  # whether time alone makes it do something
    knows = False  # whether it needs an oracle of its own

    def __init__(self, mesh: Mesh, name: str, pool: Pool) -> None:
        self.mesh, self.name = mesh, name
        if name not in pool:
            pool[name] = SimulatedDisk(self.tables, version=self.version)
        self.disk = pool[name]
        self.disk.wipe()
        self.disk.fails = self._disk_fails
        self.line = Line()
        self.skew_ms = 0
        self.life = 0
        self.starts: list[int] = []
        self.replicas = Replicas(name)
        self.up = True
        self.due = False
        self.full_until_ms = 0
        self.dies_after_append = self.dies_after_commit = False
        self.tick_ms = TICK_MS
        self.start()

    @property
    def now_ms(self) -> int:
        """By its own clock."""
        return self.mesh.now_ms + self.skew_ms

    def make_core(self) -> Any:
        raise NotImplementedError

    def start(self) -> None:
        """It begins from what it last committed."""
        self.up = True
        self.life += 1
        self.news_ms = self.mesh.now_ms  # when it last heard something
        self.starts.append(self.mesh.now_ms)
        self.loop = FoldLoop(self.kind, None, self.disk, self.make_core)
        self.core: Any = self.loop.core
        self.core.load(self.disk)
        self.at = self.disk.checkpoint
        filters = tuple(self.core.filters)
        if filters not in _taken:
            _taken[filters] = {t: subjects.taken(filters, t.name) for t in ev.EVENT_TYPES}
        self.takes = _taken[filters]
        self.dirty = False
        self.oracle = Oracle()
        if self.knows:
            for recorded in self.mesh.log.events[: self.at]:
                for single in unpack(recorded):
                    self.oracle.see(single)
        self.wake()

    def fall(self) -> None:
        """The process dies. Whoever supervises it starts it again; what it has sent still arrives."""
        self.up = False
        self.life += 1
        self.mesh.later(self.mesh.delay(1_500), self.start)

    def wake(self) -> None:
        if not self.due:
            self.due = True
            self.mesh.later(self.mesh.delay(self.mesh.rest_ms), self._turn)

    def _turn(self) -> None:
        self.due = False
        if self.up:
            self.step()

    def tick(self) -> None:
        """Time passed. The less happens, the more seldom it looks."""
        if self.up:
            self.step()
        self.tick_ms = min(self.tick_ms * 2, TICK_MS_MAX)
        self.mesh.later(self.mesh.delay(self.tick_ms), self.tick)

    @property
    def caught_up(self) -> bool:
        return self.at >= len(self.mesh.log.events)

    @property
    def idle(self) -> bool:
        """It has read and written down all there is."""
        return self.up and not self.dirty and self.at >= len(self.mesh.log.events)

    def take(self) -> list[Recorded]:
        events, rng = self.mesh.log.events, self.mesh.rng
        if not self.line.reads:  # the reader has heard of nothing new: it takes itself for caught up
            self.mesh.count("stalled reads", len(events) > self.at)
            return []
        end = min(self.at + rng.choice((1, 3, 20, 500)), len(events)) if self.mesh.stormy else len(events)
        takes = self.takes
        batch = [one for recorded in events[self.at : end] if takes[type(recorded.event)] for one in unpack(recorded)]
        self.at = end
        return batch

    def step(self) -> None:
        batch = self.take()
        if batch:
            self.tick_ms, self.news_ms = TICK_MS, self.mesh.now_ms
            self.loop.fold(batch)
            self.dirty = True
            if self.knows:
                for recorded in batch:
                    self.oracle.see(recorded)
            self.observe(batch)
        if self.dirty and (not self.mesh.stormy or self.mesh.rng.random() < 0.7):  # commits may lag the fold
            try:
                self.commit()
            except sqlite3.OperationalError:
                with contextlib.suppress(sqlite3.OperationalError):
                    self.commit()  # the loop writes what it has when it ends
                self.fall()
                return
            if self.dies_after_commit and not self.dirty:
                self.dies_after_commit = False
                self.mesh.count("crashes between commit and proposal")
                self.fall()
                return
        if not self.line.reads or self.caught_up:
            self.react()
        if self.dirty or (self.line.reads and not self.caught_up):
            self.wake()

    def commit(self) -> None:
        self.loop.flush()
        self.dirty = False

    def _disk_fails(self) -> bool:
        """On a full disk a small commit may still find room."""
        fails = self.mesh.now_ms < self.full_until_ms and self.mesh.rng.random() < 0.7
        self.mesh.count("commits on a full disk", fails)
        return fails

    def observe(self, batch: list[Recorded]) -> None:
        pass

    def react(self) -> None:
        pass

    def replicas_changed(self) -> None:
        self.news_ms = self.mesh.now_ms
        self.wake()

    def settled(self, item: Append, accepted: bool) -> None:
        pass

    def propose(self, items: list[Append]) -> None:
        if items:
            self.mesh.network.carry(self, items, self._answered)

    def _answered(self, item: Append, outcome: Outcome) -> None:
        self.news_ms = self.mesh.now_ms
        self.settled(item, isinstance(outcome, Appended))
        if not isinstance(outcome, Appended):
            self.wake()


class MatchmakerNode(Node):
    kind, tables, version, ticks, knows = "matchmaker", matchmaker_core.TABLES, matchmaker_core.VERSION, True, True

    def make_core(self) -> Any:
        self.under_way: set[str] = set()  # tasks of which something is proposed
        return matchmaker_core.MatchmakerCore(matchmaker_decide.Matchmaker(owns=self.replicas.owns))

    def observe(self, batch: list[Recorded]) -> None:
        """A device holds at most its limit for each matchmaker that may have lent to it at the same moment, and what
        arrived in the log after its matchmaker had given it up."""
        recent = self.mesh.now_ms - LENT_MS
        lives = self.mesh.tally["matchmakers gone for good"]
        for node in self.mesh.nodes:
            if isinstance(node, MatchmakerNode):
                lives += 1 + sum(at > recent for at in node.starts[1:]) + (node.line.cut_until_ms > recent)
        for worker in self.core.matchmaker.fold.workers.values():
            held, allowed = len(worker.leases), lives * worker.max_leases + self.mesh.network.lent_late[worker.id]
            if not worker.banned:  # what one holds that was banned since is being taken back
                check(not worker.tier or held <= allowed, worker.id, "holds", held, "leases of", allowed)
            self.mesh.held_most = max(self.mesh.held_most, held)
        for recorded in batch:
            event = recorded.event
            if isinstance(event, _OF_A_TASK):
                self.under_way.discard(event.task)

    def react(self) -> None:
        now = self.now_ms
        items = self.core.matchmaker.decide(now, self.mesh.rng)
        for item in items:
            if isinstance(item.event, _OF_A_TASK):
                self.under_way.add(item.event.task)
            self._check_lent(item.event, now)
        if self.mesh.now_ms > self.news_ms + OVERDUE_MS:
            self._check_overdue(now)
        self.propose(items)

    def _check_lent(self, event: ev.Event, now: int) -> None:
        if isinstance(event, (ev.TaskCreated, ev.TaskAssigned)):
            for lease in event.leases:
                known = self.oracle.of(lease.worker)
                check(known.rests_until() <= now, "a worker that rests gets work:", lease, known, now)
                check(not known.guilty, "a convicted worker gets work:", lease)
                check(lease.deadline_ms > now, "a lease without time:", lease, now)
        elif isinstance(event, ev.TaskExpired):
            for lease_id in event.leases:
                live = self.oracle.live.get(lease_id)
                check(live is not None, "a lease runs out that is not live:", lease_id, event)
                if event.cause == "deadline":
                    check(live is not None and live.deadline_ms < now, "a lease runs out early:", live, now)

    def _check_overdue(self, now: int) -> None:
        """What has passed its deadline is being dealt with, whatever the clock did meanwhile."""
        for lease_id, live in self.oracle.live.items():
            if live.deadline_ms >= now - OVERDUE_MS or live.task in self.under_way or not self.replicas.owns(live.job):
                continue
            check(self.mesh.explainer.is_void(live.task), "a lease is overdue, and nobody looks:", lease_id, live, now)

    def settled(self, item: Append, accepted: bool) -> None:
        self.core.matchmaker.settled(item, accepted)
        if isinstance(item.event, _OF_A_TASK) and not accepted:
            self.under_way.discard(item.event.task)


class QuorumNode(Node):
    kind, tables, version, ticks, knows = "quorum", quorum_core.TABLES, quorum_core.VERSION, True, True
    dies_amid_look = False  # once it has looked at a verified result again, before it says what it found

    def make_core(self) -> Any:
        return quorum_core.QuorumCore(self.replicas.owns, self.mesh.pacing, self.name)

    def propose(self, items: list[Append]) -> None:
        for item in items:
            if isinstance(item.event, ev.TaskVerified):
                guilty = [worker for worker in item.event.workers if self.oracle.of(worker).guilty]
                check(not guilty, "the word of a convicted worker counts:", guilty, item.event)
                check(item.event.task not in self.oracle.ended, "a verdict on what has one:", item.event)
        super().propose(items)

    def replicas_changed(self) -> None:
        self.core.quorum.review()
        self.wake()

    def react(self) -> None:
        quorum, mesh, life = self.core.quorum, self.mesh, self.life
        appends, examinations = quorum.decide(self.now_ms)
        self._check_suspects()
        self.propose(appends)
        source = quorum.canaries.wanted(self.now_ms)
        if source is not None:
            since = self.now_ms - self.oracle.prepared_ms
            check(not self.oracle.prepared_ms or since >= mesh.pacing.gap_ms, "two canaries within", since, "ms")
            draft = mesh.work.canary(source)

            def prepared() -> None:
                if self.life == life:
                    self.propose(quorum.canaries.drafted(draft))

            mesh.later(mesh.delay(300), prepared)
        for examination in examinations:
            findings = mesh.work.examine(examination, missing=mesh.happens("bytes that were missing", 0.05))
            if findings.missing and examination.spec.policy == kinds.PROOF:
                mesh.explainer.proofs.missing(examination.task, findings.missing)

            def judge(findings: Findings = findings) -> None:
                if self.life == life and self.dies_amid_look and findings.task not in quorum.tasks:
                    self.dies_amid_look = False
                    mesh.count("crashes between second look and finding")
                    self.fall()
                elif self.life == life:
                    self.propose(quorum.judge(findings))
                    self.wake()

            mesh.later(mesh.delay(200), judge)

    def _check_suspects(self) -> None:
        """A wrong result that came with no proof is being looked at until its fraud is in the log."""
        quorum = self.core.quorum
        for lease in self.mesh.explainer.proofs.frauds:
            task = quorum.tasks.get(lease.rpartition("-")[0])
            if task is None or task.id in quorum.busy or task.id in quorum.ready or not self.replicas.owns(task.job):
                continue
            check(lease not in task.unproven or lease not in task.standing(), "a suspect is looked at no more:", lease)

    def settled(self, item: Append, accepted: bool) -> None:
        self.core.quorum.settled(item, accepted)


class LettersNode(Node):
    kind, tables, version = "dlq", letters.TABLES, letters.VERSION

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
        singles = (single for recorded in self.mesh.log.events for single in unpack(recorded))
        history = [r for r in singles if getattr(r.event, "task", "") == event.evidence["task"]]
        more = evidence.of_task(history, event.seq_of)
        check(int(more["leases"]) > 0 and "tile" in more, "a task given up without a lease:", event)
        event = msgspec.structs.replace(event, evidence={**event.evidence, **more})
        return Append(event, item.msg_id, item.expect, item.expect_filter, item.trace)

    def settled(self, item: Append, accepted: bool) -> None:
        if not accepted:
            self.proposed.discard(letters.key(item.event))


class GossipNode(Node):
    kind, tables, version = "gossip-bridge", directory.TABLES, directory.VERSION

    def make_core(self) -> Any:
        return directory.Directory()
