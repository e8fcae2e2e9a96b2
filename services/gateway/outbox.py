"""What a folded batch means for sockets and for whoever waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardy_common.wire import events as ev

if TYPE_CHECKING:
    from shardy_gateway.shapes import JobView, TaskView


class Outbox:
    """Collected while folding, acted on when the batch is folded."""

    def __init__(self) -> None:
        self.lent: list[tuple[TaskView, list[ev.Lease]]] = []
        self.dropped: list[TaskView] = []  # tasks that need no more results
        self.tiered: list[ev.WorkerTiered] = []
        self.joined: list[tuple[int, ev.WorkerJoined]] = []  # with the sequence of each
        self.challenged: list[ev.ProofChallenged] = []
        self.frauds: list[ev.FraudDetected] = []
        self.jobs: set[str] = set()
        self.ended: list[JobView] = []
