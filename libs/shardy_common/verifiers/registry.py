"""The registry of verification keys: which versions each circuit has, which is active, what is accepted. A pure fold.

At most one version of a circuit is active at any place of the log. A lease is held to the version that was active where
the lease stands in the log, whatever its decider had read by then: so no rotation can make an honest lease wrong.

What an event says is taken if it holds by what stood in the log before it, and is void otherwise. Each circuit's events
are appended with the expected last sequence of `verifier.*.<circuit>`, so of one circuit none is void; two circuits may
claim one version at once, and the log's order says whose it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from shardy_common.verifiers.keys import VK_BYTES_MAX, vk_hash_of
from shardy_common.wire import events as ev

if TYPE_CHECKING:
    from shardy_common.log import Recorded

CIRCUITS_MAX = 64
VERSIONS_MAX = 256  # of a circuit, revoked ones with them: a version's name is never free again
GRACE_MS_MAX = 30 * 86_400_000
PERIODS_MAX = 16  # of a version: times in which it was active and whose grace still runs
STATUSES = ("registered", "active", "grace", "retired", "revoked")


class Period(msgspec.Struct, frozen=True, array_like=True):
    """A version was active from since_seq on, until until_seq (0: it still is); what was leased within is accepted
    until until_ms by the log's clock."""

    since_seq: int
    until_seq: int = 0
    until_ms: int = 0

    def holds(self, lease_seq: int) -> bool:
        return self.since_seq <= lease_seq and (not self.until_seq or lease_seq < self.until_seq)


class Version(msgspec.Struct, frozen=True):
    """shape: m, k, n. keyed: its key stands in the log. seq, at_ms: of its registration. active_ms: when it last became
    active. successor, why: of its revocation. periods: by time; those whose grace ran out are left out, but the last.
    files: what workers prove with.
    """

    version: str
    circuit: str
    shape: tuple[int, int, int]
    vk_hash: str
    keyed: bool
    dev: bool
    by: str
    seq: int
    at_ms: int
    active_ms: int = 0
    periods: tuple[Period, ...] = ()
    revoked_seq: int = 0
    revoked_ms: int = 0
    successor: str = ""
    why: str = ""
    files: ev.ProverFiles | None = None

    @property
    def active(self) -> bool:
        return not self.revoked_seq and bool(self.periods) and not self.periods[-1].until_seq

    @property
    def grace_until_ms(self) -> int:
        """The end of its latest grace; 0 while it is active, or if it never was, or is revoked."""
        return 0 if self.revoked_seq or self.active else max((p.until_ms for p in self.periods), default=0)


def status_of(version: Version, now_ms: int) -> str:
    """One of STATUSES. That a grace has run out is a matter of time, and no event."""
    if version.revoked_seq:
        return "revoked"
    if version.active:
        return "active"
    if version.grace_until_ms > now_ms:
        return "grace"
    return "retired" if version.periods else "registered"


class Registry:
    """versions: by name. active: the active version by circuit. seqs: the last sequence on a circuit's subjects, void
    events with it: what the next change of the circuit expects."""

    def __init__(self) -> None:
        self.versions: dict[str, Version] = {}
        self.active: dict[str, str] = {}
        self.seqs: dict[str, int] = {}
        self._of: dict[str, list[str]] = {}  # circuit → versions, as registered

    def of(self, circuit: str) -> list[Version]:
        """The versions of a circuit, the oldest first."""
        return [self.versions[name] for name in self._of.get(circuit, ())]

    @property
    def circuits(self) -> list[str]:
        return sorted(self._of)

    def shape_of(self, circuit: str) -> tuple[int, int, int] | None:
        """The shape that the circuit proves, once it has a key."""
        return next((version.shape for version in self.of(circuit) if version.keyed), None)

    # -- what is accepted -----------------------------------------------------------------------------------------

    def pinned(self, circuit: str, lease_seq: int) -> str:
        """The version that a lease at this place of the log is held to; empty where none was active, or where its
        grace has long run out."""
        for version in self.of(circuit):
            if any(period.holds(lease_seq) for period in version.periods):
                return version.version
        return ""

    def refusal(self, name: str, lease_seq: int, now_ms: int, development: bool = False) -> str:
        """Why a proof under this version, for a lease at this place of the log, is refused; empty if it is not."""
        version = self.versions.get(name)
        if version is None:
            return f"version {name} is not registered"
        if version.revoked_seq:
            return f"version {name} is revoked"
        if version.dev and not development:
            return f"version {name} is a development key"
        period = next((period for period in version.periods if period.holds(lease_seq)), None)
        if period is None:
            return f"version {name} was not active when the lease was given"
        if period.until_seq and now_ms >= period.until_ms:
            return f"the grace of version {name} is over"
        return ""

    def accepts(self, name: str, lease_seq: int, now_ms: int, development: bool = False) -> bool:
        """Active: what was leased since it became so. Grace: what was leased before, until it ends. Revoked: nothing.

        lease_seq: where the lease stands in the log. now_ms: by the log's clock. development: whether keys whose
        randomness is known count.
        """
        return not self.refusal(name, lease_seq, now_ms, development)

    # -- the fold -------------------------------------------------------------------------------------------------

    def evolve(self, recorded: Recorded) -> set[str]:
        """Take an event of the log; the versions that it changed. Refuses nothing."""
        event = recorded.event
        self.seqs[recorded.subject.rpartition(".")[2]] = recorded.seq
        if isinstance(event, ev.VerifierRegistered):
            return self._registered(event, recorded.seq, recorded.at_ms)
        if isinstance(event, ev.VerifierRotated):
            return self._rotated(event, recorded.seq, recorded.at_ms)
        if isinstance(event, ev.VerifierRevoked):
            return self._revoked(event, recorded.seq, recorded.at_ms)
        return set()

    def keep(self, version: Version) -> None:
        """Take over a version as it is."""
        if version.version not in self.versions:
            self._of.setdefault(version.circuit, []).append(version.version)
        self.versions[version.version] = version
        if version.active:
            self.active[version.circuit] = version.version
        elif self.active.get(version.circuit) == version.version:
            del self.active[version.circuit]

    def _registered(self, event: ev.VerifierRegistered, seq: int, at_ms: int) -> set[str]:
        keyed, of = bool(event.vk), self._of.get(event.circuit)
        if event.version in self.versions or (of is None and len(self._of) >= CIRCUITS_MAX):
            return set()
        if of is not None and len(of) >= VERSIONS_MAX:
            return set()
        if keyed:
            shape = self.shape_of(event.circuit)
            if (
                len(event.vk) > VK_BYTES_MAX
                or vk_hash_of(event.vk) != event.vk_hash
                or shape not in (None, event.shape)
            ):
                return set()
        known = (event.version, event.circuit, event.shape, event.vk_hash, keyed, event.dev, event.by, seq, at_ms)
        self.keep(Version(*known, files=event.files))
        return {event.version}

    def _rotated(self, event: ev.VerifierRotated, seq: int, at_ms: int) -> set[str]:
        former = self.active.get(event.circuit, "")
        if former != event.former or former == event.version or not self.may_follow(event.circuit, event.version):
            return set()
        until_ms = min(event.grace_until_ms, at_ms + GRACE_MS_MAX)
        if former:
            self._ends(self.versions[former], seq, at_ms, until_ms)
        self._begins(self.versions[event.version], seq, at_ms)
        return {event.version, former} - {""}

    def _revoked(self, event: ev.VerifierRevoked, seq: int, at_ms: int) -> set[str]:
        version = self.versions.get(event.version)
        if version is None or version.revoked_seq or version.circuit != event.circuit:
            return set()
        successor = event.successor
        if successor and (
            not version.active or successor == event.version or not self.may_follow(event.circuit, successor)
        ):
            return set()
        periods = version.periods
        if version.active:
            periods = (*periods[:-1], Period(periods[-1].since_seq, seq))
        ended = {"revoked_seq": seq, "revoked_ms": at_ms, "successor": successor, "why": event.why}
        self.keep(replace(version, periods=periods, **ended))
        if successor:
            self._begins(self.versions[successor], seq, at_ms)
        return {event.version, successor} - {""}

    def may_follow(self, circuit: str, name: str) -> bool:
        """Whether the version can become active, whoever is now."""
        version = self.versions.get(name)
        return version is not None and version.circuit == circuit and not version.revoked_seq and version.keyed

    def _ends(self, version: Version, seq: int, at_ms: int, until_ms: int) -> None:
        last = version.periods[-1]
        self.keep(replace(version, periods=(*version.periods[:-1], Period(last.since_seq, seq, until_ms))))

    def _begins(self, version: Version, seq: int, at_ms: int) -> None:
        running = tuple(period for period in version.periods if period.until_ms > at_ms)
        self.keep(replace(version, active_ms=at_ms, periods=(*running, Period(seq))))
