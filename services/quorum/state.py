"""What the quorum keeps of jobs and tasks, and what it asks of the auditor and hears from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from shardy_common.carving import Cursor
from shardy_common.wire.job import JobSpec, Tile


class QuorumJob(msgspec.Struct):
    id: str
    spec: JobSpec
    trace: str
    cursor: Cursor = Cursor()


class Vote(msgspec.Struct, array_like=True):
    worker: str
    digest: str
    size: int


class QuorumTask(msgspec.Struct, omit_defaults=True):
    """seq: last sequence of the task's own events. asked: answers that make a lack of agreement a dispute.

    leases: worker by lease; votes: by lease; condemned: leases whose result was proven wrong; silenced: leases of
    workers that were proven wrong elsewhere, or whose result will not be proved; unproven: leases for which something
    came that is no proof; proofs: leases whose result is proved, with the version, in the order of the log. lone: it
    was given to one worker on trust, and nobody else has it; missed: a lease of it ended without an answer.
    """

    id: str
    job: str
    tile: Tile
    seq: int
    asked: int
    leases: dict[str, str] = {}
    votes: dict[str, Vote] = {}
    condemned: list[str] = []
    silenced: list[str] = []
    unproven: list[str] = []
    proofs: list[tuple[str, str]] = []
    lone: bool = False
    missed: bool = False

    def standing(self) -> dict[str, str]:
        """Digest by lease of the votes that are not proven wrong, of workers that never were."""
        if not self.condemned and not self.silenced:
            return {lease: vote.digest for lease, vote in self.votes.items()}
        out = {*self.condemned, *self.silenced}
        return {lease: vote.digest for lease, vote in self.votes.items() if lease not in out}


@dataclass(frozen=True, slots=True)
class Examination:
    """Look at the bytes. purpose: audit (Freivalds on each digest), compare (recompute where two results differ) or
    recompute (all of the tile, for a canary that has no audit)."""

    task: str
    job: str
    spec: JobSpec
    tile: Tile
    digests: tuple[str, ...]
    purpose: str


@dataclass(slots=True)
class Findings:
    """wrong: digest → a wrong row of the tile, for results proven wrong; right: digests that passed.

    missing: digests whose bytes could not be read, so nothing was decided about them.
    """

    task: str
    wrong: dict[str, int] = field(default_factory=dict)
    right: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
