"""Verification keys in a simulated mesh: what operators do with them at its gateways, and what must be so by the log,
told apart from the registry and written apart from it: it keeps events, and looks through all of them each time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from mesh_oracle import check

from shardy_common.errors import Refused
from shardy_common.log import Append, Appended, Outcome, Recorded
from shardy_common.proofs.signals import Circuit
from shardy_common.verifiers import (
    Key,
    Registry,
    status_of,
    vk_hash_of,
)
from shardy_common.wire import events as ev
from shardy_gateway.verifier_rules import decide_register, decide_revoke, decide_rotate
from shardy_gateway.verifiers import append_of

if TYPE_CHECKING:
    from mesh_gateway import GatewayNode
    from mesh_prover import VerifierNode
    from mesh_world import Mesh

EVENTS = (ev.VerifierRegistered, ev.VerifierRotated, ev.VerifierRevoked)
CIRCUITS = ("a", "b")
PROVED = ("v2-8x4x1", "v2-8x2x2")  # circuits that jobs are proved in: results of a few numbers have many tiles there
FILES = ev.ProverFiles("f1" * 32, 100, 200, "f2" * 32, 300, 400)
SHAPE = (8, 8, 8)
GRACES_MS = (0, 2_000, 20_000, 600_000)
TRIES = 4
Decide = Callable[[Registry], Any]


class Versions:
    """told: events that hold, with their places."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Any]] = []
        self.circuit_of: dict[str, str] = {}
        self.hashes: dict[str, str] = {}
        self.latest_ms = 0
        self.claimed_twice = 0

    def see(self, event: Any, recorded: Recorded) -> None:
        """Of one circuit, what was decided holds: each change names the last one that its decider has seen."""
        self.latest_ms = max(self.latest_ms, recorded.at_ms)
        if isinstance(event, ev.VerifierRegistered):
            owner = self.circuit_of.get(event.version)
            check(owner != event.circuit, "a version was registered twice:", event)
            if owner is not None:  # two circuits claimed it at once, and the first has it
                self.claimed_twice += 1
                return
            self.circuit_of[event.version] = event.circuit
            self.hashes[event.version] = event.vk_hash
        else:
            active = self.active(event.circuit, recorded.seq)
            check(self.circuit_of.get(event.version) == event.circuit, "a version of another circuit:", event)
            check(not self.revoked(event.version, recorded.seq), "a version that is revoked:", event)
            if isinstance(event, ev.VerifierRotated):
                check(event.former == active != event.version, "a rotation from another version:", event, active)
                follows = event.version
            else:
                check(not event.successor or event.version == active, "a successor of nothing:", event, active)
                follows = event.successor
            if follows:
                check(self.circuit_of.get(follows) == event.circuit, "another circuit's version follows:", event)
                check(not self.revoked(follows, recorded.seq), "a revoked version follows:", event)
        self.told.append((recorded.seq, event))

    def active(self, circuit: str, seq: int) -> str:
        """The version that was active behind this place of the log; empty for none."""
        found = ""
        for at, event in self.told:
            if at <= seq and event.circuit == circuit:
                if isinstance(event, ev.VerifierRotated):
                    found = event.version
                elif isinstance(event, ev.VerifierRevoked) and event.version == found:
                    found = event.successor
        return found

    def revoked(self, version: str, seq: int) -> bool:
        return any(at <= seq and isinstance(e, ev.VerifierRevoked) and e.version == version for at, e in self.told)

    def accepts(self, version: str, lease_seq: int, now_ms: int, until: int = 1 << 60) -> bool:
        """By the log up to this place."""
        if self.revoked(version, until) or self.active(self.circuit_of[version], lease_seq) != version:
            return False
        for at, event in self.told:
            if lease_seq < at <= until and isinstance(event, ev.VerifierRotated) and event.former == version:
                return bool(now_ms < event.grace_until_ms)
        return True


# -- what operators do ------------------------------------------------------------------------------------------------


def change(gateway: GatewayNode, number: int) -> None:
    """An operator registers, rotates or revokes, as the calls of the API do: by what this gateway has read so far."""
    rng, registry = gateway.mesh.rng, gateway.core.verifiers.registry
    mesh = gateway.mesh  # where one fault alone happens, those that jobs are proved in change by that
    circuit = rng.choice([c for c in mesh.circuits if c not in PROVED] if mesh.shape.only else mesh.circuits)
    known = [version.version for version in registry.of(circuit)]
    what = rng.choice(("register", "rotate", "rotate", "rotate", "revoke")) if known else "register"
    decide: Decide
    if what == "register":
        text = f'{{"number":{number}}}'
        key = Key(text, vk_hash_of(text), False)
        decide = partial(_register, circuit, f"v{rng.randrange(12)}", key)
    elif what == "rotate":
        decide = partial(_rotate, circuit, rng.choice(known), rng.choice(GRACES_MS), gateway)
    else:
        decide = partial(_revoke, rng.choice(known), rng.choice(["", *known]))
    _decided(gateway, decide, TRIES)


def _register(circuit: str, version: str, key: Key, registry: Registry) -> Any:
    shape, files = (Circuit.named(circuit), FILES) if circuit in PROVED else (None, None)
    m_k_n = (shape.m, shape.k, shape.n) if shape is not None else SHAPE
    return decide_register(registry, circuit, version, m_k_n, key, "operator", False, files)


def _rotate(circuit: str, version: str, grace_ms: int, gateway: GatewayNode, registry: Registry) -> Any:
    return decide_rotate(registry, circuit, version, grace_ms, gateway.now_ms, "operator", False)


def _revoke(version: str, successor: str, registry: Registry) -> Any:
    return decide_revoke(registry, version, successor, "leaked", "operator", False)


def _decided(gateway: GatewayNode, decide: Decide, tries: int) -> None:
    """Until the log has it, or it is refused by what others did meanwhile."""
    mesh, registry = gateway.mesh, gateway.core.verifiers.registry
    if not gateway.up or not tries:
        return
    try:
        event = decide(registry)
    except Refused:
        mesh.count("changes of verifiers refused")
        return

    def answered(_item: Append, outcome: Outcome) -> None:
        if not isinstance(outcome, Appended):
            mesh.count("changes of verifiers decided again")
            mesh.later(mesh.delay(800), lambda: _decided(gateway, decide, tries - 1))

    if event is not None:
        mesh.network.carry(gateway, [append_of(event, registry)], answered)


def found(mesh: Mesh) -> None:
    """At the beginning there are two versions of each circuit that jobs are proved in, and one of them is active."""
    for number, circuit in enumerate(PROVED):
        for version in (f"p{number}", f"q{number}"):
            mesh.record(Append(_registered(circuit, version), f"found/{version}", None))
        mesh.record(Append(ev.VerifierRotated(circuit, f"p{number}", "", 0, "operator"), f"begin/{circuit}"))


def renew(gateway: GatewayNode, circuit: str, version: str = "") -> None:
    """An operator makes another version active: a new one, or one that there is."""
    mesh = gateway.mesh
    known = [v.version for v in gateway.core.verifiers.registry.of(circuit) if not v.revoked_seq and not v.active]
    grace_ms = mesh.rng.choice(GRACES_MS)
    if known and not version:
        _decided(gateway, partial(_rotate, circuit, mesh.rng.choice(known), grace_ms, gateway), TRIES)
        return
    name = version or f"n{mesh.rng.getrandbits(32):08x}"
    _decided(gateway, partial(_register, circuit, name, _key(name)), TRIES)
    mesh.later(2_000, lambda: _decided(gateway, partial(_rotate, circuit, name, grace_ms, gateway), TRIES))


def revoke(gateway: GatewayNode, circuit: str) -> None:
    """An operator revokes the active version, with another in its place or none."""
    registry, rng = gateway.core.verifiers.registry, gateway.mesh.rng
    known = [v.version for v in registry.of(circuit) if not v.revoked_seq and not v.active]
    active = registry.active.get(circuit, "")
    if active:
        _decided(gateway, partial(_revoke, active, rng.choice(["", *known, *known])), TRIES)


def _key(name: str) -> Key:
    text = f'{{"name":"{name}"}}'
    return Key(text, vk_hash_of(text), False)


def _registered(circuit: str, version: str) -> ev.VerifierRegistered:
    event = _register(circuit, version, _key(version), Registry())
    assert isinstance(event, ev.VerifierRegistered)
    return event


# -- what must hold ---------------------------------------------------------------------------------------------------


def check_active(node: GatewayNode | VerifierNode, registry: Registry) -> None:
    """What it takes for active is what the log says as far as it has read."""
    for circuit in node.mesh.circuits:
        says, owed = registry.active.get(circuit, ""), node.mesh.explainer.versions.active(circuit, node.at)
        check(says == owed, node.name, "takes", repr(says), "for active in", circuit, "where the log says", repr(owed))


def check_verifiers(node: GatewayNode | VerifierNode, registry: Registry) -> None:
    """At the end: versions, what is accepted for every lease between their changes, and statuses that agree with it."""
    story = node.mesh.explainer.versions
    check_active(node, registry)
    known = {version.version: version.circuit for version in registry.versions.values()}
    check(known == story.circuit_of, node.name, "knows other versions:", known, "where the log has", story.circuit_of)
    leases = sorted({at + beside for at, _ in story.told for beside in (-1, 0, 1)})
    for version, circuit in known.items():
        for now_ms in (story.latest_ms + after for after in (0, 1_000, 10_000, 700_000)):
            accepted = False
            for lease in leases:
                says, owed = registry.accepts(version, lease, now_ms), story.accepts(version, lease, now_ms)
                check(says == owed, node.name, "accepts", version, lease, now_ms, says, "where the log says", owed)
                accepted = accepted or says
                pinned = registry.pinned(circuit, lease)
                check(not says or pinned == version, "a lease is held to", pinned, "and accepted under", version)
            status = status_of(registry.versions[version], now_ms)
            check(status in ("active", "grace") or not accepted, status, "and accepted:", version)
