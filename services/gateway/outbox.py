"""What the gateway's fold tells its sockets and waiters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardy_common.wire import events as ev

if TYPE_CHECKING:
    from shardy_gateway.views import JobView, TaskView


class Outbox:
    """What a batch means for sockets and waiters: collected while folding, acted on when it is folded."""

    def __init__(self) -> None:
        self.lent: list[tuple[TaskView, list[ev.Lease]]] = []
        self.dropped: list[TaskView] = []  # tasks that need no more results
        self.tiered: list[ev.WorkerTiered] = []
        self.joined: list[tuple[int, ev.WorkerJoined]] = []  # with the sequence of each
        self.frauds: list[ev.FraudDetected] = []
        self.jobs: set[str] = set()
        self.ended: list[JobView] = []
