"""Which part of the log is archived, and how it is cut into epochs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

EPOCH_EVENTS = 100_000
EPOCH_SHARE_MIN = 100  # the newest epoch may be short, but not shorter than this part of a full one
KEEP_EVENTS_MIN = 1  # the newest event always stays: its sequence shows every reader that others are missing
_BEGINS, _ENDS = ("submitted", "reopened"), ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Policy:
    """What stays in the stream whatever its age: events younger than older_than_s, and the newest keep_events."""

    older_than_s: float = 7 * 86_400.0
    keep_events: int = 10_000
    epoch_events: int = EPOCH_EVENTS


class ActiveJobs:
    """The first event of each job that is active, from the job events in their order. A reopened job begins anew: its
    reopening says all that is still wanted of it."""

    def __init__(self) -> None:
        self.since: dict[str, int] = {}

    def see(self, seq: int, subject: str) -> None:
        entity, _, rest = subject.partition(".")
        event, _, job = rest.partition(".")
        if entity != "job":
            return
        if event in _BEGINS:
            self.since.setdefault(job, seq)
        elif event in _ENDS:
            self.since.pop(job, None)


def floor(last: int, first_young: int | None, active: Iterable[int], policy: Policy) -> int:
    """The last sequence that may be archived. last: of the log; first_young: the first event that is young enough to
    stay (None: none is); active: where active jobs begin."""
    bounds = [last - max(policy.keep_events, KEEP_EVENTS_MIN), *(since - 1 for since in active)]
    if first_young is not None:
        bounds.append(first_young - 1)
    return max(min(bounds), 0)


def epochs(after: int, through: int, policy: Policy) -> list[tuple[int, int]]:
    """Ranges to archive, each at most an epoch long. What is left over for less than the shortest waits."""
    found = []
    size = policy.epoch_events
    first = after + 1
    while first + size - 1 <= through:
        found.append((first, first + size - 1))
        first += size
    if through - first + 1 >= max(size // EPOCH_SHARE_MIN, 1):
        found.append((first, through))
    return found
