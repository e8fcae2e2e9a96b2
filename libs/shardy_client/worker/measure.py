"""What a device can do: the rate of its products and the memory it can really touch (protocol §2.1)."""

from __future__ import annotations

import mmap
import os
import statistics
import sys
import time

import numpy as np

from shardy_client.worker.backends import Backend, Measurement

STEP_MIB = 64
PAGE = mmap.PAGESIZE
TARGET_MS = 100.0
SIZE_MAX = 8192
FAIR_SIZE = 256


def rate(backend: Backend, to_beat_gops: float = 0) -> Measurement:
    """Grow a square product until one takes about 100 ms, then take the median of five.

    to_beat_gops: a device that is hopelessly slower at a fair size is not measured further.
    """
    rng = np.random.default_rng(1)
    size = 128
    while True:
        a = rng.integers(-128, 128, (size, size), np.int8)
        b = rng.integers(-128, 128, (size, size), np.int8)
        backend.matmul(a, b)
        ms = _time(backend, a, b)
        if ms >= TARGET_MS / 2 or size >= SIZE_MAX:
            break
        gops = 2 * size**3 / ms / 1e6
        if size >= FAIR_SIZE and gops < to_beat_gops / 4:
            return Measurement(ms, gops, size)
        # Time grows with the cube of the size; at most doubling keeps a misjudged step short.
        size = min(SIZE_MAX, max(size + 64, int(size * min(2.0, (TARGET_MS / ms) ** (1 / 3))) // 64 * 64))
    ms = statistics.median(_time(backend, a, b) for _ in range(5))
    return Measurement(ms, 2 * size**3 / ms / 1e6, size)


def _time(backend: Backend, a: np.ndarray, b: np.ndarray) -> float:
    started = time.perf_counter()
    backend.matmul(a, b)
    return (time.perf_counter() - started) * 1000


def free_mib() -> int:
    """Memory that is free for a new process, in MiB; 2,048 where the platform does not say."""
    if sys.platform == "linux":
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) // 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (2 << 20)
    except (AttributeError, ValueError, OSError):
        return 2048


def touch_mib(limit_mib: int) -> int:
    """Allocate and write memory in steps up to `limit_mib`, give it back, and return how much there was."""
    held: list[mmap.mmap] = []
    touched = 0
    try:
        while touched < limit_mib:
            step = min(STEP_MIB, limit_mib - touched)
            block = mmap.mmap(-1, step << 20)
            held.append(block)
            # One byte a page makes the system back it.
            np.frombuffer(block, np.uint8)[::PAGE] = 1
            touched += step
    except (OSError, MemoryError, ValueError):
        pass
    finally:
        for block in held:
            block.close()
    return touched
