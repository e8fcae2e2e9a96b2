"""What operators may do to the registry of verification keys, and what is accepted when: given events, when a command
comes, then an event or a refusal in words."""

from __future__ import annotations

from typing import Any

import pytest
from made_keys import NOTE, made_key, made_vk

from shardy_common.errors import Refused
from shardy_common.log import Append, MemoryLog
from shardy_common.verifiers import (
    CIRCUITS_MAX,
    GRACE_MS_MAX,
    PERIODS_MAX,
    VERSIONS_MAX,
    Registry,
    checked_key,
    status_of,
)
from shardy_common.wire import events as ev
from shardy_gateway.verifier_rules import decide_register, decide_revoke, decide_rotate

SHAPE = (8, 384, 8)
DEV = made_key(99)._replace(dev=True)


class Given:
    """A registry over a log whose clock stands at `now`; commands are decided and appended."""

    def __init__(self, development: bool = False) -> None:
        self.now, self.development = 1_000, development
        self.log, self.registry = MemoryLog(lambda: self.now), Registry()

    @property
    def seq(self) -> int:
        return len(self.log.events)

    def then(self, event: ev.Event | None) -> ev.Event | None:
        if event is not None:
            self.log.append_now(Append(event, f"m{self.seq}"))
            self.registry.evolve(self.log.events[-1])
        return event

    def register(self, version: str, circuit: str = "c", shape: Any = SHAPE, key: Any = None) -> ev.Event | None:
        key = made_key(sum(version.encode())) if key is None else key
        return self.then(decide_register(self.registry, circuit, version, shape, key, "op", self.development))

    def rotate(self, version: str, grace_ms: int = 0, circuit: str = "c") -> ev.Event | None:
        return self.then(decide_rotate(self.registry, circuit, version, grace_ms, self.now, "op", self.development))

    def revoke(self, version: str, successor: str = "", why: str = "leaked") -> ev.Event | None:
        return self.then(decide_revoke(self.registry, version, successor, why, "op", self.development))

    def status(self, version: str) -> str:
        return status_of(self.registry.versions[version], self.now)

    def accepts(self, version: str, lease_seq: int) -> bool:
        return self.registry.accepts(version, lease_seq, self.now, self.development)


@pytest.fixture
def two() -> Given:
    """v1 is active, v2 registered; time has gone on since."""
    given = Given()
    given.register("v1"), given.register("v2"), given.rotate("v1")
    given.now += 1_000
    return given


# -- statuses, and what is accepted -----------------------------------------------------------------------------------


def test_a_life_of_a_version(two: Given) -> None:
    assert (two.status("v1"), two.status("v2")) == ("active", "registered")
    two.rotate("v2", 500)
    assert (two.status("v1"), two.status("v2")) == ("grace", "active")
    assert two.registry.versions["v1"].grace_until_ms == two.now + 500
    two.now += 499
    assert two.status("v1") == "grace"
    two.now += 1
    assert two.status("v1") == "retired"
    two.revoke("v1")
    assert two.status("v1") == "revoked" and two.registry.active == {"c": "v2"}


def test_leases_are_held_to_the_version_of_their_place(two: Given) -> None:
    first = two.seq
    rotated = two.seq + 1
    two.rotate("v2", 500)
    assert not two.accepts("v1", first - 1), "it was not active yet"
    assert two.accepts("v1", first) and two.accepts("v1", rotated - 1)
    assert not two.accepts("v1", rotated) and not two.accepts("v1", rotated + 9), "leased after the rotation"
    assert two.accepts("v2", rotated) and two.accepts("v2", rotated + 9)
    assert not two.accepts("v2", rotated - 1), "leased before it was active"
    assert two.registry.pinned("c", rotated - 1) == "v1" and two.registry.pinned("c", rotated) == "v2"
    two.now += 500
    assert not two.accepts("v1", rotated - 1) and two.accepts("v2", rotated)
    assert "grace" in two.registry.refusal("v1", rotated - 1, two.now)


def test_no_grace_accepts_nothing_of_before(two: Given) -> None:
    at = two.seq
    two.rotate("v2")
    assert not two.accepts("v1", at) and two.status("v1") == "retired"


def test_revoked_is_refused_at_once(two: Given) -> None:
    at = two.seq
    two.rotate("v2", 60_000)
    assert two.accepts("v1", at)
    two.revoke("v1")
    assert not two.accepts("v1", at) and "revoked" in two.registry.refusal("v1", at, two.now)
    assert two.accepts("v2", two.seq)


def test_a_successor_is_active_in_the_same_event(two: Given) -> None:
    before = two.seq
    two.revoke("v1", "v2")
    assert two.registry.active == {"c": "v2"} and two.seq == before + 1
    assert two.accepts("v2", two.seq) and not two.accepts("v2", before) and not two.accepts("v1", before)
    assert two.registry.versions["v1"].successor == "v2" and two.registry.versions["v1"].why == "leaked"


def test_without_a_successor_nothing_is_active(two: Given) -> None:
    two.revoke("v1")
    assert two.registry.active == {} and two.registry.pinned("c", two.seq) == ""
    assert isinstance(two.rotate("v2"), ev.VerifierRotated)


def test_back_to_a_former_version(two: Given) -> None:
    first = two.seq
    two.rotate("v2", 10_000)
    second = two.seq
    two.now += 1_000
    two.rotate("v1", 10_000)
    assert two.status("v1") == "active" and two.status("v2") == "grace"
    assert two.accepts("v1", first) and two.accepts("v1", two.seq) and not two.accepts("v1", second)
    assert two.accepts("v2", second)
    two.now += 9_500
    assert not two.accepts("v1", first), "its first time has had its grace"
    assert two.accepts("v1", two.seq) and two.accepts("v2", second)


def test_circuits_do_not_touch_each_other(two: Given) -> None:
    two.register("w1", "d", (4, 4, 4))
    two.rotate("w1", circuit="d")
    assert two.registry.active == {"c": "v1", "d": "w1"} and two.registry.circuits == ["c", "d"]


def test_development_keys_count_in_development_only() -> None:
    given = Given(development=True)
    given.register("v1", key=DEV), given.rotate("v1")
    assert given.accepts("v1", given.seq)
    assert not given.registry.accepts("v1", given.seq, given.now)
    assert "development" in given.registry.refusal("v1", given.seq, given.now)


def test_nothing_is_known_of_nobody() -> None:
    assert "not registered" in Registry().refusal("v1", 1, 1)
    assert Registry().pinned("c", 1) == ""


# -- refusals ---------------------------------------------------------------------------------------------------------


def refused(title: str, words: str, command: Any, *arguments: Any, status: int = 409, **more: Any) -> None:
    with pytest.raises(Refused) as caught:
        command(*arguments, **more)
    assert (caught.value.title, caught.value.status) == (title, status), caught.value
    assert words in caught.value.detail, caught.value.detail


def test_registering_again(two: Given) -> None:
    assert two.register("v1") is None, "the same again is nothing to do"
    refused("Version is taken", "another key", two.register, "v1", key=made_key(5))
    refused("Version is taken", "circuit c", two.register, "v1", "d")
    refused("Version is taken", "shape 8x384x8", two.register, "v1", shape=(8, 8, 8))
    marked = made_key(sum(b"v1"))._replace(dev=True)
    refused("Version is taken", "none of development", Given.register, two, "v1", key=marked)
    two.revoke("v1")
    assert two.register("v1") is None and two.status("v1") == "revoked", "its name is never free again"
    refused("Version is taken", "another key", two.register, "v1", key=made_key(5))


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a*", ">", "x" * 65, "ä"])
def test_names_that_are_none(two: Given, name: str) -> None:
    refused("Refused", "version has", two.register, name, status=422)
    refused("Refused", "circuit has", two.register, "v9", name, status=422)


@pytest.mark.parametrize("shape", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 65_536, 1), (1_048_577, 1, 1), (-1, 1, 1)])
def test_shapes_that_are_none(two: Given, shape: tuple[int, int, int]) -> None:
    refused("Refused", "shape is m, k, n", two.register, "v9", "d", shape, status=422)


def test_another_shape_is_another_circuit(two: Given) -> None:
    refused("Refused", "another shape is another circuit", two.register, "v9", shape=(8, 8, 8), status=422)
    assert two.register("v9", "d", (8, 8, 8)) is not None


def test_a_development_key_without_development(two: Given) -> None:
    refused("Development key", "SHARDY_DEVELOPMENT", two.register, "v9", key=DEV)
    marked = checked_key(made_vk(3, shardy=NOTE))
    refused("Development key", "anybody can forge", two.register, "v9", key=marked)
    given = Given(development=True)
    given.register("v1"), given.rotate("v1"), given.register("v9", key=DEV)
    given.development = False
    refused("Development key", "v9 is a development key", given.rotate, "v9")
    refused("Development key", "v9 is a development key", given.revoke, "v1", "v9")


def test_rotations_that_are_none(two: Given) -> None:
    refused("No such verifier", "no version v9", two.rotate, "v9", status=404)
    refused("Version is active", "v1 is active already", two.rotate, "v1")
    refused("Refused", "v1 is of circuit c, and not of d", two.rotate, "v1", circuit="d", status=422)
    refused("Refused", "30 days", two.rotate, "v2", GRACE_MS_MAX + 1, status=422)
    refused("Refused", "30 days", two.rotate, "v2", -1, status=422)
    two.revoke("v2")
    refused("Version is revoked", "register another", two.rotate, "v2")
    two.register("v3")
    assert two.rotate("v3", GRACE_MS_MAX) is not None


def test_revocations_that_are_none(two: Given) -> None:
    refused("No such verifier", "no version v9", two.revoke, "v9", status=404)
    refused("No such verifier", "no version v9", two.revoke, "v1", "v9", status=404)
    refused("Version is not active", "nothing takes its place", two.revoke, "v2", "v1")
    refused("Refused", "cannot follow itself", two.revoke, "v1", "v1", status=422)
    for why in ("", "  ", "x" * 501):
        refused("Refused", "say why", two.revoke, "v1", why=why, status=422)
    two.register("w1", "d", (4, 4, 4))
    refused("Refused", "w1 is of circuit d", two.revoke, "v1", "w1", status=422)
    two.revoke("v2")
    refused("Version is revoked", "v2 is revoked", two.revoke, "v1", "v2")
    assert two.revoke("v2") is None, "once more is nothing to do"


def test_limits() -> None:
    given = Given()
    for number in range(CIRCUITS_MAX):
        given.register(f"c{number}-v", f"c{number}")
    refused("Too many verifiers", "64 circuits", given.register, "more", "more")
    for number in range(VERSIONS_MAX - 1):
        given.register(f"v{number}", "c0", key=made_key(number))
    refused("Too many verifiers", "256 versions", given.register, "more", "c0")
    given.register("c1-w", "c1")


def test_graces_of_one_version_at_once(two: Given) -> None:
    for _ in range(PERIODS_MAX):
        two.rotate("v2", 1_000), two.rotate("v1")
    refused("Too many verifiers", "whose grace still runs", two.rotate, "v2", 1_000)
    two.now += 1_000
    assert two.rotate("v2", 1_000) is not None
    assert len(two.registry.versions["v1"].periods) <= PERIODS_MAX + 1


# -- events that say what does not hold -------------------------------------------------------------------------------

KEY = made_key(7)


@pytest.mark.parametrize(
    "event",
    [
        ev.VerifierRegistered("d", "v1", SHAPE, KEY.vk, KEY.vk_hash, False, "op"),
        ev.VerifierRegistered("c", "v9", (1, 1, 1), KEY.vk, KEY.vk_hash, False, "op"),
        ev.VerifierRegistered("c", "v9", SHAPE, KEY.vk, "0" * 64, False, "op"),
        ev.VerifierRegistered("c", "v9", SHAPE, KEY.vk + " ", KEY.vk_hash, False, "op"),
        ev.VerifierRotated("c", "v2", "", 9, "op"),
        ev.VerifierRotated("c", "v2", "v2", 9, "op"),
        ev.VerifierRotated("c", "v1", "v1", 9, "op"),
        ev.VerifierRotated("c", "v9", "v1", 9, "op"),
        ev.VerifierRotated("d", "v2", "", 9, "op"),
        ev.VerifierRevoked("c", "v9", "", "why", "op"),
        ev.VerifierRevoked("d", "v1", "", "why", "op"),
        ev.VerifierRevoked("c", "v1", "v9", "why", "op"),
        ev.VerifierRevoked("c", "v1", "v1", "why", "op"),
        ev.VerifierRevoked("c", "v2", "v1", "why", "op"),
    ],
    ids=str,
)
def test_an_event_that_does_not_hold_changes_nothing(two: Given, event: ev.Event) -> None:
    before, active = dict(two.registry.versions), dict(two.registry.active)
    two.then(event)
    assert two.registry.versions == before and two.registry.active == active
    assert two.registry.seqs[event.entity_id] == two.seq, "the next change of the circuit expects it all the same"


def test_a_grace_beyond_its_limit_is_cut(two: Given) -> None:
    two.then(ev.VerifierRotated("c", "v2", "v1", two.now + 10 * GRACE_MS_MAX, "op"))
    assert two.registry.versions["v1"].grace_until_ms == two.now + GRACE_MS_MAX


def test_version_1_of_the_event_told_of_no_key() -> None:
    old = b'{"e":"verifier.registered/1","version":"v1","circuit":"c","vk_digest":"%s","status":"active"}' % (
        b"ab" * 32
    )
    event = ev.decode(old)
    assert event == ev.VerifierRegistered("c", "v1", (0, 0, 0), "", "ab" * 32, False, "")
    given = Given()
    given.then(event)
    assert given.status("v1") == "registered" and not given.accepts("v1", given.seq)
    refused("Refused", "only a digest is known", given.rotate, "v1", status=422)
    assert given.register("v2") is not None, "its shape says nothing of the circuit's"
    refused("Version is taken", "a digest, and no key", given.register, "v1")
