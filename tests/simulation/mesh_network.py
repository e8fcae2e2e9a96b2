"""What lies between the nodes of a simulated mesh: appends and their answers, frames to and from workers.

Appends of one proposal arrive in order unless one is held up; each may be lost, repeated, or recorded with the answer
lost. Whoever gets no answer in time takes the outcome for unknown, while what it sent may still arrive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from mesh_oracle import check

from shardy_common.log import Append, Appended, Outcome
from shardy_common.log.packs import pack, unpack
from shardy_common.log.types import Unknown
from shardy_common.wire import events as ev

if TYPE_CHECKING:
    from mesh_nodes import Node
    from mesh_world import Mesh

TIMEOUT_MS = 3_000
LATE_MS_MAX = 8_000
FULL = Unknown("10047: maximum bytes exceeded")
SILENCE = Unknown("no answer from the log in time")
Answered = Callable[[Append, Outcome], None]


class Network:
    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._recorded: set[tuple[str, int, str]] = set()
        self.lent_late: Counter[str] = Counter()  # leases by worker that came when nobody expected them any more

    def frame(self, mean_ms: int, call: Callable[[], Any]) -> None:
        """One between a gateway and a worker: late, lost, or there twice."""
        mesh = self.mesh
        if mesh.happens("frames lost", 0.05):
            return
        for _ in range(1 + mesh.happens("frames repeated", 0.06)):
            mesh.later(mesh.delay(mean_ms), call)

    def carry(self, node: Node, events: list[Append], answered: Answered) -> None:
        """As the log's client does: what fits goes in one message. answered: for each event."""
        items, which = pack(events)
        inside: dict[int, list[Append]] = {}
        for event, number in zip(events, which, strict=True):
            inside.setdefault(id(items[number]), []).append(event)
        self.mesh.count("tasks in messages of many", sum(len(some) for some in inside.values() if len(some) > 1))

        def for_each(item: Append, outcome: Outcome) -> None:
            for event in inside[id(item)]:
                answered(event, outcome)

        self._carry(node, items, for_each)

    def _carry(self, node: Node, items: list[Append], answered: Answered) -> None:
        mesh = self.mesh
        delay = mesh.delay(30)
        for item in items:
            late = mesh.rng.randrange(500, LATE_MS_MAX) if mesh.happens("appends overtaken", 0.02) else 0
            lost = mesh.happens("appends lost", 0.02)
            if not node.line.sends:
                mesh.count("appends cut off")
                lost = True
            if late > TIMEOUT_MS or lost:
                self._answer(node, item, SILENCE, TIMEOUT_MS, answered)
            if not lost:
                known = answered if late <= TIMEOUT_MS else None
                mesh.later(delay + late, partial(self._arrives, node, node.life, item, known))

    def _arrives(self, node: Node, life: int, item: Append, answered: Answered | None) -> None:
        mesh = self.mesh
        outcome = mesh.record(item)
        if isinstance(outcome, Appended) and not outcome.duplicate:
            self._look_at(node, life, answered is None)
        if mesh.happens("appends repeated", 0.04):
            mesh.later(mesh.delay(400), partial(mesh.record, item))
        if node.life != life:
            return
        if node.dies_after_append and isinstance(outcome, Appended):
            node.dies_after_append = False
            mesh.count("crashes between append and answer")
            node.fall()
        elif answered is not None:
            deaf = mesh.happens("answers lost", 0.02)
            if not node.line.answers:
                mesh.count("answers cut off")
                deaf = True
            self._answer(node, item, *((SILENCE, TIMEOUT_MS) if deaf else (outcome, mesh.delay(25))), answered)

    def _look_at(self, node: Node, life: int, late: bool) -> None:
        """A gateway records a result once; two may both record it. late: the proposer had given it up, and has lent the
        same room again, perhaps."""
        for single in unpack(self.mesh.log.events[-1]):
            event = single.event
            if isinstance(event, ev.ResultSubmitted):
                once = (node.name, life, event.lease)
                check(once not in self._recorded, "a gateway records a result twice:", event)
                self._recorded.add(once)
            elif late and isinstance(event, (ev.TaskCreated, ev.TaskAssigned)):
                self.lent_late.update(lease.worker for lease in event.leases)

    def _answer(self, node: Node, item: Append, outcome: Outcome, after_ms: int, answered: Answered) -> None:
        life = node.life
        self.mesh.later(after_ms, lambda: node.life == life and answered(item, outcome))
