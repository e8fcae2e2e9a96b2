"""When a request is asked again, of which gateway, and after how long. Decisions only: no clock, no socket, no chance
but what is handed in.

A gateway that does not answer, or says 503, is left for the next one. After each round over all gateways there is a
pause, longer each time and drawn at random, so that many clients don't come back together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

BUSY = (502, 503, 504)
HELD = ("/problems/mesh-busy", "/problems/too-many-active-jobs", "/problems/log-full")  # worth a longer wait


@dataclass(slots=True, frozen=True)
class Patience:
    """How long a client tries. rounds: over all gateways, of a mesh that never answered; one that has answered before
    is waited for up to lost_s. retry_after_s_max: the longest Retry-After that is waited for, all pauses of a call
    together. held_s_max: the same for a mesh that has too much to do to take a job."""

    rounds: int = 3
    lost_s: float = 30.0
    retry_after_s_max: float = 30.0
    held_s_max: float = 120.0
    pause_s: float = 0.2
    pause_s_max: float = 3.0


@dataclass(slots=True, frozen=True)
class Outcome:
    """An attempt that gave no answer to keep. sent: the request may have reached the mesh. status: what was answered,
    or 0. retry_after_s: what the answer asked for, if it did. held: the mesh is well, and has too much to do."""

    sent: bool
    status: int = 0
    retry_after_s: float | None = None
    held: bool = False


class Attempts:
    """The attempts of one call. gateway: the number of the one to ask now. draw: a number from 0 to 1.

    repeat: whether the call may be made twice; resend: also when its answer was lost on the way. known: the mesh has
    answered before.
    """

    def __init__(
        self,
        patience: Patience,
        gateways: int,
        first: int,
        draw: Callable[[], float],
        *,
        repeat: bool,
        known: bool,
        resend: bool = True,
    ) -> None:
        self.gateway = first
        self.made = 1
        self._patience, self._gateways, self._draw = patience, gateways, draw
        self._repeat, self._known, self._resend = repeat, known, resend
        self._rounds = 0
        self._in_round = 0
        self._asked_s = 0.0  # the longest Retry-After of this round
        self._held_s = 0.0

    def after(self, outcome: Outcome, elapsed_s: float) -> float | None:
        """Seconds until the next attempt, or None: it is over. elapsed_s: since the call began."""
        if outcome.status == 429 or outcome.held:
            return self._held(outcome)
        if outcome.sent and not (self._repeat and (outcome.status or self._resend)):
            return None
        self._asked_s = max(self._asked_s, outcome.retry_after_s or 0.0)
        self._in_round += 1
        if self._in_round < self._gateways:
            return self._go_on(0.0)
        self._rounds += 1
        self._in_round, asked_s, self._asked_s = 0, self._asked_s, 0.0
        if asked_s > self._patience.retry_after_s_max:
            return None
        if self._rounds >= self._patience.rounds and (not self._known or elapsed_s > self._patience.lost_s):
            return None
        pause_s = min(self._patience.pause_s * 2.0 ** (self._rounds - 1), self._patience.pause_s_max)
        return self._go_on(max(asked_s, pause_s * (0.5 + 0.5 * self._draw())))

    def _held(self, outcome: Outcome) -> float | None:
        # This says that nothing was done, so that even a call that must not be made twice is made again.
        if outcome.retry_after_s is None:
            return None
        pause_s = outcome.retry_after_s * (1.0 + 0.1 * self._draw())
        self._held_s += pause_s
        if self._held_s > (self._patience.held_s_max if outcome.held else self._patience.retry_after_s_max):
            return None
        self.made += 1
        return pause_s

    def _go_on(self, pause_s: float) -> float:
        self.gateway = (self.gateway + 1) % self._gateways
        self.made += 1
        return pause_s


def retry_after_s(text: str | None) -> float | None:
    """The seconds that a Retry-After header says; None for none, and for a date (the mesh sends none)."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
