"""`shardy backup` and `shardy restore`: everything of a mesh that cannot be folded anew, into a folder and back.

The order makes a copy of a running mesh consistent: first the streams, each at one moment; then the archive, which only
grows; then the blobs. Bytes are stored before the event that names them, so the blobs hold all that the copy of the log
names, and some more. What never changes (archived epochs, large blobs) is copied once: a backup into the same folder
adds what is new. backup.json names every file with its BLAKE3, and has its own; it is written last, so a folder with
one is complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from shardy_common.blobs.index import pack_ends, places
from shardy_common.log import stream_copy
from shardy_common.log.archive import Archive, extent_of
from shardy_common.log.archiving import locked
from shardy_common.runtime import log_server, running_log
from shardy_common.wire import subjects

FORMAT = 2
UNSEALED = 1  # the format before: its manifest has no seal
MANIFEST = "backup.json"
STREAMS = (subjects.STREAM, "ADVISORIES")
# Of the data folder: what is made anew, and what is copied in ways of its own. Everything else is settings and secrets.
MADE = ("nats", "logs", "projections", "blobs", "archive", "lock", "runtime.json", "nats.conf")
SECRETS, BLOBS, ARCHIVE = "secrets", "blobs", "archive"
PIECE = 1 << 20


class BackupError(Exception):
    """A backup cannot be made, or is not what it says it is; the text says what to do."""


class Filed(msgspec.Struct, frozen=True):
    """A file of the backup: bytes and BLAKE3. Of a pack only its first bytes: what came later is not in the index."""

    bytes: int
    blake3: str


class Manifest(msgspec.Struct, frozen=True):
    """last_seq: of the copied log. streams: what JetStream said of each copy. files: by path below the folder. seal:
    BLAKE3 of the manifest without one, to notice damage (who changes it on purpose can seal it too)."""

    format: int
    version: str
    made_ms: int
    last_seq: int
    streams: dict[str, dict[str, Any]]
    files: dict[str, Filed]
    seal: str = ""


Say = Callable[[str], None]


async def backup(data_dir: Path, folder: Path, say: Say = lambda _line: None, *, try_it: bool = True) -> Manifest:
    """Copy the mesh that runs on data_dir. try_it: put the copied streams back once, aside, to see that they can be."""
    data_dir, folder = Path(data_dir).resolve(), Path(folder).resolve()
    if folder == data_dir or data_dir in folder.parents:
        raise BackupError(f"{folder} lies in the data folder itself: name another")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    before = manifest_of(folder) if (folder / MANIFEST).exists() else None
    (folder / MANIFEST).unlink(missing_ok=True)  # from here on the folder is no backup, until it is one again
    files: dict[str, Filed] = {}
    with locked(data_dir / "archive"):
        async with running_log(data_dir) as log:
            streams = {}
            for stream in STREAMS:
                path = folder / f"{stream}.snapshot"
                streams[stream] = taken = await stream_copy.take(log.client, stream, path)
                files[path.name] = Filed(taken["bytes"], taken["blake3"])
        last_seq = int(streams[subjects.STREAM]["state"]["last_seq"])
        say(f"log copied through event {last_seq}")
        files |= await asyncio.to_thread(_copy_archive, data_dir, folder, extent_of(streams[subjects.STREAM]), before)
    files |= await asyncio.to_thread(_copy_blobs, data_dir / "blobs", folder, before)
    files |= await asyncio.to_thread(_copy_secrets, data_dir, folder)
    made = Manifest(FORMAT, version("shardy"), time.time_ns() // 1_000_000, last_seq, streams, files)
    made = msgspec.structs.replace(made, seal=seal_of(made))
    if try_it:
        await _tried(folder, made)
        say("the copied log was put back once, to try it")
    _write_manifest(folder, made)
    return made


async def restore(folder: Path, data_dir: Path, say: Say = lambda _line: None) -> Manifest:
    """Make a data folder of a backup. BackupError when the folder has something in it, or the backup was changed."""
    folder, data_dir = Path(folder).resolve(), Path(data_dir).resolve()
    made = manifest_of(folder)
    if data_dir.exists() and any(data_dir.iterdir()):
        raise BackupError(f"{data_dir} is not empty: restore into a new folder, and look at it before the old one goes")
    await asyncio.to_thread(check, folder, made)
    say(f"{len(made.files)} files of the backup are as they were written")
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    await asyncio.to_thread(_put_files, folder, data_dir, made)
    async with log_server(data_dir) as client:
        for stream, taken in made.streams.items():
            await stream_copy.put_back(client, stream, folder / f"{stream}.snapshot", taken)
    (data_dir / "nats.conf").unlink(missing_ok=True)
    return made


def manifest_of(folder: Path) -> Manifest:
    try:
        made = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except OSError:
        raise BackupError(f"{folder} holds no complete backup: {MANIFEST} is missing") from None
    except msgspec.MsgspecError as error:
        raise BackupError(f"{folder / MANIFEST} was changed: {error}") from None
    if made.format not in (FORMAT, UNSEALED):
        raise BackupError(f"{folder} has format {made.format}, and this version reads {FORMAT}: use another version")
    if made.format != UNSEALED and made.seal != seal_of(made):
        raise BackupError(f"{folder / MANIFEST} was changed: it is not what its seal says")
    return made


def seal_of(made: Manifest) -> str:
    return blake3(msgspec.json.encode(msgspec.structs.replace(made, seal=""))).hexdigest()


def check(folder: Path, made: Manifest) -> None:
    """Every file is there, and is what was written. BackupError naming the first that is not."""
    for name, filed in made.files.items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise BackupError(f"{folder / MANIFEST} names {name}, which does not lie in the folder")
        if not path.is_file():
            raise BackupError(f"{path} is missing: the backup is not complete")
        if path.stat().st_size < filed.bytes or digest_of(path, filed.bytes) != filed.blake3:
            raise BackupError(f"{path} is not what was backed up: its bytes were changed")


def digest_of(path: Path, size: int) -> str:
    """BLAKE3 of the first bytes of a file."""
    digest = blake3()
    with open(path, "rb") as file:
        while size > 0 and (piece := file.read(min(PIECE, size))):
            digest.update(piece)
            size -= len(piece)
    return digest.hexdigest()


# -- what is copied ---------------------------------------------------------------------------------------------------


def _copy_archive(data_dir: Path, folder: Path, extent: Any, before: Manifest | None) -> dict[str, Filed]:
    files = {}
    for path, _ in Archive(data_dir / ARCHIVE, subjects.STREAM).covering(extent):
        files[f"{ARCHIVE}/{path.name}"] = _copied(path, folder / ARCHIVE / path.name, before, f"{ARCHIVE}/{path.name}")
    return files


def _copy_blobs(root: Path, folder: Path, before: Manifest | None) -> dict[str, Filed]:
    """Large blobs as they are, checked by their names; the index of the packs, then the packs as far as it reaches."""
    files: dict[str, Filed] = {}
    for path in _below(root / "large"):
        name = f"{BLOBS}/large/{path.parent.name}/{path.name}"
        files[name] = _copied(path, folder / name, before, name)
        if files[name].blake3 != path.name:
            raise BackupError(f"the blob {path} is damaged: its bytes have another BLAKE3 than its name")
    index = folder / BLOBS / "packs" / "index.db"
    if not (root / "packs" / "index.db").exists():
        return files
    _make(index.parent)
    index.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(root / "packs" / "index.db", timeout=30)) as live,
        contextlib.closing(sqlite3.connect(index)) as copy,
    ):
        live.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        ends = pack_ends(copy)
    index.chmod(0o600)
    for pack, end in ends:
        name = f"{BLOBS}/packs/{pack}"
        files[name] = _copied_pack(root / "packs" / pack, folder / name, end)
    _check_packs(index)
    files[f"{BLOBS}/packs/index.db"] = Filed(index.stat().st_size, digest_of(index, index.stat().st_size))
    return files


def _check_packs(index: Path) -> None:
    """Each packed blob has the bytes of its name. Read in the order in which they lie."""
    with contextlib.closing(sqlite3.connect(index)) as rows:
        file, name = None, ""
        for digest, pack, at, size in places(rows):
            if pack != name:
                if file is not None:
                    file.close()
                file, name = open(index.parent / pack, "rb"), pack  # noqa: SIM115 - closed above and below
            assert file is not None
            file.seek(at)
            if blake3(file.read(size)).digest() != digest:
                raise BackupError(f"the blob {digest.hex()} in {pack} is damaged: its bytes have another BLAKE3")
        if file is not None:
            file.close()


def _copy_secrets(data_dir: Path, folder: Path) -> dict[str, Filed]:
    """Keys, and whatever else is kept in the data folder: for the owner's eyes only."""
    files = {}
    for path in _below(data_dir):
        inner = path.relative_to(data_dir)
        if inner.parts[0] in MADE:
            continue
        name = f"{SECRETS}/{inner.as_posix()}"
        files[name] = _copied(path, folder / name, None, name)
    return files


def _put_files(folder: Path, data_dir: Path, made: Manifest) -> None:
    for name, filed in made.files.items():
        inner = Path(name)
        if inner.parts[0] == SECRETS:
            inner = inner.relative_to(SECRETS)
        elif inner.parts[0] not in (BLOBS, ARCHIVE):
            continue
        target = data_dir / inner
        _make(target.parent)
        with open(folder / name, "rb") as source, open(target, "wb") as out:
            os.fchmod(out.fileno(), 0o600)
            left = filed.bytes
            while left > 0 and (piece := source.read(min(PIECE, left))):
                out.write(piece)
                left -= len(piece)


def _copied(path: Path, target: Path, before: Manifest | None, name: str) -> Filed:
    """Copy a file that never changes, if it is not there from an earlier backup as it should be."""
    size = path.stat().st_size
    known = before.files.get(name) if before is not None else None
    if known is not None and known.bytes == size and target.is_file() and digest_of(target, size) == known.blake3:
        return known
    _make(target.parent)
    digest, fresh = blake3(), target.with_name(target.name + ".new")
    with open(path, "rb") as source, open(fresh, "wb") as out:
        os.fchmod(out.fileno(), 0o600)
        size = 0
        while piece := source.read(PIECE):
            digest.update(piece)
            out.write(piece)
            size += len(piece)
        out.flush()
        os.fsync(out.fileno())
    os.replace(fresh, target)
    return Filed(size, digest.hexdigest())


def _copied_pack(path: Path, target: Path, end: int) -> Filed:
    """A pack only grows: what an earlier backup has is kept, and the rest is added."""
    _make(target.parent)
    target.touch(mode=0o600)
    have = min(target.stat().st_size, end)
    with open(path, "rb") as source, open(target, "r+b") as out:
        source.seek(have)
        out.seek(have)
        left = end - have
        while left > 0 and (piece := source.read(min(PIECE, left))):
            out.write(piece)
            left -= len(piece)
        out.truncate()
        out.flush()
        os.fsync(out.fileno())
    if left > 0:
        raise BackupError(f"{path} is shorter than its index says")
    return Filed(end, digest_of(target, end))


def _make(folder: Path) -> None:
    """With all folders above it that are missing, for the owner alone."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)


def _below(folder: Path) -> Iterator[Path]:
    """Files in the folder and below; those that come and go while we look are no matter."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(place) != folder or name not in MADE)
        yield from (Path(place) / name for name in sorted(names) if (Path(place) / name).is_file())


def _write_manifest(folder: Path, made: Manifest) -> None:
    fresh = folder / f"{MANIFEST}.new"
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(made)))
    fresh.chmod(0o600)
    with open(fresh, "rb") as file:
        os.fsync(file.fileno())
    os.replace(fresh, folder / MANIFEST)


async def _tried(folder: Path, made: Manifest) -> None:
    """Put the streams back into a folder that goes again."""
    async with put_back(folder, made):
        pass


@contextlib.asynccontextmanager
async def put_back(folder: Path, made: Manifest) -> Any:
    """The streams of a backup on a server of their own, for a while; a connection to it."""
    place = folder / "trial"
    shutil.rmtree(place, ignore_errors=True)
    try:
        async with log_server(place) as client:
            for stream, taken in made.streams.items():
                await stream_copy.put_back(client, stream, folder / f"{stream}.snapshot", taken)
            yield client
    finally:
        shutil.rmtree(place, ignore_errors=True)
