"""Bugs of the registries, of the loop that all services share, and of the log."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from planting import Patch, planted

from shardy_common.log import Append, MemoryLog
from shardy_common.service import FoldLoop
from shardy_gossip_bridge.directory import Directory
from shardy_prover_verifier.registry import Registry


@planted("prover-verifier/registry", "crash", seeds=400)
def the_registry_is_not_loaded(patch: Patch) -> None:
    """After a restart no version is known that could move to grace."""
    patch.setattr(Registry, "load", lambda *_: None)


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
