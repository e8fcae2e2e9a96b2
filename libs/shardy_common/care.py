"""Checking archived files, and putting them back where they are missing."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shardy_common.log.archive import Archive, extent_of
from shardy_common.log.archive_file import ArchiveError, read_epoch, read_head, sync
from shardy_common.log.archiving import compare
from shardy_common.runtime import running_log
from shardy_common.wire.subjects import STREAM


async def verify(data_dir: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Each file by itself; all of the folder as a chain too, which ends where the log says. ArchiveError names the
    first that is wrong. in_stream: how many of a file's events the log holds as well; None where no mesh runs."""
    archive = Archive(Path(data_dir) / "archive", STREAM)
    done: dict[str, Any] = {"files": [], "archived": None, "chain": None}
    if not (Path(data_dir) / "runtime.json").exists():
        await _each(list(files), archive, None, done)
        return done
    async with running_log(data_dir) as log:
        extent = extent_of(await log.info())
        done["archived"], done["chain"] = extent.through, extent.chain
        if not files:
            await asyncio.to_thread(archive.covering, extent)
        await _each(list(files), archive, log, done)
    return done


async def _each(files: list[Path], archive: Archive, log: Any, done: dict[str, Any]) -> None:
    if not files:
        files = [epoch.path for epoch in await asyncio.to_thread(archive.epochs)]
    for path in files:
        head, body = await asyncio.to_thread(read_epoch, path)
        both = None if log is None else await compare(log, path, (head, body))
        done["files"].append(
            {"file": str(path), "first": head.first, "last": head.last, "count": head.count, "in_stream": both}
        )


def restore_files(sources: Sequence[Path], data_dir: Path) -> list[str]:
    """Copy archived files into the data folder's archive, each verified first. Files that are there and are the same
    stay; ArchiveError for what is no archived file."""
    folder = Path(data_dir) / "archive"
    if not Path(data_dir).is_dir():
        raise ArchiveError(f"{data_dir} is no data folder: name the one that misses events")
    paths = [path for source in sources for path in (Archive(source, STREAM).paths() if source.is_dir() else [source])]
    if not paths:
        raise ArchiveError("there is no archived file in what was named")
    for path in paths:
        read_epoch(path)
    folder.mkdir(mode=0o700, exist_ok=True)
    done = []
    for path in paths:
        target = folder / path.name
        if target.exists() and _same(target, path):
            continue
        fresh = folder / f"new-{os.getpid()}.restored"
        shutil.copyfile(path, fresh)
        fresh.chmod(0o600)
        os.replace(fresh, target)
        done.append(str(target))
    sync(folder)
    return done


def _same(there: Path, path: Path) -> bool:
    try:
        return read_epoch(there)[0] == read_head(path)
    except ArchiveError:
        return False
