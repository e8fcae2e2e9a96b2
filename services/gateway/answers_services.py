"""What the API shows of services: their replicas, and how far each has folded the log."""

from __future__ import annotations

from shardy_gateway.answer_base import Count, Strict


class Build(Strict):
    """done, of: events of the log; seconds_left: null while nothing is known."""

    done: Count
    of: Count
    per_s: Count
    seconds_left: float | None


class Skipped(Strict):
    """An event that a replica does without. entry: its dead letter; error: in words; version: of the program."""

    seq: Count
    entry: str
    error: str
    version: str


class Standing(Strict):
    """An event that a replica is trying to fold again."""

    seq: Count
    subject: str
    tries: Count
    error: str


class ServiceStatus(Strict):
    """lag_events: unread events of the log; lag_ms: age of the last one folded, 0 when none is unread.

    checkpoint: last event whose rows are written; snapshot_checkpoint: of the newest snapshot, 0 without one.
    build: how far it is, at a start or in a rebuild.
    """

    service: str
    instance: str
    replicas: list[str]
    host: str
    live: bool
    checkpoint: Count
    log_last: Count
    lag_events: Count
    lag_ms: Count
    snapshot_checkpoint: Count
    build: Build | None
    skipped: list[Skipped]
    standing: Standing | None
    folded: Count
    appended: Count
    conflicts: Count
    poisoned: Count
    in_flight: Count


class Service(Strict):
    """No replicas: none answers."""

    name: str
    replicas: list[ServiceStatus]


class ServiceList(Strict):
    """Every service, and how far each of its replicas is."""

    services: list[Service]
