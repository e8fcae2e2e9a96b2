"""The registry of verification keys, as operators see and change it."""

from __future__ import annotations

from typing import Any

from blake3 import blake3

from shardy_common.log import Append
from shardy_common.verifiers import TABLES, Registry, VerifierFold, Version, status_of
from shardy_common.verifiers.fold import FILTERS
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_gateway.side import SideFold


class Verifiers(VerifierFold, SideFold):
    tables = TABLES
    filters = FILTERS


Event = ev.VerifierRegistered | ev.VerifierRotated | ev.VerifierRevoked


def append_of(event: Event, registry: Registry) -> Append:
    """For a change that was decided by this registry: void if another change of the circuit is in the log by then."""
    circuit, seq = event.circuit, registry.seqs.get(event.circuit, 0)
    msg_id = f"verifier/{circuit}/{seq}/{blake3(ev.encode(event)).hexdigest()[:16]}"
    return Append(event, msg_id, seq, subjects.of_entity("verifier", circuit))


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
        "files": _files(version.files) if version.files is not None else None,
    }


def _files(files: ev.ProverFiles) -> dict[str, Any]:
    return {
        "zkey": {"digest": files.zkey, "unpacked": files.zkey_unpacked},
        "r1cs": {"digest": files.r1cs, "unpacked": files.r1cs_unpacked},
    }
