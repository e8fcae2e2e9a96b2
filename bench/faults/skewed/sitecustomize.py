"""Python reads this before anything else where this folder is on its path: the time of day is SHARDY_SKEW_S off."""

from __future__ import annotations

import os
import time

_SKEW_NS = int(float(os.environ.get("SHARDY_SKEW_S", "0")) * 1e9)
_time_ns = time.time_ns

time.time_ns = lambda: _time_ns() + _SKEW_NS
time.time = lambda: time.time_ns() / 1e9
