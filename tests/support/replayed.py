"""Live state equals replayed state: the services' cores, folded here from a stack's log, against the files that its
services keep, at equal checkpoints and byte for byte of the checksum.

The fold here goes on from test to test: it reads what is new, in batches of its own, and commits where a service did.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shardy_common.log import JetStreamLog, Projection, Recorded, Table
from shardy_common.log.projection import checksum
from shardy_common.stack import Stack
from shardy_common.wire import subjects
from shardy_dlq import letters
from shardy_gateway import views
from shardy_gossip_bridge import directory
from shardy_matchmaker import core as matchmaker
from shardy_matchmaker.decide import Matchmaker
from shardy_prover_verifier import fold as prover
from shardy_quorum import core as quorum

PATIENCE_S = 60.0


class Service(NamedTuple):
    make: Callable[[], Any]
    tables: Sequence[Table]
    version: int


SERVICES = {
    "gateway": Service(views.Views, views.TABLES, views.VERSION),
    "matchmaker": Service(
        lambda: matchmaker.MatchmakerCore(Matchmaker(allow_same_address=True)), matchmaker.TABLES, matchmaker.VERSION
    ),
    "quorum": Service(quorum.QuorumCore, quorum.TABLES, quorum.VERSION),
    "dlq": Service(letters.Letters, letters.TABLES, letters.VERSION),
    "prover-verifier": Service(prover.ProverCore, prover.TABLES, prover.VERSION),
    "gossip-bridge": Service(directory.Directory, directory.TABLES, directory.VERSION),
}


class Live(NamedTuple):
    """A service's file at one moment."""

    checkpoint: int
    checksum: str
    skipped: frozenset[int]
    advisories: int  # last message folded of the stream beside the log


def live_of(path: Path, tables: Sequence[Table]) -> Live:
    """Read beside the service that writes it."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30, isolation_level=None)) as c:
        c.execute("BEGIN")
        (checkpoint,) = c.execute("SELECT checkpoint FROM _meta").fetchone()
        skipped = frozenset(seq for (seq,) in c.execute("SELECT seq FROM _skipped"))
        beside = c.execute("SELECT checkpoint FROM streams").fetchone() if path.name.startswith("dlq-") else None
        return Live(checkpoint, checksum(c, tables), skipped, beside[0] if beside else 0)


class Fold:
    """One service, folded here."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.begin(frozenset())

    def begin(self, skipped: frozenset[int]) -> None:
        self.skipped = skipped
        self.projection = Projection(":memory:", self.service.tables, version=self.service.version)
        self.core = self.service.make()
        self.core.load(self.projection)
        self.at = 0

    def up_to(self, checkpoint: int, events: Sequence[Recorded], advisories: Sequence[Recorded]) -> str:
        """The checksum there. events: the whole log, up to there at least."""
        begin, end = (bisect_right(events, seq, key=lambda r: r.seq) for seq in (self.at, checkpoint))
        for recorded in events[begin:end]:
            name = recorded.subject.rpartition(".")[0]
            known = recorded.event is not None and recorded.seq not in self.skipped
            if known and subjects.taken(self.core.filters, name):
                self.core.evolve(recorded)
        for recorded in advisories:
            if recorded.seq > self.core.advisories_seq:
                self.core.evolve_advisory(recorded)
        self.at = checkpoint
        self.projection.commit(self.core.rows(), checkpoint)
        return self.projection.checksum()


class Replayed:
    """Of one stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._events: list[Recorded] = []
        self._advisories: list[Recorded] = []
        self._folds = {name: Fold(service) for name, service in SERVICES.items()}
        self.compared = 0

    async def check(self) -> None:
        """AssertionError names the service whose live state is not what its log says."""
        folder = self._stack.data_dir / "projections"
        server = self._stack.processes.get("nats-server")
        if server is not None and not server.pid:
            return  # a test ends without its log
        log = await self._stack.open_log("replayed")
        try:
            if (await log.state()).first_seq > 1:
                return  # the beginning was put away: tests of that compare for themselves
            for name, fold in self._folds.items():
                for path in sorted(folder.glob(f"{name}-*.db")):
                    if ".snapshot" not in path.name:
                        await self._compare(log, name, fold, path)
        finally:
            await log.close()

    async def _compare(self, log: JetStreamLog, name: str, fold: Fold, path: Path) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(sqlite3.OperationalError):  # it is just being made anew
                    live = live_of(path, fold.service.tables)
                    if live.checkpoint >= fold.at:
                        break
                if not self._running(path.stem):
                    return  # stopped on purpose, and behind its siblings for good
                await asyncio.sleep(0.05)
        if live.skipped != fold.skipped:
            fold.begin(live.skipped)
        await self._read(log, self._events, live.checkpoint)
        if live.advisories:
            beside = JetStreamLog(log.client, letters.ADVISORIES)
            await self._read(beside, self._advisories, live.advisories)
        advisories = [a for a in self._advisories if a.seq <= live.advisories] if name == "dlq" else []
        replayed = fold.up_to(live.checkpoint, self._events, advisories)
        assert replayed == live.checksum, f"{path.name} at event {live.checkpoint} is not what the log says"
        self.compared += 1

    def _running(self, stem: str) -> bool:
        name, _, number = stem.rpartition("-")
        managed = self._stack.processes.get(name if number == "0" else stem)
        return managed is None or not managed.paused

    async def _read(self, log: JetStreamLog, into: list[Recorded], up_to: int) -> None:
        at = before = into[-1].seq if into else 0
        if at >= up_to:
            return
        reader = log.read([], at)
        seqs: set[int] = set()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while at < up_to:
                    for recorded in await reader.batch(5_000, 1.0):
                        into.append(recorded)
                        at = recorded.seq
                        seqs.add(at)
        finally:
            await reader.close()
        assert len(seqs) == at - before, "the log has a gap"
