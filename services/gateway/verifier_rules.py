"""What an operator may do to the registry of verification keys (shardy_common/verifiers): a command and what is known
give an event, nothing to do, or a refusal. Pure."""

from __future__ import annotations

from shardy_common import ids
from shardy_common.errors import Refused
from shardy_common.limits import K_MAX, SIDE_MAX
from shardy_common.verifiers.keys import Key
from shardy_common.verifiers.registry import (
    CIRCUITS_MAX,
    GRACE_MS_MAX,
    PERIODS_MAX,
    VERSIONS_MAX,
    Registry,
    Version,
)
from shardy_common.wire import events as ev

NAME_CHARS_MAX = 64
WHY_CHARS_MAX = 500
Shape = tuple[int, int, int]


def decide_register(
    registry: Registry,
    circuit: str,
    version: str,
    shape: Shape,
    key: Key,
    by: str,
    development: bool,
    files: ev.ProverFiles | None = None,
) -> ev.VerifierRegistered | None:
    """None: it is registered like this. key: checked (keys.py). files: in the store."""
    for name, value in (("circuit", circuit), ("version", version)):
        if not ids.is_token(value) or len(value) > NAME_CHARS_MAX:
            raise Refused(f"{name} has 1 to {NAME_CHARS_MAX} letters, digits, - and _")
    m, k, n = shape
    if not (1 <= m <= SIDE_MAX and 1 <= k <= K_MAX and 1 <= n <= SIDE_MAX):
        raise Refused(f"shape is m, k, n: sides of 1 to {SIDE_MAX}, and k of 1 to {K_MAX}")
    known = registry.versions.get(version)
    if known is not None:
        if known.keyed and _asked(known) == (circuit, shape, key.vk_hash, key.dev, files):
            return None
        raise Refused(
            f"version {version} is registered with {_differs(known, circuit, shape, key)}: choose another name",
            status=409,
            title="Version is taken",
        )
    if key.dev and not development:
        raise Refused(
            "this is a development key, whose randomness is known: anybody can forge proofs under it, so it is taken"
            " only where the mesh runs in development mode (SHARDY_DEVELOPMENT)",
            status=409,
            title="Development key",
        )
    own = registry.of(circuit)
    if not own and len(registry.circuits) >= CIRCUITS_MAX:
        raise _too_many(f"{CIRCUITS_MAX} circuits are registered", f"{CIRCUITS_MAX} circuits")
    if len(own) >= VERSIONS_MAX:
        raise _too_many(
            f"circuit {circuit} has {VERSIONS_MAX} versions: go on with a circuit of another name",
            f"{VERSIONS_MAX} versions of a circuit",
        )
    proves = registry.shape_of(circuit)
    if proves not in (None, shape):
        raise Refused(f"circuit {circuit} proves products of shape {text_of(proves)}: another shape is another circuit")
    return ev.VerifierRegistered(circuit, version, shape, key.vk, key.vk_hash, key.dev, by, files)


def decide_rotate(
    registry: Registry, circuit: str, version: str, grace_ms: int, now_ms: int, by: str, development: bool
) -> ev.VerifierRotated:
    """now_ms: by the log's clock, as the grace is counted."""
    if not 0 <= grace_ms <= GRACE_MS_MAX:
        raise Refused(f"the grace of a rotation is 0 to {GRACE_MS_MAX // 86_400_000} days", limit="30 days")
    known = _of_circuit(registry, circuit, version)
    former = registry.active.get(circuit, "")
    if known.active:
        raise Refused(f"version {version} is active already", status=409, title="Version is active")
    _may_be_active(known, development)
    if former:
        running = [period for period in registry.versions[former].periods if period.until_ms > now_ms]
        if len(running) >= PERIODS_MAX:
            raise Refused(
                f"version {former} was active {PERIODS_MAX} times whose grace still runs: wait until one has ended",
                status=409,
                title="Too many verifiers",
                limit=f"{PERIODS_MAX} graces of a version at once",
            )
    return ev.VerifierRotated(circuit, version, former, now_ms + grace_ms, by)


def decide_revoke(
    registry: Registry, version: str, successor: str, why: str, by: str, development: bool
) -> ev.VerifierRevoked | None:
    """None: it is revoked already. A successor takes the place of an active version in the same event."""
    if not 1 <= len(why.strip()) <= WHY_CHARS_MAX:
        raise Refused(f"say why, in 1 to {WHY_CHARS_MAX} characters", limit=f"why ≤ {WHY_CHARS_MAX} characters")
    known = registry.versions.get(version)
    if known is None:
        raise _no_such(version)
    if known.revoked_seq:
        return None
    if successor:
        if not known.active:
            raise Refused(
                f"version {version} is not active, so nothing takes its place: revoke it without a successor",
                status=409,
                title="Version is not active",
            )
        if successor == version:
            raise Refused("a version cannot follow itself")
        _may_be_active(_of_circuit(registry, known.circuit, successor), development)
    return ev.VerifierRevoked(known.circuit, version, successor, why.strip(), by)


def text_of(shape: Shape | None) -> str:
    """8x384x8"""
    return "x".join(map(str, shape or ()))


def _of_circuit(registry: Registry, circuit: str, version: str) -> Version:
    known = registry.versions.get(version)
    if known is None:
        raise _no_such(version)
    if known.circuit != circuit:
        raise Refused(f"version {version} is of circuit {known.circuit}, and not of {circuit[:NAME_CHARS_MAX]}")
    return known


def _may_be_active(version: Version, development: bool) -> None:
    if version.revoked_seq:
        raise Refused(
            f"version {version.version} is revoked, and stays so: register another",
            status=409,
            title="Version is revoked",
        )
    if not version.keyed:
        raise Refused(f"of version {version.version} only a digest is known: register its key under another name")
    if version.dev and not development:
        raise Refused(
            f"version {version.version} is a development key, and the mesh does not run in development mode",
            status=409,
            title="Development key",
        )


def _no_such(version: str) -> Refused:
    return Refused(f"no version {version[:NAME_CHARS_MAX]} is registered", status=404, title="No such verifier")


def _too_many(detail: str, limit: str) -> Refused:
    return Refused(detail, status=409, title="Too many verifiers", limit=limit)


def _asked(known: Version) -> tuple[str, Shape, str, bool, ev.ProverFiles | None]:
    return known.circuit, known.shape, known.vk_hash, known.dev, known.files


def _differs(known: Version, circuit: str, shape: Shape, key: Key) -> str:
    if known.circuit != circuit:
        return f"circuit {known.circuit}"
    if not known.keyed:
        return "a digest, and no key"
    if known.shape != shape:
        return f"shape {text_of(known.shape)}"
    if known.vk_hash != key.vk_hash:
        return f"another key ({known.vk_hash[:12]}…)"
    if known.dev == key.dev:
        return "this key, and other files to prove with"
    return "this key as one " + ("of development" if known.dev else "that is none of development")
