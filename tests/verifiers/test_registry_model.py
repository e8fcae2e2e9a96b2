"""The registry against a slow model that keeps nothing and reads the whole log for each question, over random
histories; and what a restart at any moment loses of it: nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from made_keys import made_key

from shardy_common.errors import Refused
from shardy_common.log import Append, MemoryLog, Projection, Recorded
from shardy_common.verifiers import (
    TABLES,
    VerifierFold,
    status_of,
)
from shardy_common.wire import events as ev
from shardy_gateway.verifier_rules import decide_register, decide_revoke, decide_rotate

CIRCUITS = ("a", "b")
VERSIONS = tuple(f"v{number}" for number in range(4))
STEPS = st.tuples(
    st.sampled_from(["register", "rotate", "rotate", "rotate", "revoke", "void", "lease", "lease"]),
    st.sampled_from(CIRCUITS),
    st.sampled_from(VERSIONS),
    st.sampled_from(["", *VERSIONS]),
    st.sampled_from([0, 1, 50, 1_000, 10_000]),  # grace
    st.sampled_from([0, 1, 40, 700, 20_000]),  # time until then
)


class SlowModel:
    """told: events that hold, with their place and time."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, Any]] = []

    def active(self, circuit: str, seq: int) -> str:
        """The version that was active behind the event at seq."""
        found = ""
        for at, _, event in self.told:
            if at <= seq and event.circuit == circuit:
                if isinstance(event, ev.VerifierRotated):
                    found = event.version
                elif isinstance(event, ev.VerifierRevoked) and event.version == found:
                    found = event.successor
        return found

    def accepts(self, version: str, lease_seq: int, now_ms: int) -> bool:
        of = [event.circuit for _, _, event in self.told if event.version == version]
        if not of or any(isinstance(e, ev.VerifierRevoked) and e.version == version for _, _, e in self.told):
            return False
        if self.active(of[0], lease_seq) != version:
            return False
        for at, _, event in self.told:
            if at > lease_seq and isinstance(event, ev.VerifierRotated) and event.former == version:
                return bool(now_ms < event.grace_until_ms)
        return True

    def status(self, version: str, now_ms: int) -> str:
        mine = [event for _, _, event in self.told if event.version == version]
        if any(isinstance(event, ev.VerifierRevoked) for event in mine):
            return "revoked"
        if self.active(mine[0].circuit, 1 << 60) == version:
            return "active"
        graces = [
            event.grace_until_ms
            for _, _, event in self.told
            if isinstance(event, ev.VerifierRotated) and event.former == version
        ]
        return "registered" if not graces else "grace" if max(graces) > now_ms else "retired"


class World:
    def __init__(self) -> None:
        self.now = 1_000_000
        self.log = MemoryLog(lambda: self.now)
        self.model, self.leases = SlowModel(), list[int]()
        self.projection = Projection(":memory:", TABLES, version=1)
        self.fold = self.loaded()

    def loaded(self) -> VerifierFold:
        fold = VerifierFold()
        fold.load(self.projection)
        return fold

    def step(self, what: str, circuit: str, version: str, other: str, grace: int, later: int) -> None:
        self.now += later
        registry = self.fold.registry
        event: Any = None
        try:
            if what == "register":
                key = made_key(VERSIONS.index(version))
                event = decide_register(registry, circuit, version, (2, 3, 4), key, "op", False)
            elif what == "rotate":
                event = decide_rotate(registry, circuit, version, grace, self.now, "op", False)
            elif what == "revoke":
                event = decide_revoke(registry, version, other, "why", "op", False)
        except Refused:
            return
        if what == "void":
            event = self._void(circuit, version)
            assert not self._append(event), event
        elif what == "lease":  # any event of the mesh takes a place of the log
            self.log.append_now(Append(ev.GatewayStarted("g", f"{len(self.log.events)}"), f"{len(self.log.events)}"))
            self.leases.append(len(self.log.events))
        elif event is not None:
            assert self._append(event), ("an event that was decided does not hold", event)
            self.model.told.append((len(self.log.events), self.now, event))

    def _append(self, event: Any) -> bool:
        versions = dict(self.fold.registry.versions)
        self.log.append_now(Append(event, f"{len(self.log.events)}"))
        self.leases.append(len(self.log.events))
        self.fold.evolve(self.log.events[-1])
        return self.fold.registry.versions != versions

    def _void(self, circuit: str, version: str) -> Any:
        """Something that cannot hold by what is there."""
        key = made_key(9)
        if version in self.fold.registry.versions:
            return ev.VerifierRegistered(circuit, version, (2, 3, 4), key.vk, key.vk_hash, False, "op")
        return ev.VerifierRotated(circuit, version, self.fold.registry.active.get(circuit, ""), self.now + 9, "op")

    def commit(self) -> None:
        self.projection.commit(self.fold.rows(), len(self.log.events))

    def check(self) -> None:
        registry, model = self.fold.registry, self.model
        end = len(self.log.events)
        active = [version.version for version in registry.versions.values() if version.active]
        assert sorted(active) == sorted(registry.active.values())
        for circuit in CIRCUITS:
            assert registry.active.get(circuit, "") == model.active(circuit, end)
        for now in (self.now, self.now + 1, self.now + 49, self.now + 50, self.now + 9_999, self.now + 10_000):
            for version in registry.versions:
                assert status_of(registry.versions[version], now) == model.status(version, now), (version, now)
                for lease in (*self.leases, 0, end + 1):
                    says = registry.accepts(version, lease, now)
                    assert says == model.accepts(version, lease, now), (version, lease, now)
                    if says:
                        circuit = registry.versions[version].circuit
                        assert registry.pinned(circuit, lease) == version == model.active(circuit, lease)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=40), st.lists(st.booleans(), min_size=40, max_size=40))
def test_it_says_what_the_whole_log_says(steps: list[Any], restarts: list[bool]) -> None:
    world = World()
    for step, restart in zip(steps, restarts, strict=False):
        world.step(*step)
        if restart:
            world.commit()
            world.fold = world.loaded()
    world.check()
    world.commit()
    live, fresh = world.fold.registry, VerifierFold()
    for recorded in world.log.events:
        if recorded.subject.startswith("verifier."):
            fresh.evolve(recorded)
    assert fresh.registry.versions == live.versions == world.loaded().registry.versions
    assert fresh.registry.seqs == live.seqs == world.loaded().registry.seqs
    assert [v.version for c in CIRCUITS for v in fresh.registry.of(c)] == [
        v.version for c in CIRCUITS for v in world.loaded().registry.of(c)
    ]
    again = Projection(":memory:", TABLES, version=1)
    again.commit(fresh.rows(), len(world.log.events))
    assert again.checksum() == world.projection.checksum()


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=30), st.data())
def test_an_event_folded_twice_is_void(steps: list[Any], data: Any) -> None:
    """Nobody should; and if somebody does, nothing of it is kept."""
    world = World()
    for step in steps:
        world.step(*step)
    told = [recorded for recorded in world.log.events if recorded.subject.startswith("verifier.registered.")]
    if told:
        again: Recorded = data.draw(st.sampled_from(told))
        before = dict(world.fold.registry.versions)
        world.fold.evolve(again)
        assert world.fold.registry.versions == before


def test_keys_are_read_from_rows_alone() -> None:
    world = World()
    world.fold.flush = world.commit
    world.step("register", "a", "v1", "", 0, 0)
    assert world.fold.key_of("v1") == made_key(1).vk and world.fold.key_of("v2") == ""
    world.fold = world.loaded()
    assert world.fold.key_of("v1") == made_key(1).vk
