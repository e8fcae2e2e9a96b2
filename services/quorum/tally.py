"""The majority verdict for one task.

votes: digest (hex) by lease; distinct leases of one task always belong to distinct workers. need: equal digests wanted.
Pure, total, raises nothing. A digest reaches a verdict only by count; who lied is not decided here but by an audit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pending:
    """More answers are needed."""


@dataclass(frozen=True, slots=True)
class Agreed:
    digest: str


@dataclass(frozen=True, slots=True)
class Disputed:
    """As many answers as were asked for, and no digest has enough of them."""


PENDING, DISPUTED = Pending(), Disputed()


def verdict(votes: Mapping[str, str], need: int, asked: int) -> Pending | Agreed | Disputed:
    """asked: answers wanted in all before a lack of agreement counts as a dispute (need, or more after a dispute)."""
    counts: dict[str, int] = {}
    for digest in votes.values():
        counts[digest] = counts.get(digest, 0) + 1
    if counts:
        best = max(counts.values())
        if best >= need:
            # two digests can both have enough only after colluders and honest workers met in further replicas:
            # the larger group wins, a tie stays in dispute
            leaders = [digest for digest, n in counts.items() if n == best]
            return Agreed(leaders[0]) if len(leaders) == 1 else DISPUTED
    return DISPUTED if len(votes) >= max(asked, need) else PENDING
