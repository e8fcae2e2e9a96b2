"""What the API takes and shows of ceremonies."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from shardy_gateway.answer_base import Count, Digest, Ms, Next, Strict
from shardy_gateway.ceremony_rules import (
    CIRCUIT_CHARS_MAX,
    ITERATIONS_MAX,
    ITERATIONS_MIN,
    NAME_BYTES_MAX,
    WHY_CHARS_MAX,
)

Circuit = Annotated[str, Meta(pattern=f"^[A-Za-z0-9_-]{{1,{CIRCUIT_CHARS_MAX}}}$", examples=["v2-8x8x8"])]
RunNumber = Annotated[int, Meta(ge=1, examples=[1])]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{128}$", examples=["5c" * 64])]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_BYTES_MAX, examples=["Ada"])]
Value = Annotated[str, Meta(pattern="^([0-9a-f]{2}){32,255}$", examples=["7b" * 32])]
Iterations = Annotated[int, Meta(ge=ITERATIONS_MIN, le=ITERATIONS_MAX)]
KeyId = Annotated[str, Meta(description="id of a key")]
State = Literal["open", "sealed", "finished", "replaced"]
Why = Annotated[str, Meta(max_length=WHY_CHARS_MAX)]


class CeremonyRequest(Strict):
    """r1cs, zkey: blobs that are stored. ptau: BLAKE2b-512 of the powers of tau; powers: the name under which they were
    published. again: put a new run in the place of what is there."""

    circuit: Circuit
    r1cs: Digest
    ptau: Hash
    zkey: Digest
    powers: Annotated[str, Meta(pattern="^[A-Za-z0-9_.-]{0,64}$")] | None = None
    again: bool | None = False


class ContributionRequest(Strict):
    """base: the newest key, with which the contribution began; zkey: what it made of it, a stored blob. hash: by which
    the contributor knows it."""

    run: RunNumber
    name: Name
    hash: Hash
    base: Digest
    zkey: Digest


class BeaconRequest(Strict):
    """value: public randomness in hex, hashed 2^iterations times; base, zkey, hash: as of a contribution."""

    run: RunNumber
    value: Value
    hash: Hash
    base: Digest
    zkey: Digest
    iterations: Iterations | None = ITERATIONS_MIN


class CheckRequest(Strict):
    """What you found of the newest key. fault: the number of the contribution with which it goes wrong; 0 is the
    start, and one past the last the beacon."""

    run: RunNumber
    zkey: Digest
    good: bool
    fault: Count | None = 0
    why: Why | None = None


class FinishRequest(Strict):
    """vk_hash: BLAKE3 of the canonical text of the verification key, as GET /v1/verifiers has it."""

    run: RunNumber
    zkey: Digest
    vk_hash: Digest


class Contributed(Strict):
    """base: the key that it began with; zkey: what it made of it. hash: by which its contributor knows it."""

    number: Annotated[int, Meta(ge=1)]
    name: str
    hash: Hash
    base: Digest
    zkey: Digest
    by: KeyId
    at_ms: Ms


class Sealed(Strict):
    """iterations: the value is hashed 2^iterations times."""

    value: Value
    iterations: Iterations
    hash: Hash
    base: Digest
    zkey: Digest
    by: KeyId
    at_ms: Ms


class Checked(Strict):
    """The newest word of one API key. fault: as in CheckRequest; null where it is good."""

    by: KeyId
    zkey: Digest
    good: bool
    fault: int | None
    why: str | None
    at_ms: Ms


class Ceremony(Strict):
    """start: the key before anybody contributed; zkey: the newest one. powers: null where the powers of tau are none
    that were published."""

    circuit: str
    run: RunNumber
    state: State
    r1cs: Digest
    ptau: Hash
    powers: str | None
    start: Digest
    zkey: Digest
    started_by: KeyId
    started_ms: Ms
    contributions: list[Contributed]
    beacon: Sealed | None
    checks: list[Checked]
    vk_hash: Digest | None
    finished_by: KeyId | None
    finished_ms: Ms | None


class CeremonyLine(Strict):
    """The newest run of a circuit. contributions: how many there are; zkey: the newest key."""

    circuit: str
    run: RunNumber
    state: State
    contributions: Count
    zkey: Digest
    powers: str | None
    started_ms: Ms
    finished_ms: Ms | None


class CeremonyList(Strict):
    """The newest run of each circuit, by name."""

    ceremonies: list[CeremonyLine]
    next: Next


CEREMONY_SHAPES = (
    CeremonyRequest,
    ContributionRequest,
    BeaconRequest,
    CheckRequest,
    FinishRequest,
    Ceremony,
    CeremonyList,
)
