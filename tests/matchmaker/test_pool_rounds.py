"""What is kept of the devices from round to round is what looking at all of them anew would find."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from mesh_events import joined, matmul, submitted, tiered

from shardy_common.log import Append, Recorded
from shardy_common.wire import events as ev
from shardy_matchmaker.core import MatchmakerCore
from shardy_matchmaker.decide import Matchmaker, Overlay
from shardy_matchmaker.fold import Fold
from shardy_matchmaker.pool import Devices, Pool

WORKERS = 12
ROUNDS = 150


class Mesh:
    """A matchmaker with devices that come, go, are late, lie and move, all by chance."""

    def __init__(self, seed: int, same: bool) -> None:
        self.rng, self.same = random.Random(seed), same
        self.core = MatchmakerCore(Matchmaker(allow_same_address=same))
        self.now_ms, self.seq, self.sessions = 1_000_000, 0, 0
        self.held: list[tuple[ev.TaskCreated | ev.TaskAssigned, ev.Lease]] = []
        self.late: list[Append] = []

    @property
    def fold(self) -> Fold:
        return self.core.matchmaker.fold

    def record(self, event: ev.Event) -> None:
        self.seq += 1
        self.core.evolve(Recorded(self.seq, event.subject, self.now_ms, event))
        if isinstance(event, (ev.TaskCreated, ev.TaskAssigned)):
            self.held += [(event, lease) for lease in event.leases]

    def happen(self) -> None:
        rng = self.rng
        self.now_ms += rng.randrange(1, 4_000)
        name = f"w{rng.randrange(WORKERS)}"
        worker = self.fold.workers.get(name)
        chance = rng.random()
        if worker is None or not worker.present:
            self.sessions += 1
            self.record(joined(name, f"s{self.sessions}", f"at-{rng.randrange(4)}"))
        elif chance < 0.15:
            self.record(ev.WorkerLeft(name, worker.session, rng.choice(["left", "dropped"])))
        elif chance < 0.2:
            self.record(ev.FraudDetected("t-gone", "j-gone", name, "t-gone-0", "d", "audit", 0))
        elif chance < 0.25:
            self.record(ev.GatewayStarted("g", f"i{self.sessions}"))
        if rng.random() < 0.3:
            self.record(submitted(matmul(rng.randrange(1, 60), task_rows=1), f"j{self.seq:06d}"))
        for event, lease in self.held[: rng.randrange(8)]:
            self.held.remove((event, lease))
            if rng.random() < 0.8:
                self.record(ev.ResultSubmitted(event.task, event.job, lease.id, lease.worker, "d", 8, 30.0, "wasm"))
        if rng.random() < 0.5:
            self.core.rows()

    def decide(self) -> None:
        """Some proposals are read back at once, some later, some are refused."""
        matchmaker = self.core.matchmaker
        proposed = self.late + matchmaker.decide(self.now_ms, self.rng)
        self.late = []
        for item in proposed:
            chance = self.rng.random()
            if chance < 0.2:
                matchmaker.settled(item, False)
            elif chance < 0.4 and isinstance(item.event, ev.TaskCreated):
                self.late.append(item)
            else:
                self.record(item.event)


def seen(devices: Devices) -> tuple[dict[str, Any], Counter[str]]:
    return {c.id: c for c in devices.items}, devices.places


def anew(mesh: Mesh) -> Devices:
    overlay, known = Overlay(), mesh.core.matchmaker.overlay
    overlay.of_worker = known.of_worker
    moved = set(mesh.fold.moved)
    Pool(mesh.fold, overlay, mesh.same, random.Random(0), mesh.now_ms)
    mesh.fold.moved |= moved
    return overlay.devices


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_rounds_know_what_looking_anew_would_find(seed: int, same: bool) -> None:
    mesh, busy = Mesh(seed, same), 0
    for _ in range(ROUNDS):
        mesh.happen()
        fresh = anew(mesh)
        overlay = mesh.core.matchmaker.overlay
        Pool(mesh.fold, overlay, same, random.Random(0), mesh.now_ms)
        assert seen(overlay.devices) == seen(fresh)
        assert {lease for held in overlay.of_worker.values() for lease in held} == set(overlay.leases)
        mesh.decide()
        busy += len(mesh.fold.tasks) > 0
    assert busy > ROUNDS / 3, "there was work to lend"


def test_what_nobody_marked_is_not_seen() -> None:
    """The other way round: a change behind the fold's back is missed, so the comparison above can fail."""
    mesh = Mesh(1, True)
    mesh.record(joined("a"))
    mesh.record(tiered("a"))
    overlay = mesh.core.matchmaker.overlay
    Pool(mesh.fold, overlay, True, random.Random(0), mesh.now_ms)
    mesh.core.rows()
    Pool(mesh.fold, overlay, True, random.Random(0), mesh.now_ms)
    mesh.fold.workers["a"].banned = True
    Pool(mesh.fold, overlay, True, random.Random(0), mesh.now_ms)
    assert seen(overlay.devices) != seen(anew(mesh))


def test_a_device_without_room_leaves_and_the_rest_stays_findable() -> None:
    mesh = Mesh(1, True)
    for name in "abcd":
        mesh.record(joined(name))
        mesh.record(tiered(name))
    overlay = mesh.core.matchmaker.overlay
    Pool(mesh.fold, overlay, True, random.Random(0), mesh.now_ms)
    devices = overlay.devices
    for name in "bad":
        devices.drop(name)
        devices.drop(name)
        assert devices.get(name) is None
        assert all(devices.get(c.id) is c for c in devices.items)
    assert [c.id for c in devices.items] == ["c"]
