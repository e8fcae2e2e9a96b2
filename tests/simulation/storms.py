"""Many worlds, each from its seed, on all cores; what happened in them, added up."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from blake3 import blake3
from mesh_end import check_end
from mesh_faults import Shape, scaled
from mesh_nodes import Pool
from mesh_world import Mesh

CHUNK = 50
_pool: Pool = {}


@dataclass
class Totals:
    worlds: int = 0
    events: int = 0
    tally: Counter[str] = field(default_factory=Counter)
    failed: tuple[int, str] | None = None

    def add(self, other: Totals) -> None:
        self.worlds += other.worlds
        self.events += other.events
        self.tally.update(other.tally)
        self.failed = min(filter(None, (self.failed, other.failed)), default=None)


def storm(seed: int, kind: str = "", only: str = "", large: bool = False) -> Mesh:
    """One world, from its beginning to its end. Raises what broke."""
    shape = Shape.of(seed, kind, only, large)
    with scaled(shape):
        mesh = Mesh(seed, shape, _pool).run()
        check_end(mesh)
    return mesh


def run(seeds: Iterable[int]) -> Totals:
    totals = Totals()
    for seed in seeds:
        try:
            mesh = storm(seed)
        except Exception as error:
            totals.failed = seed, f"({Shape.of(seed)}) {type(error).__name__}: {error}"
            break
        totals.worlds += 1
        totals.events += len(mesh.log.events)
        totals.tally.update(mesh.tally)
        totals.tally.update({f"event: {name}": times for name, times in mesh.explainer.tally.items()})
        totals.tally[f"worlds: {mesh.shape.kind}"] += 1
        totals.tally["versions claimed twice"] += mesh.explainer.versions.claimed_twice
        totals.tally["worlds: large"] += mesh.shape.large
        totals.tally["jobs that went on"] += sum(job.reopenings > 0 for job in mesh.explainer.jobs.values())
        totals.tally["jobs that went on twice"] += sum(job.reopenings > 1 for job in mesh.explainer.jobs.values())
    return totals


def fingerprint(seeds: Iterable[int], large: bool = False) -> str:
    """Of everything that stands in the logs of these worlds."""
    digest = blake3()
    for seed in seeds:
        for recorded in storm(seed, large=large).log.events:
            digest.update(f"{recorded.seq} {recorded.at_ms} {recorded.event}".encode())
    return digest.hexdigest()


def processes() -> ProcessPoolExecutor:
    """One for each core that this process may use."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(len(os.sched_getaffinity(0)), spawn, collect_seldom)


def collect_seldom() -> None:
    """A world is garbage as a whole when it is over: looking for it more often costs a tenth of the time."""
    gc.set_threshold(100_000, 20, 20)


def run_many(first: int, count: int) -> Totals:
    """On every core that this process may use, in chunks; after a failure, no further chunk begins."""
    totals = Totals()
    chunks = [range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)]
    with processes() as executor:
        for part in executor.map(run, chunks):
            totals.add(part)
            if totals.failed:
                executor.shutdown(wait=False, cancel_futures=True)
                break
    return totals
