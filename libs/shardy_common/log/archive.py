"""The archive: a folder with the epochs of the log's old part, and how they are read in place of the stream.

What was archived is told by the stream itself, in its metadata: how far (`shardy.archived`) and the chain of the last
epoch (`shardy.archive-chain`). So a reader knows without a look into the folder that it needs the archive, and a file
that is missing, older or another is noticed.

Purged from the stream is only what nobody's optimistic concurrency counts any more: events of tasks, results, workers
and gateways. The others (jobs, keys, dead letters, canaries, frauds, mesh keys) stay: an append that expects the last
sequence of `key.*.*`, or that a subject was never written, must find it as it was.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shardy_common.log.archive_file import (
    OTHER,
    SUFFIX,
    ArchiveError,
    Head,
    Message,
    read_epoch,
    read_head,
    records,
)
from shardy_common.log.client import header_value

ARCHIVED, CHAIN = "shardy.archived", "shardy.archive-chain"
PURGED = ("task", "result", "worker", "gateway")  # entities whose archived events leave the stream
CACHED_EPOCHS = 2  # of look-ups of single events, which come in bunches
_NAME = re.compile(r"(\d{12,})-(\d{12,})" + re.escape(SUFFIX) + r"\Z")


class Extent(NamedTuple):
    """How far the log was archived, as the stream says: through this sequence, the last epoch's chain."""

    through: int = 0
    chain: str = ""


def extent_of(info: dict[str, Any]) -> Extent:
    """From the answer to STREAM.INFO."""
    metadata = info.get("config", {}).get("metadata") or {}
    through = str(metadata.get(ARCHIVED, "0"))
    return Extent(int(through) if through.isdigit() else 0, str(metadata.get(CHAIN, "")))


def needed(filters: Sequence[str]) -> bool:
    """Whether a reader with these filters misses events in a stream whose archived part was purged."""
    return not filters or any(f.partition(".")[0] in (*PURGED, "*", ">") for f in filters)


class Epoch(NamedTuple):
    path: Path
    head: Head


class Archive:
    """Reads; everything here works on files and may take a while: call it in a thread."""

    def __init__(self, folder: Path | str, stream: str) -> None:
        self.folder, self.stream = Path(folder), stream
        self._heads: dict[tuple[Path, int, int], Head] = {}  # a file is known by its size and time
        self._bodies: OrderedDict[Path, tuple[Head, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def paths(self) -> list[Path]:
        """Files named as epochs are, by their first sequence."""
        if not self.folder.is_dir():
            return []
        return sorted(
            (p for p in self.folder.iterdir() if _NAME.match(p.name)), key=lambda p: int(p.name.split("-")[0])
        )

    def epochs(self) -> list[Epoch]:
        """All epochs from sequence 1 on, each following the one before; ArchiveError naming the first that does not."""
        found: list[Epoch] = []
        last, chain = 0, ""
        for path in self.paths():
            head = self._head(path)
            if head.stream != self.stream:
                raise ArchiveError(f"{path} is of the stream {head.stream}, and not of {self.stream}: move it away")
            if head.first <= last:
                raise ArchiveError(f"{path} overlaps {found[-1].path.name}: move one of them away")
            if head.first != last + 1:
                raise ArchiveError(
                    f"events {last + 1}–{head.first - 1} are missing in {self.folder}: restore them with"
                    " shardy log restore FILE --into DATA_DIR"
                )
            if head.previous != chain:
                raise ArchiveError(
                    f"{path} does not follow the file before it: one of the two is of another log; put back the files"
                    " of a backup (shardy log restore)"
                )
            found.append(Epoch(path, head))
            last, chain = head.last, head.chain
        return found

    def covering(self, extent: Extent) -> list[Epoch]:
        """The epochs that hold all events through the extent. ArchiveError naming what is missing or is another."""
        epochs = [epoch for epoch in self.epochs() if epoch.head.last <= extent.through]
        last = epochs[-1].head.last if epochs else 0
        if last != extent.through:
            raise missing(last + 1, extent.through, self.folder)
        if epochs and extent.chain and epochs[-1].head.chain != extent.chain:
            raise ArchiveError(
                f"the archive in {self.folder} is not the one that this log names (its chain differs): put back the"
                " files of a backup (shardy log restore)"
            )
        return epochs

    def walk(self, extent: Extent, after: int, wanted: Callable[[str], bool]) -> Iterator[tuple[Head, bytes]]:
        """Epochs with events after a sequence, verified, one at a time; those without any event whose name is wanted
        are passed over."""
        for path, head in self.covering(extent):
            if head.last > after and any(name == OTHER or wanted(name) for name in head.names):
                yield self._verified(path, head)

    def get(self, extent: Extent, seq: int) -> Message | None:
        """One event."""
        for message in self.between(extent, seq, seq):
            return message
        return None

    def between(self, extent: Extent, first: int, last: int) -> Iterator[Message]:
        """Events of a range, in order. For look-ups: the last few epochs are kept."""
        for path, head in self.covering(extent):
            if head.first <= last and head.last >= first:
                for message in records(self._cached(path, head)[1], first - 1):
                    if message.seq > last:
                        break
                    yield message

    def find(self, extent: Extent, subject: str, after: int, msg_id: str) -> int | None:
        """Sequence of the first message on this subject, later than `after`, that was appended under msg_id."""
        name, wanted = subject.rpartition(".")[0], subject.encode()
        for _, body in self.walk(extent, after, lambda n: n == name):
            for message in records(body, after):
                if message.subject == wanted and header_value(message.headers, b"Nats-Msg-Id") == msg_id:
                    return message.seq
        return None

    def _head(self, path: Path) -> Head:
        try:
            stat = path.stat()
        except OSError as error:
            raise ArchiveError(f"{path} cannot be read: {error.strerror}") from None
        key = (path, stat.st_size, stat.st_mtime_ns)
        if key not in self._heads:
            self._heads[key] = read_head(path)
        return self._heads[key]

    def _verified(self, path: Path, head: Head) -> tuple[Head, bytes]:
        found, body = read_epoch(path)
        if found != head:  # replaced between two looks
            raise ArchiveError(f"{path} was changed while it was read: look at it with shardy log verify")
        return found, body

    def _cached(self, path: Path, head: Head) -> tuple[Head, bytes]:
        with self._lock:
            if path not in self._bodies or self._bodies[path][0] != head:
                self._bodies[path] = self._verified(path, head)
                while len(self._bodies) > CACHED_EPOCHS:
                    self._bodies.popitem(last=False)
            self._bodies.move_to_end(path)
            return self._bodies[path]


def missing(first: int, last: int, folder: Path | str) -> ArchiveError:
    return ArchiveError(
        f"events {first}–{last} are neither in the stream nor in the archive folder {folder}: restore them with"
        " shardy log restore FILE --into DATA_DIR"
    )
