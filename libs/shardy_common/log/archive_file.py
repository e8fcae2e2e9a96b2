"""One epoch of the log as a file: a range of sequences without a gap, exactly as the stream held it.

Two gzip members, so `zcat` shows all of it. The first is one line of JSON, the head. The second holds the records:
`<seq> <subject> <time in ns> <bytes of headers> <bytes of payload>`, a line feed, headers, payload, a line feed.
`body` is the BLAKE3 of all records; `chain` that of the head, which names the chain of the epoch before: whoever knows
the newest chain can tell of every file whether it is the one that was written (docs/adr/0013-archived-epochs.md).
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
from blake3 import blake3

FORMAT = 1
EPOCH_BYTES_MAX = 32 * 1024 * 1024  # of records; one epoch at a time is held in memory while it is read
MESSAGE_BYTES_MAX = 2 * 1024 * 1024  # a message of the stream has at most 1 MiB
HEAD_BYTES_MAX = 64 * 1024
NAMES_MAX = 200  # the mesh writes two dozen; what strangers write beyond is counted as OTHER
OTHER = "*"
SUFFIX = ".log.gz"


class ArchiveError(Exception):
    """Events cannot be had from the archive; the text says which, why, and what to do."""


class Message(NamedTuple):
    """A message of the stream as it lay there. headers: the raw block, or None."""

    subject: bytes
    seq: int
    at_ns: int
    payload: bytes
    headers: bytes | None


class Head(msgspec.Struct, frozen=True):
    """first, last: sequences; first_ns, last_ns: when they were recorded. bytes: of the records, uncompressed.

    names: events by name (the subject's first two words). previous: chain of the epoch before, empty for the first.
    """

    format: int
    stream: str
    first: int
    last: int
    count: int
    first_ns: int
    last_ns: int
    bytes: int
    names: dict[str, int]
    body: str
    previous: str
    chain: str = ""

    def chained(self) -> str:
        """The chain that follows from all else."""
        return blake3(_encode(msgspec.structs.replace(self, chain=""))).hexdigest()


_encode = msgspec.json.Encoder(order="deterministic").encode
_head = msgspec.json.Decoder(Head).decode


def file_name(first: int, last: int) -> str:
    return f"{first:012d}-{last:012d}{SUFFIX}"


def record(message: Message) -> bytes:
    headers = message.headers or b""
    line = b"%d %b %d %d %d\n" % (message.seq, message.subject, message.at_ns, len(headers), len(message.payload))
    return line + headers + message.payload + b"\n"


def records(body: bytes, after: int = 0) -> Iterator[Message]:
    """The messages of a body that was verified, those after a sequence."""
    at, size = 0, len(body)
    while at < size:
        end = body.index(b"\n", at)
        seq, subject, at_ns, heads, payloads = body[at:end].split(b" ")
        start = end + 1
        middle = start + int(heads)
        at = middle + int(payloads) + 1
        if int(seq) > after:
            payload = body[middle : at - 1]
            yield Message(subject, int(seq), int(at_ns), payload, body[start:middle] if middle > start else None)


class EpochWriter:
    """Takes messages in order, and makes the file when all are there. Nothing with the file's name is seen before."""

    def __init__(self, folder: Path, stream: str, previous: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._stream, self._previous = folder, stream, previous
        self._temp = folder / f"new-{os.getpid()}.body"
        self._file = open(self._temp, "wb")  # noqa: SIM115 - closed in finish or abandon
        self._zip = gzip.GzipFile(filename="", mode="wb", fileobj=self._file, mtime=0)
        self._digest = blake3()
        self._names: dict[str, int] = {}
        self.first = self.last = self.first_ns = self.last_ns = self.bytes = 0

    @property
    def full(self) -> bool:
        return self.bytes >= EPOCH_BYTES_MAX

    def add(self, message: Message) -> None:
        """The next message; ArchiveError when it is not the one that follows."""
        if self.first and message.seq != self.last + 1:
            raise ArchiveError(f"event {self.last + 1} is missing between {self.last} and {message.seq}")
        if not self.first:
            self.first, self.first_ns = message.seq, message.at_ns
        self.last, self.last_ns = message.seq, message.at_ns
        data = record(message)
        self._digest.update(data)
        self._zip.write(data)
        self.bytes += len(data)
        name = b".".join(message.subject.split(b".", 2)[:2]).decode("utf-8", "replace")
        if name not in self._names and (len(self._names) >= NAMES_MAX or len(name) > 100):
            name = OTHER
        self._names[name] = self._names.get(name, 0) + 1

    def finish(self) -> tuple[Path, Head]:
        """Write head and records under their name, through to the disk."""
        self._zip.close()
        self._file.close()
        head = Head(
            FORMAT,
            self._stream,
            self.first,
            self.last,
            self.last - self.first + 1,
            self.first_ns,
            self.last_ns,
            self.bytes,
            self._names,
            self._digest.hexdigest(),
            self._previous,
        )
        head = msgspec.structs.replace(head, chain=head.chained())
        path = self._folder / file_name(self.first, self.last)
        whole = self._temp.with_suffix(".whole")
        with open(whole, "wb") as out, open(self._temp, "rb") as body:
            os.fchmod(out.fileno(), 0o600)
            out.write(gzip.compress(_encode(head) + b"\n", mtime=0))
            while piece := body.read(1 << 20):
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        self._temp.unlink()
        os.replace(whole, path)
        sync(self._folder)
        return path, head

    def abandon(self) -> None:
        self._file.close()
        self._temp.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Write a file through to the disk; or a folder, for a rename is durable only when its folder is."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_head(path: Path) -> Head:
    """The head, which is what its own chain says. ArchiveError with what is wrong with the file."""
    with _opened(path) as file:
        return _head_of(path, file)


def read_epoch(path: Path) -> tuple[Head, bytes]:
    """Head and records, verified: digest, count, sequences. ArchiveError with what is wrong with the file."""
    with _opened(path) as file:
        head = _head_of(path, file)
        body = _read(path, file, head.bytes + 1)
    if len(body) != head.bytes:
        what = "is cut off" if len(body) < head.bytes else "holds more than its head says"
        raise ArchiveError(f"{path} {what}: {_AGAIN}")
    if blake3(body).hexdigest() != head.body:
        raise ArchiveError(f"{path} was changed: its records have another BLAKE3 than its head says; {_AGAIN}")
    expected = head.first
    try:
        for message in records(body):
            if message.seq != expected:
                raise ArchiveError(f"{path} holds event {message.seq} where {expected} belongs: {_AGAIN}")
            expected += 1
    except ValueError:
        raise ArchiveError(f"{path} has a record that is none: {_AGAIN}") from None
    if expected != head.last + 1:
        raise ArchiveError(f"{path} ends at event {expected - 1}, and not at {head.last}: {_AGAIN}")
    return head, body


_AGAIN = "put back the file of a backup (shardy log restore)"


def _opened(path: Path) -> IO[bytes]:
    try:
        return gzip.open(path, "rb")  # type: ignore[return-value]
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}") from None


def _head_of(path: Path, file: IO[bytes]) -> Head:
    line = _read(path, file, HEAD_BYTES_MAX, line=True)
    try:
        head = _head(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ArchiveError(f"{path} does not begin as an archived epoch does: {_AGAIN}") from None
    if head.format != FORMAT:
        raise ArchiveError(f"{path} has format {head.format}, and this version reads {FORMAT}: use a newer shardy")
    if head.chained() != head.chain:
        raise ArchiveError(f"{path} was changed: its head has another chain than it says; {_AGAIN}")
    if not 0 < head.first <= head.last or head.count != head.last - head.first + 1 or head.bytes < 0:
        raise ArchiveError(f"{path} has a head that contradicts itself: {_AGAIN}")
    if head.bytes > EPOCH_BYTES_MAX + MESSAGE_BYTES_MAX:
        raise ArchiveError(f"{path} holds {head.bytes} bytes, more than an epoch may: {_AGAIN}")
    if path.name != file_name(head.first, head.last):
        raise ArchiveError(f"{path} is {file_name(head.first, head.last)} under another name: rename it")
    return head


def _read(path: Path, file: IO[bytes], size: int, *, line: bool = False) -> bytes:
    try:
        return file.readline(size) if line else file.read(size)
    except EOFError:
        raise ArchiveError(f"{path} is cut off: {_AGAIN}") from None
    except (OSError, zlib.error) as error:
        raise ArchiveError(f"{path} is damaged ({error}): {_AGAIN}") from None


def digest_of(messages: Iterable[Message]) -> str:
    """What `body` is for these messages."""
    digest = blake3()
    for message in messages:
        digest.update(record(message))
    return digest.hexdigest()
