"""Events of proofs: what is asked of a worker whose result is in the log, what it hands in, and what comes of that."""

from __future__ import annotations

from shardy_common.wire.event_base import TaskEvent


class ProofChallenged(TaskEvent, frozen=True, tag="proof.challenged/1"):
    """The worker has to prove some tiles of its result. digest: of that result, which was in the log before this.

    circuit, version, vk_hash: under which key. root: over the tiles of the result (proofs/tiles.py), and tiles: how
    many there are. nonce: random, hex, drawn after the result; checked: how many tiles it and the root pick out.
    deadline_ms: Unix milliseconds, by the log's clock.
    """

    name = "proof.challenged"
    lease: str
    worker: str
    digest: str
    circuit: str
    version: str
    vk_hash: str
    root: str
    nonce: str
    tiles: int
    checked: int
    deadline_ms: int


class ProofSubmitted(TaskEvent, frozen=True, tag="proof.submitted/1"):
    """What a worker handed in. proofs: blob with 256 bytes for each tile that was asked for, in rising order; ms: the
    worker's clock; backend: what it proved with."""

    name = "proof.submitted"
    lease: str
    worker: str
    proofs: str
    ms: float = 0.0
    backend: str = ""


class ProofVerified(TaskEvent, frozen=True, tag="proof.verified/1"):
    """Every tile that was asked for is proved. proofs: the blob; statements: blob with what each proof states
    (proofs/statement.py), from which anybody computes the public signals again."""

    name = "proof.verified"
    lease: str
    worker: str
    digest: str
    circuit: str
    version: str
    vk_hash: str
    root: str
    nonce: str
    tiles: int
    checked: int
    proofs: str
    statements: str


class ProofReaudited(TaskEvent, frozen=True, tag="proof.reaudited/1"):
    """A result that was verified by a proof, and whose version was revoked since, was audited by its bytes. outcome:
    right | wrong | missing (the bytes are gone); rounds: of Freivalds' check."""

    name = "proof.reaudited"
    lease: str
    version: str
    digest: str
    outcome: str
    rounds: int


class ProofRejected(TaskEvent, frozen=True, tag="proof.rejected/1"):
    """There will be no proof of this result. cause: late | failed | wrong | missing | version; detail: in words.

    That a proof is wrong does not show that the result is: the quorum looks at the bytes before anybody is blamed.
    """

    name = "proof.rejected"
    lease: str
    worker: str
    digest: str
    cause: str
    detail: str = ""
