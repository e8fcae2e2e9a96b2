"""Events of workers, gateways, keys and dead letters."""

from __future__ import annotations

import msgspec

from shardy_common.wire.event_base import Event, KeyEvent, LetterEvent, VerifierEvent, WorkerEvent


class Probe(msgspec.Struct, frozen=True):
    """What a worker claimed and the gateway's own timing. gops in 10⁹ operations a second, memory in MiB; proves_mib:
    of it what the worker gives for proving, 0 where it proves nothing."""

    gops: float
    ms: float
    memory_mib: int
    backend: str
    gpu: str = ""
    engine: str = ""
    kernels: str = ""
    gateway_ms: float = 0.0
    proves_mib: int = 0


class WorkerJoined(WorkerEvent, frozen=True, tag="worker.joined/1"):
    """held: leases that the worker still has from an earlier session; all others of its leases are lost."""

    name = "worker.joined"
    gateway: str
    instance: str
    address: str
    agent: str
    key: str
    probe: Probe
    held: list[str] = []


class WorkerTiered(WorkerEvent, frozen=True, tag="worker.tiered/1"):
    name = "worker.tiered"
    tier: str
    max_leases: int
    gops: float


class WorkerLeft(WorkerEvent, frozen=True, tag="worker.left/1"):
    """cause: left (leases given back at once) | dropped (it may come back and bring results)."""

    name = "worker.left"
    cause: str


class GatewayStarted(Event, frozen=True, tag="gateway.started/1"):
    """Sessions of earlier instances of this gateway are gone. instance is empty where another gateway says so of one
    that nobody has replaced."""

    name = "gateway.started"
    gateway: str
    instance: str

    @property
    def entity_id(self) -> str:
        return self.gateway


class ProverFiles(msgspec.Struct, frozen=True):
    """What a prover needs, as gzip in the blob store: digests (hex BLAKE3) and sizes in bytes, packed and unpacked."""

    zkey: str
    zkey_bytes: int
    zkey_unpacked: int
    r1cs: str
    r1cs_bytes: int
    r1cs_unpacked: int


class VerifierRegistered(VerifierEvent, frozen=True, tag="verifier.registered/2"):
    """A verification key is known from here on, and not yet active. shape: m, k, n of the product that it proves.

    vk: canonical JSON text (verifiers/keys.py), 8 KiB at most; vk_hash: its BLAKE3 in hex. dev: made from randomness
    that somebody knows, so accepted in development only. vk is empty where version 1 of this event told of a digest
    alone: such a version is known, and can never be active. files: what workers prove with; without them the version
    is for proofs that are made elsewhere.
    """

    name = "verifier.registered"
    version: str
    shape: tuple[int, int, int]
    vk: str
    vk_hash: str
    dev: bool
    by: str
    files: ProverFiles | None = None


class VerifierRotated(VerifierEvent, frozen=True, tag="verifier.rotated/1"):
    """The version is active from here on. former: the one that was, empty for none; what was leased under it before
    this event is accepted until grace_until_ms."""

    name = "verifier.rotated"
    version: str
    former: str
    grace_until_ms: int
    by: str


class VerifierRevoked(VerifierEvent, frozen=True, tag="verifier.revoked/1"):
    """Nothing is accepted under the version from here on. successor: active in its place at once; empty for none."""

    name = "verifier.revoked"
    version: str
    successor: str
    why: str
    by: str


class DlqRecorded(LetterEvent, frozen=True, tag="dlq.recorded/1"):
    """A dead letter. cause: fraud | unresolved | poison | handler | max-deliveries; evidence: small map of strings."""

    name = "dlq.recorded"
    cause: str
    subject_of: str
    seq_of: int
    evidence: dict[str, str]


class DlqReplayed(LetterEvent, frozen=True, tag="dlq.replayed/1"):
    """What the letter is about was tried again, and the letter is closed. by: key id; outcome: in words."""

    name = "dlq.replayed"
    by: str
    outcome: str


class DlqDiscarded(LetterEvent, frozen=True, tag="dlq.discarded/1"):
    """Somebody looked and decided that nothing is to be done."""

    name = "dlq.discarded"
    by: str
    reason: str


class KeyIssued(KeyEvent, frozen=True, tag="key.issued/1"):
    """An API key. key: its id; hash: SHA-256 (hex) of the secret, which is kept nowhere; scopes: submit | operate.

    owner: whose jobs it sees, kept through rotations; expires_ms: 0 for never; replaces: the key that it follows.
    """

    name = "key.issued"
    hash: str
    owner: str
    scopes: list[str]
    label: str
    by: str
    expires_ms: int = 0
    replaces: str = ""


class KeyRevoked(KeyEvent, frozen=True, tag="key.revoked/1"):
    """The key ends at at_ms: at once, or after the grace of a rotation."""

    name = "key.revoked"
    by: str
    at_ms: int


class MeshKeyed(KeyEvent, frozen=True, tag="mesh.keyed/1"):
    """A public key (hex, Ed25519) that this mesh signs receipts with."""

    name = "mesh.keyed"
