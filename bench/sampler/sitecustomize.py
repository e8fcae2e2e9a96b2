"""A profile by processor time for any Python process that has this folder on its PYTHONPATH.

Every SAMPLE_S of processor time the function that runs is counted, and those that called it; SIGUSR2 and the end of
the process write what was counted to SHARDY_BENCH_PROFILE_<…>.txt and begin anew. Samples cost about one per cent. A
thread's time is counted where the main thread stands, for signals are handled there.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections import Counter
from types import FrameType

SAMPLE_S = 0.005
TOP = 60
_own: Counter[str] = Counter()
_all: Counter[str] = Counter()


def _sample(_signum: int, frame: FrameType | None) -> None:
    seen: set[str] = set()
    at = frame
    while at is not None:
        code = at.f_code
        name = f"{code.co_filename.rpartition('site-packages/')[2][-60:]}:{code.co_name}"
        if not seen:
            _own[f"{name}:{at.f_lineno}"] += 1
        seen.add(name)
        at = at.f_back
    _all.update(seen)


def _write(*_: object) -> None:
    folder = os.environ.get("SHARDY_BENCH_PROFILE", "")
    service = next((arg for arg in sys.orig_argv if arg.startswith("shardy_")), "").partition(".")[0]
    total = sum(_own.values())
    if folder and service and total:
        lines = [f"{service}: {total * SAMPLE_S:.1f} s of processor time", "", "per cent  where the time was spent"]
        lines += [f"{100 * n / total:8.1f}  {name}" for name, n in _own.most_common(TOP)]
        lines += ["", "per cent  with what was called from there"]
        lines += [f"{100 * n / total:8.1f}  {name}" for name, n in _all.most_common(TOP)]
        name = service.removeprefix("shardy_").replace("_", "-")
        with open(os.path.join(folder, f"log-profile-{name}.txt"), "w") as file:
            file.write("\n".join(lines) + "\n")
    _own.clear()
    _all.clear()


if os.environ.get("SHARDY_BENCH_PROFILE"):
    signal.signal(signal.SIGPROF, _sample)
    signal.signal(signal.SIGUSR2, _write)
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)
    atexit.register(_write)
