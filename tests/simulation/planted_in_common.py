"""Bugs of the registries, of the loop that all services share, and of the log."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from planting import Patch, planted

from shardy_common.log import Append, MemoryLog
from shardy_common.service import FoldLoop
from shardy_common.verifiers import Registry, VerifierFold, Version
from shardy_gossip_bridge.directory import Directory
from shardy_prover_verifier import fold


@planted("prover-verifier/registry", "crash", seeds=400)
def the_registry_is_not_loaded(patch: Patch) -> None:
    """After a restart no version is known that could move to grace."""
    patch.setattr(fold.ProverCore, "load", lambda *_: None)


@planted("common/verifiers", seeds=200)
def a_rotation_back_forgets_the_first_time(patch: Patch) -> None:
    """A version that becomes active again loses the grace of when it was before."""

    def begins(registry: Registry, version: Version, seq: int, at_ms: int) -> None:
        honest(registry, replace(version, periods=()), seq, at_ms)

    honest = Registry._begins
    patch.setattr(Registry, "_begins", begins)


@planted("common/verifiers", seeds=200)
def a_version_is_whose_claim_came_last(patch: Patch) -> None:
    """Of two circuits that claim a version at once the second has it."""

    def registered(registry: Registry, event: Any, seq: int, at_ms: int) -> Any:
        known = registry.versions.pop(event.version, None)
        if known is not None:
            registry._of[known.circuit].remove(event.version)
        return honest(registry, event, seq, at_ms)

    honest = Registry._registered
    patch.setattr(Registry, "_registered", registered)


@planted("common/verifiers", "crash", seeds=400)
def active_versions_are_not_loaded(patch: Patch) -> None:
    """After a restart every version waits to be rotated to."""

    def load(fold: VerifierFold, projection: Any) -> None:
        honest(fold, projection)
        fold.registry.active.clear()

    honest = VerifierFold.load
    patch.setattr(VerifierFold, "load", load)


@planted("gossip-bridge/directory", seeds=100)
def one_digest_for_each_commit(patch: Patch) -> None:
    """Of a batch with several verdicts only the last digest is written."""

    def rows(directory: Directory) -> Any:
        out = honest(directory)
        return {table: found[-1:] for table, found in out.items()}

    honest = Directory.rows
    patch.setattr(Directory, "rows", rows)


# -- the loop and the log ---------------------------------------------------------------------------------------------


@planted("common/service", "disk full", seeds=100)
def a_checkpoint_ahead_of_its_rows(patch: Patch) -> None:
    """The checkpoint is written first, and the rows after it."""

    def flush(loop: FoldLoop) -> None:
        if loop._uncommitted:
            loop.projection.commit({}, loop._last_seq)
            honest(loop)

    honest = FoldLoop.flush
    patch.setattr(FoldLoop, "flush", flush)


@planted("common/service", "disk full", seeds=100)
def rows_are_given_up_once(patch: Patch) -> None:
    """Rows that a full disk refused are gone, and the next commit moves the checkpoint past them."""

    def flush(loop: FoldLoop) -> None:
        if loop._uncommitted:
            loop.projection.commit(loop.core.rows(), loop._last_seq)
            loop._uncommitted = 0

    patch.setattr(FoldLoop, "flush", flush)


@planted("common/service", "crash after append")
def a_commit_skips_ahead(patch: Patch) -> None:
    """A crash after an append begins after it, though what came before was not written."""
    honest = FoldLoop.flush

    def flush(loop: FoldLoop) -> None:
        if loop._uncommitted:
            loop._last_seq += 1
        honest(loop)

    patch.setattr(FoldLoop, "flush", flush)


@planted("common/log")
def a_repeated_append_is_recorded_twice(patch: Patch) -> None:
    """The log does not know its message ids."""

    def append_now(log: MemoryLog, item: Append) -> Any:
        return honest(log, replace(item, msg_id=f"{item.msg_id}/{len(log.events)}"))

    honest = MemoryLog.append_now
    patch.setattr(MemoryLog, "append_now", append_now)


@planted("common/log", kind="shared")
def expectations_are_not_looked_at(patch: Patch) -> None:
    """The log appends whatever was expected."""

    def append_now(log: MemoryLog, item: Append) -> Any:
        return honest(log, item if item.expect is None else replace(item, expect=None))

    honest = MemoryLog.append_now
    patch.setattr(MemoryLog, "append_now", append_now)
