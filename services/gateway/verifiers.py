"""The registry of verification keys, as operators see and change it."""

from __future__ import annotations

from typing import Any

from shardy_common.verifiers import TABLES, Registry, VerifierFold, Version, status_of
from shardy_common.verifiers.fold import FILTERS
from shardy_gateway.side import SideFold


class Verifiers(VerifierFold, SideFold):
    tables = TABLES
    filters = FILTERS


def listed(registry: Registry, circuit: str = "") -> list[Version]:
    """By circuit, the oldest registration first."""
    circuits = [circuit] if circuit else registry.circuits
    return [version for name in circuits for version in registry.of(name)]


def shown(version: Version, now_ms: int) -> dict[str, Any]:
    """What the API says of it, but for its key. now_ms: by the log's clock."""
    return {
        "version": version.version,
        "circuit": version.circuit,
        "shape": list(version.shape),
        "status": status_of(version, now_ms),
        "vk_hash": version.vk_hash,
        "dev": version.dev,
        "registered_by": version.by or None,
        "registered_ms": version.at_ms,
        "active_ms": version.active_ms or None,
        "grace_until_ms": version.grace_until_ms or None,
        "revoked_ms": version.revoked_ms or None,
        "successor": version.successor or None,
        "why": version.why or None,
    }
