"""Reliability, kept apart from fraud: who lets leases run out gets fewer of them, then rests. Pure.

A strike is a lease that ran out and had been lent after the strike before: when a device stalls, everything queued on
it runs out at once, and that is one strike. An answer clears all strikes. Nothing here costs a reputation.
"""

from __future__ import annotations

from shardy_matchmaker.state import WorkerState

RESTING_STRIKES = 3
REST_MS = 10_000  # after the third strike; twice as long after each further one
REST_MS_MAX = 600_000
LATE_FACTOR = 8  # a strike divides the believed speed by this
REJOIN_FACTOR = 8  # a device that joins again is believed at most so many times the speed that it showed before
GOPS_MIN = 0.01


def leases_allowed(worker: WorkerState) -> int:
    """How many leases it may hold: half as many after each strike, at least one."""
    if not worker.strikes:
        return worker.max_leases
    return max(worker.max_leases >> worker.strikes, min(worker.max_leases, 1))


def rests_until_ms(strikes: int, late_ms: int) -> int:
    """No new leases before this time."""
    if strikes < RESTING_STRIKES:
        return 0
    return late_ms + min(REST_MS << min(strikes - RESTING_STRIKES, 20), REST_MS_MAX)


def ran_out(worker: WorkerState, lent_ms: int, at_ms: int) -> None:
    """A lease of this worker passed its deadline.

    A lease lasts ten seconds and five times what the device should take for it. Whoever misses that is far slower than
    believed, or away: the belief falls by LATE_FACTOR, so a device that claims a GPU that it has not got is down to
    tasks of its own size after a few leases. Results raise it again, by up to a factor of two each.
    """
    if lent_ms >= worker.strike_ms:
        worker.strikes += 1
        worker.strike_ms = at_ms
        worker.gops = max(GOPS_MIN, worker.gops / LATE_FACTOR)
    worker.late_ms = at_ms


def answered(worker: WorkerState) -> None:
    worker.strikes = 0


def speed_at_join(claimed: float, before: WorkerState | None) -> float:
    """What to believe of a device that joins (again): joining anew must not wash off what it has shown."""
    if before is None:
        return claimed
    return min(claimed, before.gops if before.strikes else REJOIN_FACTOR * before.gops)
