"""The shape of a world and the faults that befall it, all drawn from its seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import mesh_verifiers
from mesh_work import random_tile

from shardy_common import limits, trust
from shardy_matchmaker import decide as matchmaker_decide
from shardy_matchmaker.tiers import Tier, tier_for
from shardy_prover_verifier import core as prover_core

if TYPE_CHECKING:
    from mesh_nodes import Node
    from mesh_world import Mesh

KINDS = ("single", "shared", "trusting", "failing", "proving")
PROVING = 0.12  # so many worlds are of that kind
PROOFS_BESIDE = 0.08  # and in so many others some jobs are proved
ANSWER_MS = 8_000  # a proof is waited for so long here
LEASES_MAX = 1  # of a worker where replicas share the work, 2 more in large worlds: few, so that the limit is met
LEASES_MAX_SINGLE = 2  # where they do not, in worlds with the chunker's tiles
# trust is scaled down with the tasks: a few checked ones are a long record here
TRUST = {"PROBATION_TASKS": 2, "PROBATION_OPS": 40, "FLOOR": 0.2, "VALUE_SHARE": 2, "CHECK_COVERS": 4}


@dataclass(frozen=True)
class Shape:
    """kind: single (each replica takes all work for its own) | shared (replicas share it) | trusting (job after job of
    policy adaptive, few liars, so much is lent on trust) | failing (tasks are given up soon, and operators reopen their
    jobs) | proving (jobs with policy proof, and versions that change; shares: replicas share the work). proofs: jobs of
    policy proof are among them. large: a long storm over larger jobs. only: the one fault that happens, or none; empty:
    all of them do."""

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
    proofs: bool = False
    shares: bool = False

    @staticmethod
    def of(seed: int, kind: str = "", only: str = "", large: bool = False) -> Shape:
        rng = random.Random(f"shape {seed}")
        apart = random.Random(f"proofs {seed}")  # so that other worlds stay as they were
        chance = apart.random()
        if not kind and not only and chance < PROVING:
            kind = "proving"
        if kind == "proving":
            return Shape._proving(apart, only, large)
        shape = Shape._other(rng, kind, only, large)
        beside = not only and shape.kind != "trusting" and chance > 1 - PROOFS_BESIDE
        return replace(shape, proofs=beside) if beside else shape

    @staticmethod
    def _proving(rng: random.Random, only: str, large: bool) -> Shape:
        shares = rng.random() < 0.4
        odd_tiles, faults = rng.random() < 0.6, 12 if only else rng.randrange(1, 5)
        more = {"only": only, "proofs": True, "shares": shares}
        if (rng.random() < 0.012 and not only) or large:
            return Shape("proving", True, odd_tiles, 60_000, rng.choice((2, 3)), 24, 8, 2 * faults, 25_000, **more)
        return Shape("proving", False, odd_tiles, 24_000, rng.choice((1, 2, 2)), 17, 7, faults, **more)

    @staticmethod
    def _other(rng: random.Random, kind: str, only: str, large: bool) -> Shape:
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
    if shape.proofs:
        changes.append((prover_core, "ANSWER_BASE_MS", ANSWER_MS))
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
    for faults in (FAULTS, PROVING_FAULTS) if shape.proofs else (FAULTS,):
        names = [name for name in sorted(faults) if shape.only in ("", name)]
        for _ in range(shape.faults if names else 0):
            mesh.later(rng.randrange(shape.storm_ms), partial(faults[rng.choice(names)], mesh))


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


def rotation(mesh: Mesh) -> None:
    """Another version of a circuit becomes active while proofs are on their way; counted by the log."""
    gateway = mesh.gateway()
    if gateway.up:
        mesh_verifiers.renew(gateway, mesh.rng.choice(mesh_verifiers.PROVED))


def revocation(mesh: Mesh) -> None:
    """The active version of a circuit is revoked, at times without a successor: then somebody renews it. Now, or while
    the next proof is looked at."""
    if mesh.rng.random() < 0.5:
        mesh.revoked_amid_proof = True
    else:
        revoked(mesh, mesh.rng.choice(mesh_verifiers.PROVED))


def revoked(mesh: Mesh, circuit: str) -> None:
    for after_ms, change in ((0, mesh_verifiers.revoke), (mesh.rng.choice((3_000, 8_000)), mesh_verifiers.renew)):
        mesh.later(after_ms, lambda change=change: (found := mesh.gateway()).up and change(found, circuit))


def crash_amid_proof(mesh: Mesh) -> None:
    """A prover-verifier dies once it has checked a proof, before it says so. Counted when it happens."""
    mesh.rng.choice(mesh.provers).dies_amid_proof = True


def crash_amid_second_look(mesh: Mesh) -> None:
    """A version is revoked, and whoever looks at a result under it again dies before it says what it found. Counted
    when it happens."""
    for node in mesh.quorums:
        node.dies_amid_look = True
    revoked(mesh, mesh.rng.choice(mesh_verifiers.PROVED))


PROVING_FAULTS: dict[str, Callable[[Any], None]] = {
    "rotation": rotation,
    "revocation": revocation,
    "crash amid proof": crash_amid_proof,
    "crash amid second look": crash_amid_second_look,
}
# what workers do that are asked for a proof, one by one
PROVER_FAULTS = (
    "challenges not answered",
    "proofs that are late",
    "proofs given up",
    "proofs of another task",
    "proofs of another lease",
    "proofs of nothing",
)
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
    "crashes between proof and verdict",
    "crashes between second look and finding",
    *PROVER_FAULTS,
)
