"""From leases to results: grouping small ones, hashing, and the object that an experiment may replace."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from blake3 import blake3

from shardy_client.worker import kinds
from shardy_client.worker.backends import Backend, DeviceLost, Interrupted
from shardy_client.worker.messages import Result, Work
from shardy_client.worker.state import CARRY_BYTES_MAX

log = logging.getLogger("shardy.worker")

STACK_BYTES_MAX = 8 << 20
HASH_THREADED_BYTES = 4 << 20


class ComputeError(Exception):
    """A lease that cannot be computed here. code: one of protocol §5's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


Outcome = tuple[Work, Result | ComputeError]


class Computer:
    """Makes result bytes of leases with a backend. Subclass it to study what other workers would send.

    fallback: makes the backend that takes over when the device is lost.
    """

    def __init__(self, backend: Backend, fallback: Callable[[], Backend] | None = None) -> None:
        self.backend = backend
        self._fallback = fallback

    def compute(self, works: Sequence[Work]) -> list[kinds.Bytes]:
        """Result bytes in the order of `works`: one lease, or several that may be computed as one product."""
        if len(works) == 1:
            work = works[0]
            return [kinds.KINDS[work.kind].run(work.plan, work.data, self.backend)]
        return kinds.run_group([work.plan for work in works], [work.data for work in works], self.backend)  # type: ignore[misc]

    def lost(self, error: DeviceLost) -> None:
        """Go on with the fallback."""
        if self._fallback is None:
            raise ComputeError("device-lost", str(error)) from None
        log.warning("the adapter was lost (%s); going on with the engine on the CPU", error)
        self.backend, self._fallback = self._fallback(), None


def run_batch(computer: Computer, batch: Sequence[Work]) -> list[Outcome]:
    """Compute and hash `batch`; one outcome a lease, in order of completion. Runs in a compute thread."""
    outcomes: list[Outcome] = []
    for works in group(batch):
        started = time.perf_counter()
        try:
            data = computer.compute(works)
        except ComputeError as error:
            outcomes.extend((work, error) for work in works)
            continue
        except DeviceLost as error:
            failure = ComputeError("device-lost", str(error))
            outcomes.extend((work, failure) for work in works)
            computer.lost(error)
            continue
        except Interrupted:
            failure = ComputeError("internal", "the worker is stopping")
            outcomes.extend((work, failure) for work in works)
            continue
        except MemoryError as error:
            failure = ComputeError("oom", str(error) or "out of memory")
            outcomes.extend((work, failure) for work in works)
            continue
        except Exception as error:
            log.exception("lease %s failed", works[0].lease)
            failure = ComputeError("internal", f"{type(error).__name__}: {error}")
            outcomes.extend((work, failure) for work in works)
            continue
        _finish(works, data, started, computer.backend.name, outcomes)
    return outcomes


def group(batch: Sequence[Work]) -> list[list[Work]]:
    """Split into runs that may be computed together: same job, same B, small. Order is kept."""
    groups: list[list[Work]] = []
    job, mark, size = "", None, 0
    for work in batch:
        plan = work.plan
        result = plan.a.rows * plan.b.rows * 4 if plan.group is not None else 0  # type: ignore[attr-defined]
        # Alone, a large product keeps its own timing and needs no copy; stacking pays for calls, not for arithmetic.
        small = 0 < result <= CARRY_BYTES_MAX
        if small and work.job == job and plan.group == mark and size + result <= STACK_BYTES_MAX:
            groups[-1].append(work)
            size += result
        else:
            groups.append([work])
            job, mark, size = work.job, plan.group if small else None, result
    return groups


def _finish(
    works: Sequence[Work], data: Sequence[kinds.Bytes], started: float, backend: str, outcomes: list[Outcome]
) -> None:
    computed = time.perf_counter()
    digests = [_digest(piece) for piece in data]
    hashed = time.perf_counter()
    # Leases computed as one product share its time: each took that part of the device.
    share = 1000 / len(works)
    ms = (hashed - started) * share
    spans = {"compute": (computed - started) * share, "hash": (hashed - computed) * share}
    for work, piece, digest in zip(works, data, digests, strict=True):
        outcomes.append((work, Result(work, piece, digest, ms, backend, spans)))


def _digest(piece: kinds.Bytes) -> bytes:
    if len(piece) < HASH_THREADED_BYTES:
        return blake3(piece).digest()
    return blake3(piece, max_threads=blake3.AUTO).digest()
