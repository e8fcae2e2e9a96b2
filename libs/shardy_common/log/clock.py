"""What time it is by the log's own clock: the times of its events, and a steady clock since. Pure.

Deadlines are written by one process and read by others, and both are compared with the times that the log gave its
events. A process whose own clock is an hour off would let everybody's leases run out, or none; so no decision asks
the machine for the time of day. An event reaches its reader late, never early, so of several estimates the furthest
is the best one (Cristian, "Probabilistic clock synchronization", 1989, with one-way messages).
"""

from __future__ import annotations

WINDOW_S = 60.0  # estimates are forgotten after one to two of these: two clocks never run at quite the same speed
STEP_MS = 1_000  # events are in order, so times that fall by more than this show a clock that was set back


class LogClock:
    """Times of events in Unix milliseconds; steady_s: seconds of a clock that only goes forward."""

    def __init__(self) -> None:
        self._ahead_ms: float | None = None  # of the steady clock, in the window that runs
        self._before_ms: float | None = None  # and in the one before
        self._window_s = 0.0
        self._last_ms = 0

    def heard(self, at_ms: int, steady_s: float) -> None:
        """The log's clock showed at_ms, no later than now. Call in the log's order."""
        ahead_ms = at_ms - steady_s * 1e3
        if self._ahead_ms is None or at_ms < self._last_ms - STEP_MS:
            self._ahead_ms, self._before_ms, self._window_s = ahead_ms, None, steady_s
        elif steady_s - self._window_s > WINDOW_S:
            self._before_ms, self._ahead_ms, self._window_s = self._ahead_ms, ahead_ms, steady_s
        else:
            self._ahead_ms = max(self._ahead_ms, ahead_ms)
        self._last_ms = at_ms

    def now_ms(self, steady_s: float) -> int | None:
        """None while nothing was heard."""
        if self._ahead_ms is None:
            return None
        ahead_ms = self._ahead_ms if self._before_ms is None else max(self._ahead_ms, self._before_ms)
        return int(ahead_ms + steady_s * 1e3)
