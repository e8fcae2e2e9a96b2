"""The shape of a world and the faults that befall it, all drawn from its seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mesh_work import random_tile

from shardy_common import limits, trust
from shardy_matchmaker import decide as matchmaker_decide
from shardy_matchmaker.tiers import Tier, tier_for

if TYPE_CHECKING:
    from mesh_nodes import Node
    from mesh_world import Mesh

KINDS = ("single", "shared", "trusting", "failing")
LEASES_MAX = 1  # of a worker where replicas share the work, 2 more in large worlds: few, so that the limit is met
LEASES_MAX_SINGLE = 2  # where they do not, in worlds with the chunker's tiles
# trust is scaled down with the tasks: a few checked ones are a long record here
TRUST = {"PROBATION_TASKS": 2, "PROBATION_OPS": 40, "FLOOR": 0.2, "VALUE_SHARE": 2, "CHECK_COVERS": 4}


@dataclass(frozen=True)
class Shape:
    """kind: single (each replica takes all work for its own) | shared (replicas share it) | trusting (job after job of
    policy adaptive, few liars, so much is lent on trust) | failing (tasks are given up soon, and operators reopen their
    jobs). large: a long storm over larger jobs. only: the one fault that happens, or none; empty: all of them do."""

    kind: str
    large: bool
    odd_tiles: bool
    storm_ms: int
    jobs: int
    rows_max: int
    cols_max: int
    faults: int
    away_ms: int = 12_000
    only: str = ""

    @staticmethod
    def of(seed: int, kind: str = "", only: str = "", large: bool = False) -> Shape:
        rng = random.Random(f"shape {seed}")
        kind = kind or rng.choice(("single", "single", "single", "shared", "shared", "trusting", "failing"))
        odd_tiles = rng.random() < 0.5 or kind == "shared"
        if (rng.random() < 0.012 and not only) or large:
            jobs = 12 if kind == "trusting" else rng.choice((2, 3))
            return Shape(kind, True, odd_tiles, 60_000, jobs, 24, 8, rng.randrange(6, 14), 25_000, only)
        faults = 12 if only else rng.randrange(1, 5)
        if kind == "trusting":
            return Shape(kind, False, odd_tiles, 22_000, 6, 12, 6, faults, only=only)
        return Shape(kind, False, odd_tiles, 20_000, rng.choice((1, 1, 2)), 9, 6, faults, only=only)

    def __str__(self) -> str:
        return f"{'large ' if self.large else ''}{self.kind}{', odd tiles' if self.odd_tiles else ''}"


@contextmanager
def scaled(shape: Shape):  # type: ignore[no-untyped-def]
    """The mesh's numbers as this world has them."""
    changes: list[tuple[Any, str, Any]] = [(trust, name, value) for name, value in TRUST.items()]
    if shape.odd_tiles:
        changes.append((matchmaker_decide, "next_tile", random_tile))
    if shape.kind == "shared" or (shape.kind == "single" and not shape.odd_tiles):
        most = LEASES_MAX + 2 * shape.large if shape.kind == "shared" else LEASES_MAX_SINGLE
        few = partial(_few_leases, most)
        changes.append((matchmaker_decide, "tier_for", few))
    if shape.kind == "failing":
        changes.append((limits, "ATTEMPTS_MAX", 4))
    with changed(changes):
        yield


@contextmanager
def changed(changes: list[tuple[Any, str, Any]]):  # type: ignore[no-untyped-def]
    before = [(where, name, getattr(where, name)) for where, name, _ in changes]
    try:
        for where, name, value in changes:
            setattr(where, name, value)
        yield
    finally:
        for where, name, value in reversed(before):
            setattr(where, name, value)


def _few_leases(leases_max: int, gops: float, memory_mib: int, gpu: bool) -> Tier | None:
    tier = tier_for(gops, memory_mib, gpu)
    return replace(tier, max_leases=leases_max) if tier else None


# -- faults that befall a node or the mesh for a while ----------------------------------------------------------------


def plan(mesh: Mesh) -> None:
    """Draw the faults of the storm. Frames and appends go astray besides, one by one (mesh_network.py)."""
    rng, shape = mesh.rng, mesh.shape
    names = [name for name in sorted(FAULTS) if shape.only in ("", name)]
    for _ in range(shape.faults if names else 0):
        fault = FAULTS[rng.choice(names)]
        mesh.later(rng.randrange(shape.storm_ms), partial(fault, mesh))


def _node(mesh: Mesh) -> Node:
    return mesh.rng.choice(mesh.nodes)


def _lasts(mesh: Mesh) -> int:
    return mesh.rng.choice((1_000, 4_000, 12_000, 25_000 if mesh.shape.large else 12_000))


def crash(mesh: Mesh) -> None:
    node = _node(mesh)
    if node.up:
        mesh.count("crashes")
        node.fall()


def crash_after_append(mesh: Mesh) -> None:
    """Counted when it happens."""
    _node(mesh).dies_after_append = True


def crash_after_commit(mesh: Mesh) -> None:
    """It dies once it has written what it read, before it does anything about it. Counted when it happens."""
    _node(mesh).dies_after_commit = True


def partition(mesh: Mesh) -> None:
    """A node is cut off from the log for a while; a gateway with its workers. At times only one way is cut."""
    way = mesh.rng.choice(("both", "deaf", "mute", "blind"))
    cut(mesh, _node(mesh), way, _lasts(mesh))


def cut(mesh: Mesh, node: Node, way: str, for_ms: int) -> None:
    """deaf: appends get through, but neither answers nor events; mute: appends do not; blind: events do not come."""
    mesh.count(f"partitions, {way}")
    node.line.sends = node.line.sends and way not in ("both", "mute")
    node.line.answers = node.line.answers and way not in ("both", "deaf")
    node.line.reads = node.line.reads and way not in ("both", "deaf", "blind")
    node.line.cut_until_ms = max(node.line.cut_until_ms, mesh.now_ms + for_ms)
    mesh.later(for_ms, partial(heal, mesh, node))


def heal(mesh: Mesh, node: Node, at_once: bool = False) -> None:
    if at_once or mesh.now_ms >= node.line.cut_until_ms:
        node.line.sends = node.line.answers = node.line.reads = True
        node.line.cut_until_ms = min(node.line.cut_until_ms, mesh.now_ms)
        node.wake()


def clock_jump(mesh: Mesh) -> None:
    """Of a node, or of the log. By as much, it may jump back."""
    jump_ms = mesh.rng.choice((-60_000, -5_000, -700, 700, 5_000, 60_000))
    mesh.count("clock jumps, backwards" if jump_ms < 0 else "clock jumps, forwards")
    if mesh.rng.random() < 0.2:
        mesh.log_skew_ms += jump_ms
    else:
        node = mesh.rng.choice([node for node in mesh.nodes if node.ticks])  # the others hardly look at theirs
        node.skew_ms += jump_ms
        node.wake()


def disk_full(mesh: Mesh) -> None:
    """No commit of a node's projection works; counted when one fails."""
    node = _node(mesh)
    node.full_until_ms = max(node.full_until_ms, mesh.now_ms + _lasts(mesh))


def store_full(mesh: Mesh) -> None:
    """No result can be stored; counted when one waits."""
    mesh.store_full_until_ms = max(mesh.store_full_until_ms, mesh.now_ms + _lasts(mesh))


def log_full(mesh: Mesh) -> None:
    """The log takes nothing for a while; counted by what it refuses."""
    mesh.log_full_until_ms = max(mesh.log_full_until_ms, mesh.now_ms + _lasts(mesh) // 2)


FAULTS: dict[str, Callable[[Any], None]] = {
    "crash": crash,
    "crash after append": crash_after_append,
    "crash after commit": crash_after_commit,
    "partition": partition,
    "clock jump": clock_jump,
    "disk full": disk_full,
    "store full": store_full,
    "log full": log_full,
}
# what must really have happened in a long run, as the worlds count it
COUNTED = (
    "crashes",
    "crashes between append and answer",
    "crashes between commit and proposal",
    "partitions, both",
    "partitions, deaf",
    "partitions, mute",
    "partitions, blind",
    "appends cut off",
    "answers cut off",
    "stalled reads",
    "clock jumps, backwards",
    "clock jumps, forwards",
    "commits on a full disk",
    "results that waited for a full disk",
    "appends on a full log",
    "appends lost",
    "appends repeated",
    "appends overtaken",
    "answers lost",
    "frames lost",
    "frames repeated",
    "bytes that were missing",
    "conflicts",
)
