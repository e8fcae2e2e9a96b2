"""Bugs planted on purpose, which the storms must find: a simulation that cannot fail shows nothing.

Each says what it plants, in which module, and which fault brings it to light: it is looked for in worlds in which
nothing but that fault goes wrong, and where it names one it must not show in worlds without any.
"""

from __future__ import annotations

from dataclasses import dataclass

import planted_in_common  # noqa: F401 - each registers its own
import planted_in_gateway  # noqa: F401
import planted_in_matchmaker  # noqa: F401
import planted_in_prover  # noqa: F401
import planted_in_quorum  # noqa: F401
import pytest
import storms
from mesh_oracle import BrokenInvariant
from planting import MUTATIONS, NOTHING, Mutation

WITHOUT = 6  # worlds without any fault in which a bug that needs one must not show
FOUND = (AssertionError, LookupError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True)
class Hunt:
    """seed: where it was found, -1: nowhere. without: what a world without faults said, if one said anything."""

    name: str
    seed: int
    says: str
    without: str = ""


def hunt(name: str) -> Hunt:
    mutation = MUTATIONS[name]
    with pytest.MonkeyPatch.context() as patch:
        mutation.plant(patch)
        seed, says = _look(mutation, mutation.needs, mutation.seeds)
        without = _look(mutation, NOTHING, WITHOUT)[1] if mutation.needs not in ("", NOTHING) else ""
    return Hunt(name, seed, says, without)


def _look(mutation: Mutation, only: str, seeds: int) -> tuple[int, str]:
    for seed in range(seeds):
        try:
            storms.storm(seed, mutation.kind, only, mutation.large)
        except FOUND as error:
            return seed, f"{'' if isinstance(error, BrokenInvariant) else type(error).__name__ + ': '}{error}"
    return -1, ""
