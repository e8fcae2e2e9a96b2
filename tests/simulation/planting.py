"""How a bug is planted: what it is, in which module, and which fault brings it to light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from shardy_matchmaker.pool import Pool

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutation:
    """needs: a fault, or NOTHING where a world without any shows it best; empty: any world may show it. kind, large: of
    the worlds; seeds: within so many it must be found."""

    name: str
    what: str
    module: str
    needs: str
    kind: str
    seeds: int
    large: bool
    plant: Callable[[Patch], None]


NOTHING = "nothing"  # goes wrong
MUTATIONS: dict[str, Mutation] = {}


def planted(module: str, needs: str = "", kind: str = "", seeds: int = 60, large: bool = False) -> Callable[[Any], Any]:
    def register(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        name, what = plant.__name__, (plant.__doc__ or "").strip()
        MUTATIONS[name] = Mutation(name, what, module, needs, kind, seeds, large, plant)
        return plant

    return register


def eager_pick(pool: Pool, barred_workers: set[str], barred_addresses: set[str], proves_mib: int = 0) -> Any:
    """In place of Pool.pick: as when nobody else is there, who let a lease expire gets the task again at once."""
    fitting = [c for c in pool._items if c.id not in barred_workers and c.address not in barred_addresses]
    fitting = [c for c in fitting if c.proves_mib >= proves_mib]
    return min(fitting, key=lambda c: c.id) if fitting else None
