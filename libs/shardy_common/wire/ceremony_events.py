"""Events of ceremonies: how keys came about whose randomness nobody holds (docs/ceremony.md).

A run is one try of a circuit's ceremony, counted from 1; a later one takes the place of what was before it. r1cs and
zkey are BLAKE3 digests (hex) of blobs. hash: the 64 bytes (hex) by which a contribution is known, as its contributor
saw it. by: the id of an API key.
"""

from __future__ import annotations

from shardy_common.wire.event_base import CeremonyEvent


class CeremonyStarted(CeremonyEvent, frozen=True, tag="ceremony.started/1"):
    """The key before anybody contributed. ptau: BLAKE2b-512 (hex) of the powers of tau that it was made from; powers:
    under which name these were published, empty where they are not known."""

    name = "ceremony.started"
    r1cs: str
    ptau: str
    powers: str
    zkey: str
    by: str


class CeremonyContributed(CeremonyEvent, frozen=True, tag="ceremony.contributed/1"):
    """Contribution `number`, from 1: it made the key `zkey` from `base`. contributor: the name that it was given."""

    name = "ceremony.contributed"
    number: int
    contributor: str
    hash: str
    base: str
    zkey: str
    by: str


class CeremonySealed(CeremonyEvent, frozen=True, tag="ceremony.sealed/1"):
    """The last step: public randomness, beacon (hex), hashed 2^iterations times, made `zkey` from `base`."""

    name = "ceremony.sealed"
    beacon: str
    iterations: int
    hash: str
    base: str
    zkey: str
    by: str


class CeremonyVerified(CeremonyEvent, frozen=True, tag="ceremony.verified/1"):
    """Somebody checked the key and what led to it. fault: where good is false, the number of the contribution with
    which it goes wrong: 0 is the start, and one past the last the beacon."""

    name = "ceremony.verified"
    zkey: str
    good: bool
    fault: int
    why: str
    by: str


class CeremonyFinished(CeremonyEvent, frozen=True, tag="ceremony.finished/1"):
    """The sealed key is the one to prove with. vk_hash: of its verification key, as `verifier.registered` has it."""

    name = "ceremony.finished"
    zkey: str
    vk_hash: str
    by: str
