"""What the prover-verifier keeps of jobs and tasks, and what it asks of whoever has the bytes."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from shardy_common.carving import Cursor
from shardy_common.proofs.statement import Statement, Terms
from shardy_common.wire.job import JobSpec, Tile


class ProofJob(msgspec.Struct):
    """A job of policy `proof`. seq: of its submission, or of its reopening."""

    id: str
    spec: JobSpec
    trace: str
    cursor: Cursor = Cursor()


class Lent(msgspec.Struct, array_like=True):
    """A lease. seq: where it stands in the log, by which the version is found that it is held to."""

    worker: str
    seq: int


class Open(msgspec.Struct, array_like=True):
    """A challenge that waits for an answer, or for its check. proofs: the blob that was handed in. failed: why the
    worker will not prove, in its words."""

    terms: Terms
    deadline_ms: int
    proofs: str = ""
    failed: str = ""


class ProofTask(msgspec.Struct, omit_defaults=True):
    """seq: last sequence of `proof.*.<task>`. results: (worker, digest) by lease; answered: those leases in the order
    of the log, for rows keep none of a map's. settled: leases of which there will be no further proof."""

    id: str
    job: str
    tile: Tile
    seq: int = 0
    leases: dict[str, Lent] = {}
    results: dict[str, tuple[str, str]] = {}
    answered: list[str] = []
    settled: list[str] = []
    open: Open | None = None

    def next(self) -> str:
        """The lease whose result is to be proved now; empty for none."""
        return next((lease for lease in self.answered if lease not in self.settled), "")


@dataclass(frozen=True, slots=True)
class Draw:
    """Make the root of a result and draw a challenge."""

    task: str
    job: str
    spec: JobSpec
    tile: Tile
    lease: str
    worker: str
    digest: str
    version: str
    vk_hash: str


@dataclass(frozen=True, slots=True)
class Check:
    """Check the proofs that were handed in for a challenge. vk: the key's canonical text."""

    task: str
    job: str
    spec: JobSpec
    tile: Tile
    terms: Terms
    proofs: str
    vk: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """root, nonce: hex; empty with `missing`, where the result's bytes are not in the store."""

    draw: Draw
    root: str = ""
    nonce: str = ""
    tiles: int = 0
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """cause: empty where every proof holds; else wrong | missing. statements: their blob."""

    check: Check
    statements: str = ""
    cause: str = ""
    detail: str = ""


__all__ = ["Check", "Checked", "Draw", "Drawn", "Lent", "Open", "ProofJob", "ProofTask", "Statement"]
