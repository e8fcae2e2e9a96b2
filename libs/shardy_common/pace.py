"""How long a decider waits before it decides again what the log did not take. Pure: time is an argument."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from shardy_common.log import Appended, Full, Outcome, Unknown

AGAIN_S = 0.02  # after a refusal: the events that won are read before anything is decided again
AGAIN_S_MAX = 2.0  # while the log takes nothing: doubled up to this
FULL_S, FULL_S_MAX = 0.25, 8.0  # while it is full
DOUBLINGS_MAX = 10
log = logging.getLogger("shardy.service")


class Pace:
    """held_until: nothing new is proposed before; fulls: how often in a row the log was full."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._silence = 0  # answers in a row of which none came
        self.fulls = 0
        self.held_until = 0.0

    def heard(self, outcomes: Sequence[Outcome], now_s: float) -> float:
        """Seconds to wait before what was refused is decided again: longer each time that the log is full or silent."""
        self._silence = self._silence + 1 if all(isinstance(outcome, Unknown) for outcome in outcomes) else 0
        if any(isinstance(outcome, Full) for outcome in outcomes):
            if now_s >= self.held_until:  # several batches may hear of it at once
                self.fulls += 1
                self.held_until = now_s + min(FULL_S * 2 ** min(self.fulls - 1, DOUBLINGS_MAX), FULL_S_MAX)
                if self.fulls == 1:
                    log.error("%s: the log is full; waiting for room (SHARDY_LOG_BYTES_MAX)", self._name)
            return self.held_until - now_s
        if any(isinstance(outcome, Appended) for outcome in outcomes):
            self.fulls = 0
        if all(isinstance(outcome, Appended) for outcome in outcomes):
            return 0.0
        wait_s = min(AGAIN_S * 2 ** min(self._silence, DOUBLINGS_MAX), AGAIN_S_MAX)
        self.held_until = max(self.held_until, now_s + wait_s) if self._silence else self.held_until
        return wait_s
