"""What the API takes and shows of verification keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from shardy_common import limits
from shardy_common.verifiers import GRACE_MS_MAX, VK_BYTES_MAX
from shardy_gateway.answer_base import Digest, Ms, Next, Strict
from shardy_gateway.verifier_rules import NAME_CHARS_MAX, WHY_CHARS_MAX

Name = Annotated[str, Meta(pattern=f"^[A-Za-z0-9_-]{{1,{NAME_CHARS_MAX}}}$", examples=["v1"])]
Shape = Annotated[list[int], Meta(min_length=3, max_length=3, description="m, k, n", examples=[[8, 384, 8]])]
Why = Annotated[str, Meta(min_length=1, max_length=WHY_CHARS_MAX, examples=["its ceremony was broken"])]


class ProofRequest(Strict):
    """For policy proof. circuit: in which to prove, else the active one that costs least; tiles: how many of each
    task's tiles are proved."""

    circuit: Annotated[str, Meta(max_length=64, examples=["v2-32x32x32"])] = ""
    tiles: Annotated[int, Meta(ge=1, le=limits.PROOF_TILES_MAX)] = limits.PROOF_TILES


class PackedFile(Strict):
    """A gzip file in the store. digest: of the packed bytes; unpacked: how many bytes it has before packing."""

    digest: Digest
    unpacked: Annotated[int, Meta(ge=1)]


class ProverFiles(Strict):
    """What workers prove with."""

    zkey: PackedFile
    r1cs: PackedFile


class VerifierRequest(Strict):
    """vk: as snarkjs writes it (Groth16 on bn128). dev: its randomness is known; true as well where the key says so.
    files: for workers; without them nobody is asked for proofs under this version."""

    circuit: Annotated[str, Meta(pattern=f"^[A-Za-z0-9_-]{{1,{NAME_CHARS_MAX}}}$", examples=["product-8x384x8"])]
    version: Name
    shape: Shape
    vk: dict[str, Any]
    dev: bool | None = False
    files: ProverFiles | None = None


class Verifier(Strict):
    """status: grace until grace_until_ms, and retired then. active_ms: when it last became active."""

    version: Name
    circuit: str
    shape: Shape
    status: Literal["registered", "active", "grace", "retired", "revoked"]
    vk_hash: Digest
    dev: bool
    registered_by: Annotated[str, Meta(description="id of a key")] | None
    registered_ms: Ms
    active_ms: Ms | None
    grace_until_ms: Ms | None
    revoked_ms: Ms | None
    successor: str | None
    why: str | None
    files: ProverFiles | None


class OneVerifier(Verifier):
    """vk: canonical JSON text, whose BLAKE3 is vk_hash; null where only a digest was ever told."""

    vk: Annotated[str, Meta(max_length=VK_BYTES_MAX)] | None


class VerifierList(Strict):
    """By circuit, the oldest first."""

    verifiers: list[Verifier]
    next: Next


class RotationRequest(Strict):
    """grace_s: how long what was leased before under the former version is still accepted."""

    circuit: Annotated[str, Meta(examples=["product-8x384x8"])]
    version: Name
    grace_s: Annotated[int, Meta(ge=0, le=GRACE_MS_MAX // 1000)] | None = 600


class Rotation(Strict):
    """former: the version that was active, and is accepted until grace_until_ms."""

    circuit: str
    version: Name
    former: str | None
    grace_until_ms: Ms | None


class RevocationRequest(Strict):
    """successor: takes the place of an active version at once."""

    version: Name
    why: Why
    successor: str | None = None
