"""What goes into the worker's state machine and what comes out of it: leases, results and instructions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shardy_client.worker import kinds
from shardy_client.worker.cache import Key
from shardy_client.worker.proving import Asked
from shardy_common.wire import merkle


class Phase(StrEnum):
    """What the worker waits for."""

    CLOSED = "closed"
    CHALLENGE = "challenge"
    PROBE = "probe"
    TIER = "tier"
    READY = "ready"


class ProtocolError(Exception):
    """The gateway sent what the protocol does not allow here; the socket closes with 4400."""


@dataclass(slots=True, frozen=True)
class Sign:
    """Answer with `authenticated(signature)`."""

    nonce: bytes
    session: str


@dataclass(slots=True, frozen=True)
class RunProbe:
    """Compute the probe and answer with `probed(…)`."""

    seed: bytes
    m: int
    n: int
    k: int
    rounds: int
    memory_mib_max: int


@dataclass(slots=True, frozen=True)
class Joined:
    """The session stands. heartbeat_s: seconds between heartbeats."""

    tier: str
    token: str
    heartbeat_s: float
    max_leases: int


@dataclass(slots=True, frozen=True)
class Fetch:
    """Get the bytes of `key`; answer with `fetched` or `fetch_failed`."""

    key: Key


@dataclass(slots=True, frozen=True)
class Upload:
    """PUT the held result of `lease`; answer with `uploaded` or `upload_failed`."""

    lease: str


@dataclass(slots=True, frozen=True)
class Prove:
    """Make the proofs that are asked for; answer with `proved` or `prove_failed`."""

    asked: Asked


@dataclass(slots=True, frozen=True)
class Bye:
    """The gateway ends the session."""

    code: int
    reason: str
    retry_s: float


Instruction = Sign | RunProbe | Joined | Fetch | Upload | Prove | Bye


class Work:
    """One lease on its way to a result. `data`: the operands' bytes, in the plan's order, once all are here."""

    __slots__ = ("data", "deadline", "dropped", "job", "kind", "lease", "missing", "plan", "seq", "task", "trace")

    def __init__(self, lease: dict[str, Any], plan: kinds.Plan, now: float, seq: int) -> None:
        self.lease: str = lease["lease"]
        self.task: str = lease["task"]
        self.job: str = lease["job"]
        self.kind: str = lease["kind"]
        self.trace: str = lease.get("trace", "")
        self.deadline: float = now + lease["deadline_ms"] / 1000
        self.plan = plan
        self.seq = seq
        self.missing = 0
        self.dropped = False
        self.data: list[kinds.Bytes] = []

    def __lt__(self, other: Work) -> bool:
        return self.seq < other.seq


class Result:
    """A computed lease until it is acknowledged. `header` is its map in a `result` frame; ms and spans are ms.

    leaf: what its place in a frame's tree holds. It is made here, where results are made, and not where frames are:
    a result that is sent again keeps it.
    """

    __slots__ = ("data", "header", "leaf", "queued", "size")

    def __init__(
        self, work: Work, data: kinds.Bytes, digest: bytes, ms: float, backend: str, spans: dict[str, float]
    ) -> None:
        self.data = data
        self.size = len(data)
        self.leaf = merkle.leaf(work.lease, digest, self.size)
        self.queued = False
        self.header: dict[str, Any] = {
            "lease": work.lease,
            "task": work.task,
            "digest": digest,
            "len": self.size,
            "s": None,
            "ms": ms,
            "backend": backend,
            "spans": spans,
        }


@dataclass(slots=True, frozen=True)
class Credit:
    """What the mesh has verified of this worker, ever: tasks, and the operations in them."""

    tasks: int
    ops: int


@dataclass(slots=True)
class Counters:
    """What happened since the worker started."""

    leases: int = 0
    computed: int = 0
    failed: int = 0
    proofs: int = 0
    cancelled: int = 0
    expired: int = 0
    frames_out: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
