"""`shardy log replay`: fold a log into fresh projections of every service, beside the mesh and without a word to it.

Each service's own fold loop runs, on a log that takes nothing. What it would have appended (letters about events that
it cannot read) is counted and dropped. Where the mesh runs, each fold ends at the checkpoint of a live projection, of
which a copy was taken first, and their checksums are compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shardy_common.backup import manifest_of, put_back
from shardy_common.log import Append, ArchiveError, Conflict, JetStreamLog, LogState, Outcome, Projection, Recorded
from shardy_common.log.archive import Archive, Extent
from shardy_common.log.client import LogClient
from shardy_common.log.packs import unpack
from shardy_common.log.reader import _Archived, recorded
from shardy_common.runtime import running_log
from shardy_common.service import FoldLoop
from shardy_common.wire import subjects

ADVISORIES = "ADVISORIES"
DECIDERS = ("matchmaker", "quorum")  # what holds the active jobs of a core that does not itself


def _matchmaker() -> Any:
    decide = importlib.import_module("shardy_matchmaker.decide")
    return importlib.import_module("shardy_matchmaker.core").MatchmakerCore(decide.Matchmaker())


def _core(module: str, name: str) -> Callable[[], Any]:
    def make() -> Any:
        return getattr(importlib.import_module(module), name)()

    return make


# where each service's tables stand, and how its empty core is made; services are found at run time only
FOLDS: dict[str, tuple[str, Callable[[], Any]]] = {
    "gateway": ("shardy_gateway.views", _core("shardy_gateway.views", "Views")),
    "matchmaker": ("shardy_matchmaker.core", _matchmaker),
    "quorum": ("shardy_quorum.core", _core("shardy_quorum.core", "QuorumCore")),
    "prover-verifier": ("shardy_prover_verifier.fold", _core("shardy_prover_verifier.fold", "ProverCore")),
    "gossip-bridge": ("shardy_gossip_bridge.directory", _core("shardy_gossip_bridge.directory", "Directory")),
    "dlq": ("shardy_dlq.letters", _core("shardy_dlq.letters", "Letters")),
}


@dataclass(slots=True)
class Replayed:
    """How one service's fold went. unreadable: events that it would have written letters about; error: what stopped it.

    live: the instance that it was compared with; equal: whether the checksums are; None where there was nothing to
    compare with, and why says what stood in the way.
    """

    service: str
    events: int = 0
    seconds: float = 0.0
    checkpoint: int = 0
    checksum: str = ""
    unreadable: int = 0
    active_jobs: int | None = None
    live: str = ""
    equal: bool | None = None
    why: str = ""
    error: str = ""

    def shown(self) -> dict[str, Any]:
        return asdict(self)


class ReadOnlyLog:
    """A log for a fold that ends at `until`: whatever is appended counts as written by somebody else before."""

    def __init__(self, make_reader: Callable[[Sequence[str], int], Any], until: int) -> None:
        self._make_reader, self._until = make_reader, until
        self.dropped: list[Append] = []
        self.on_break: list[Callable[[], None]] = []

    async def append(self, items: Sequence[Append]) -> list[Outcome]:
        self.dropped += items
        return [Conflict("a replay appends nothing") for _ in items]

    def read(self, filters: Sequence[str], after: int) -> LimitedReader:
        return LimitedReader(self._make_reader(filters, after), self._until)

    async def last_seq(self) -> int:
        return self._until

    async def state(self) -> LogState:
        return LogState("a replay", 1, self._until)

    async def get(self, _seq: int) -> None:
        """No letters are asked for: a fold that begins anew has none."""

    async def last(self, _subject: str) -> None:
        """As get()."""


class LimitedReader:
    """The events of another reader as far as `until`: that is its end."""

    def __init__(self, reader: Any, until: int) -> None:
        self._reader, self._until, self._ended = reader, until, False

    @property
    def caught_up(self) -> bool:
        return self._ended or bool(self._reader.caught_up)

    @property
    def behind(self) -> int | None:
        return 0 if self._ended else self._reader.behind  # type: ignore[no-any-return]

    async def batch(self, max_events: int, timeout_s: float) -> list[Recorded]:
        if self._ended:
            await asyncio.sleep(min(timeout_s, 0.01))
            return []
        events = list(await self._reader.batch(max_events, timeout_s))
        inside = [event for event in events if event.seq <= self._until]
        self._ended = len(inside) < len(events) or (bool(inside) and inside[-1].seq == self._until)
        return inside

    def wake(self) -> None:
        wake = getattr(self._reader, "wake", None)
        if wake is not None:
            wake()

    async def close(self) -> None:
        await self._reader.close()


class FolderReader:
    """Events of archived epochs alone."""

    def __init__(self, archive: Archive, extent: Extent, filters: Sequence[str], after: int) -> None:
        self._archived: _Archived | None = _Archived(archive, extent, after, filters)

    @property
    def caught_up(self) -> bool:
        return self._archived is None

    async def batch(self, max_events: int, timeout_s: float) -> list[Recorded]:
        if self._archived is None:
            await asyncio.sleep(timeout_s)
            return []
        messages = await self._archived.take(max_events)
        if not messages:
            self._archived = None
        return [event for message in messages for event in unpack(recorded(message))]

    async def close(self) -> None:
        self._archived = None


@dataclass(slots=True)
class Source:
    """Where events come from. advisories: the reader of that stream, where there is one."""

    read: Callable[[Sequence[str], int], Any]
    last: int
    advisories: Callable[[], Any] | None = None


async def replay(
    source: Source, until: int | None, live: dict[str, list[tuple[str, Path]]], services: Sequence[str] = tuple(FOLDS)
) -> list[Replayed]:
    """Fold for each service in turn. live: copies of its projections by instance; the first of this version is compared
    with, and says where the fold ends unless `until` does."""
    with tempfile.TemporaryDirectory(prefix="shardy-replay-") as folder:
        return [await _one(name, source, until, live.get(name, []), Path(folder)) for name in services]


async def _one(service: str, source: Source, until: int | None, live: list[tuple[str, Path]], folder: Path) -> Replayed:
    done = Replayed(service)
    module, make = importlib.import_module(FOLDS[service][0]), FOLDS[service][1]
    projection = Projection(folder / f"{service}.db", module.TABLES, version=module.VERSION)
    instance, copy, done.why = _comparable(live, module)
    end = until if until is not None else source.last
    if copy is not None and until is None:
        end = max(copy.checkpoint, 1)
    log = ReadOnlyLog(source.read, end)
    started = time.monotonic()
    try:
        loop = await _folded(service, log, projection, make, source)
        done.events, done.unreadable = loop.folded, loop.poisoned
        done.active_jobs = _active_jobs(loop.core)
    except ArchiveError as error:
        done.error = str(error)
    except Exception as error:  # a fold that breaks is what a replay is to find: it is told, and the others go on
        done.error = f"{type(error).__name__}: {error}"
    done.seconds = round(time.monotonic() - started, 3)
    done.checkpoint, done.checksum = projection.checkpoint, projection.checksum()
    if copy is not None and not done.error:
        done.live = instance
        if copy.checkpoint == done.checkpoint:
            done.equal = copy.checksum() == done.checksum
        else:
            done.why = f"the live projection stands at event {copy.checkpoint}"
        copy.close()
    projection.close()
    return done


def _active_jobs(core: Any) -> int | None:
    for holder in (core, *(getattr(getattr(core, name, None), "fold", getattr(core, name, None)) for name in DECIDERS)):
        if isinstance(getattr(holder, "jobs", None), dict):
            return len(holder.jobs)
    return None


async def _folded(
    service: str, log: ReadOnlyLog, projection: Projection, make: Callable[[], Any], source: Source
) -> FoldLoop:
    """The service's loop, until it has read all."""

    async def passed(_events: list[Recorded]) -> None:
        loop.core.flush = loop.flush  # type: ignore[attr-defined]
        loop.core.take_outbox()  # type: ignore[attr-defined]

    observe = passed if service == "gateway" else None
    loop = FoldLoop(service, log, projection, make, observe=observe, tick_s=0.05)
    if observe is not None:
        loop.core.flush = loop.flush  # type: ignore[attr-defined]
    running = asyncio.create_task(loop.run())
    waiting = asyncio.create_task(loop.live.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not running.done() and service == "dlq" and source.advisories is not None:
        await _advise(loop, source.advisories())
    await _settled(loop)
    loop.stop()
    await running
    return loop


async def _advise(loop: FoldLoop, reader: Any) -> None:
    """What the dead letter queue folds beside the log."""
    while not reader.caught_up:
        for event in await reader.batch(1_000, 0.5):
            loop.core.evolve_advisory(event)  # type: ignore[attr-defined]
            loop.changed()
    await reader.close()


async def _settled(loop: FoldLoop) -> None:
    """Letters about unreadable events hold the checkpoint back until they are answered, which is soon."""
    for _ in range(500):
        if not loop.in_flight and not loop._letters:
            return
        await asyncio.sleep(0.01)


def _comparable(live: list[tuple[str, Path]], module: Any) -> tuple[str, Projection | None, str]:
    why = "no mesh to compare with" if not live else ""
    for instance, path in live:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            try:
                (version,) = connection.execute("SELECT version FROM _meta").fetchone()
            except (sqlite3.Error, TypeError):
                continue
        if version == module.VERSION:
            return instance, Projection(path, module.TABLES, version=version), ""
        why = f"the live projection is of version {version}, this fold of {module.VERSION}: the service will fold anew"
    return "", None, why


def copy_projections(data_dir: Path, into: Path) -> dict[str, list[tuple[str, Path]]]:
    """Each live projection as it stands at one moment, by service."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for service in FOLDS:
        for path in sorted((data_dir / "projections").glob(f"{service}-*.db")):
            instance = path.stem.removeprefix(f"{service}-")
            target = into / path.name
            with (
                contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as live,
                contextlib.closing(sqlite3.connect(target)) as copy,
            ):
                live.backup(copy)
            found.setdefault(service, []).append((instance, target))
    return found


# -- sources ----------------------------------------------------------------------------------------------------------


async def replay_running(data_dir: Path, until: int | None) -> list[Replayed]:
    """Of the mesh that runs on the folder."""
    with tempfile.TemporaryDirectory(prefix="shardy-live-") as copies:
        live = await asyncio.to_thread(copy_projections, Path(data_dir), Path(copies))
        async with running_log(data_dir) as log:
            last = await log.last_seq()
            source = Source(log.read, min(until or last, last), _advisories(log.client))
            return await replay(source, until, live)


async def replay_backup(folder: Path, until: int | None) -> list[Replayed]:
    """Of a backup: its streams are put back aside, and its archive is read."""
    made = manifest_of(Path(folder))
    async with put_back(Path(folder), made) as client:
        log = JetStreamLog(client, subjects.STREAM, Path(folder) / "archive")
        last = await log.last_seq()
        source = Source(log.read, min(until or last, last), _advisories(client))
        return await replay(source, until, {})


async def replay_archive(folder: Path, until: int | None) -> list[Replayed]:
    """Of a folder of archived epochs alone."""
    archive = Archive(folder, subjects.STREAM)
    epochs = await asyncio.to_thread(archive.epochs)
    if not epochs:
        raise ArchiveError(f"{folder} holds no archived epochs")
    extent = Extent(epochs[-1].head.last, epochs[-1].head.chain)
    source = Source(lambda filters, after: FolderReader(archive, extent, filters, after), extent.through)
    return await replay(source, until, {})


def _advisories(client: LogClient) -> Callable[[], Any]:
    return lambda: JetStreamLog(client, ADVISORIES).read([], 0)
