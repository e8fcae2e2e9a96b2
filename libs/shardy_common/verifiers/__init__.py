"""Which verification keys proofs are checked with, and when: the registry that gateway and prover-verifier fold."""

from shardy_common.verifiers.fold import TABLES, VerifierFold
from shardy_common.verifiers.keys import VK_BYTES_MAX, Key, checked_key, vk_hash_of
from shardy_common.verifiers.registry import (
    CIRCUITS_MAX,
    GRACE_MS_MAX,
    PERIODS_MAX,
    STATUSES,
    VERSIONS_MAX,
    Period,
    Registry,
    Version,
    status_of,
)

__all__ = [
    "CIRCUITS_MAX",
    "GRACE_MS_MAX",
    "PERIODS_MAX",
    "STATUSES",
    "TABLES",
    "VERSIONS_MAX",
    "VK_BYTES_MAX",
    "Key",
    "Period",
    "Registry",
    "VerifierFold",
    "Version",
    "checked_key",
    "status_of",
    "vk_hash_of",
]
