"""Transcripts of ceremonies: who contributed to a circuit's keys, in which order, and what came of it. A pure fold.

Each step names the key that it builds on, and holds only if that is the run's newest: so the steps of a run make one
chain. Nobody here looks into a key. Whether a contribution is what it says is for whoever verifies the run to find out,
and everything needed for that stands in the transcript.

What an event says is taken if it holds by what stood in the log before it, and is void otherwise. Each circuit's events
are appended with the expected last sequence of `ceremony.*.<circuit>`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from shardy_common.wire import events as ev

if TYPE_CHECKING:
    from shardy_common.log import Recorded

CIRCUITS_MAX = 64
RUNS_MAX = 256  # of a circuit
CONTRIBUTIONS_MIN = 3  # before the beacon, as circuits/ceremony.mjs demands too
CONTRIBUTIONS_MAX = 128  # of a run
CHECKS_MAX = 64  # of a run: the newest of each key
STATES = ("open", "sealed", "finished", "replaced")


class Contribution(msgspec.Struct, frozen=True, array_like=True):
    """number: from 1. base, zkey: the key that it began with, and what it made of it."""

    number: int
    contributor: str
    hash: str
    base: str
    zkey: str
    by: str
    at_ms: int


class Beacon(msgspec.Struct, frozen=True, array_like=True):
    """value: hex; hashed 2^iterations times."""

    value: str
    iterations: int
    hash: str
    base: str
    zkey: str
    by: str
    at_ms: int


class Check(msgspec.Struct, frozen=True, array_like=True):
    """What a key (by) found of the run's key `zkey`. fault: where it goes wrong (CeremonyVerified)."""

    by: str
    zkey: str
    good: bool
    fault: int
    why: str
    at_ms: int


class Run(msgspec.Struct, frozen=True):
    """One try. zkey: the key before anybody contributed. replaced: a later run has taken its place."""

    circuit: str
    run: int
    r1cs: str
    ptau: str
    powers: str
    zkey: str
    by: str
    at_ms: int
    contributions: tuple[Contribution, ...] = ()
    beacon: Beacon | None = None
    checks: tuple[Check, ...] = ()
    vk_hash: str = ""
    finished_ms: int = 0
    finished_by: str = ""
    replaced: bool = False

    @property
    def head(self) -> str:
        """The newest key: what the next step builds on."""
        if self.beacon is not None:
            return self.beacon.zkey
        return self.contributions[-1].zkey if self.contributions else self.zkey

    @property
    def state(self) -> str:
        """One of STATES."""
        if self.finished_ms:
            return "finished"
        if self.replaced:
            return "replaced"
        return "open" if self.beacon is None else "sealed"

    def check_of(self, key: str) -> Check | None:
        """What this API key found of the newest key."""
        return next((check for check in self.checks if check.by == key and check.zkey == self.head), None)


class Ceremonies:
    """current: the newest run of each circuit. seqs: the last sequence on a circuit's subjects, void events with it."""

    def __init__(self) -> None:
        self.current: dict[str, Run] = {}
        self.seqs: dict[str, int] = {}

    def evolve(self, recorded: Recorded) -> list[Run]:
        """Take an event of the log; the runs as they are after it, where it changed any. Refuses nothing."""
        event = recorded.event
        self.seqs[recorded.subject.rpartition(".")[2]] = recorded.seq
        if isinstance(event, ev.CeremonyStarted):
            return self._started(event, recorded.at_ms)
        known = self.current.get(getattr(event, "circuit", ""))
        if known is None or known.run != getattr(event, "run", 0):
            return []
        changed = _after(known, event, recorded.at_ms)
        if changed is None:
            return []
        self.current[changed.circuit] = changed
        return [changed]

    def _started(self, event: ev.CeremonyStarted, at_ms: int) -> list[Run]:
        former = self.current.get(event.circuit)
        if event.run != (former.run if former else 0) + 1 or event.run > RUNS_MAX:
            return []
        if former is None and len(self.current) >= CIRCUITS_MAX:
            return []
        known = (event.circuit, event.run, event.r1cs, event.ptau, event.powers, event.zkey, event.by, at_ms)
        self.current[event.circuit] = begun = Run(*known)
        return [begun] if former is None else [replace(former, replaced=True), begun]


def _after(run: Run, event: object, at_ms: int) -> Run | None:
    """The run after an event of its own; None where the event does not hold."""
    if isinstance(event, ev.CeremonyVerified):
        if event.zkey != run.head:
            return None
        check = Check(event.by, event.zkey, event.good, event.fault, event.why, at_ms)
        others = tuple(known for known in run.checks if known.by != event.by)
        return replace(run, checks=(*others, check)[-CHECKS_MAX:])
    if isinstance(event, ev.CeremonyFinished):
        if run.state != "sealed" or event.zkey != run.head:
            return None
        return replace(run, vk_hash=event.vk_hash, finished_ms=at_ms, finished_by=event.by)
    if run.state != "open" or getattr(event, "base", "") != run.head:
        return None
    if isinstance(event, ev.CeremonyContributed):
        number = len(run.contributions) + 1
        if event.number != number or number > CONTRIBUTIONS_MAX:
            return None
        step = (event.number, event.contributor, event.hash, event.base, event.zkey, event.by, at_ms)
        return replace(run, contributions=(*run.contributions, Contribution(*step)))
    if isinstance(event, ev.CeremonySealed):
        last = (event.beacon, event.iterations, event.hash, event.base, event.zkey, event.by, at_ms)
        return replace(run, beacon=Beacon(*last))
    return None
