"""What keeps a mesh of `shardy up` well: archive its log, copy it, put it back, fold it for a trial. On its machine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from shardy_client.cli_common import AsJson, DataDir, bounded, command, line, number, print_json, table
from shardy_client.errors import InvalidInput, MeshUnreachable, ShardyError

T = TypeVar("T")
UNITS_S = {"s": 1, "min": 60, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


def seconds(name: str, text: str) -> float:
    """`90s`, `15min` or `15m`, `12h`, `7d`, `2w`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|m|h|d|w)", text.strip())
    if found is None:
        raise InvalidInput(f"{name} is {text!r}; write a number and a unit: 90s, 15min, 12h, 7d, 2w")
    return float(found[1]) * UNITS_S[found[2]]


def _run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it; what goes wrong as one line."""
    from nats.errors import Error as NatsError

    from shardy_common.backup import BackupError
    from shardy_common.errors import Transient
    from shardy_common.log import ArchiveError
    from shardy_common.log.stream_copy import SnapshotError
    from shardy_common.stack import StackError

    try:
        return asyncio.run(work())
    except (StackError, Transient, NatsError) as error:
        raise MeshUnreachable(str(error) or f"the log does not answer: {type(error).__name__}") from None
    except (ArchiveError, BackupError, SnapshotError) as error:
        raise ShardyError(str(error)) from None
    except OSError as error:
        raise ShardyError(f"{error.filename or 'a file'}: {error.strerror or error}") from None


@command
def log_archive(
    older_than: Annotated[str, typer.Option("--older-than", help="Archive events older than this: 12h, 7d.")] = "7d",
    keep_events: Annotated[int, typer.Option("--keep-events", help="Newest events that stay in any case.")] = 10_000,
    epoch_events: Annotated[int, typer.Option("--epoch-events", help="Events of a file.")] = 100_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be archived.")] = False,
    data_dir: DataDir = Path(".data"),
    as_json: AsJson = False,
) -> None:
    """Move the old part of the log into compressed files, while the mesh runs.

    Files are written, read back and compared with the log before anything is purged. What an active job needs stays.
    Services and rebuilds read the files in the log's place: keep them.

    JSON: last, archived_before, archived, floor, active_jobs, epochs [epoch], purged, waiting.
    """
    from dataclasses import asdict

    from shardy_common.log.archiving import Archiver
    from shardy_common.log.retention import Policy
    from shardy_common.runtime import running_log

    bounded("--epoch-events", epoch_events, 1_000_000)
    if keep_events < 0:
        raise InvalidInput(f"--keep-events is {keep_events}; 0 or more are possible")
    policy = Policy(seconds("--older-than", older_than), keep_events, epoch_events)

    async def work() -> Any:
        async with running_log(data_dir) as log:
            return await Archiver(log, policy).run(dry=dry_run)

    report = _run(work)
    if as_json:
        print_json(asdict(report))
    else:
        verb = "would be archived" if dry_run else "archived"
        for epoch in report.epochs:
            line(f"events {epoch['first']}–{epoch['last']} {verb}")
        if not report.epochs:
            active = f"{report.active_jobs} active jobs" if report.active_jobs else "no active job"
            line(
                f"nothing to archive: the log ends at event {report.last}, is archived through {report.archived}, and"
                f" may be through {report.floor} ({active}, --older-than {older_than}, --keep-events {keep_events})"
            )
        if report.purged:
            line(f"{report.purged} events purged from the stream; the files in {data_dir / 'archive'} hold them")
    if report.waiting:
        raise ShardyError(report.waiting)


@command
def log_archives(data_dir: DataDir = Path(".data"), as_json: AsJson = False) -> None:
    """List the archived files of a data folder, whether its mesh runs or not.

    JSON: a list of epochs: file, first, last, count, bytes, file_bytes, first_ns, last_ns, chain.
    """
    from shardy_common.log.archive import Archive, Extent
    from shardy_common.log.archiving import describe
    from shardy_common.wire.subjects import STREAM

    async def work() -> list[dict[str, Any]]:
        return await asyncio.to_thread(describe, Archive(data_dir / "archive", STREAM), Extent())

    found = _run(work)
    if as_json:
        print_json(found)
        return
    rows = ((Path(e["file"]).name, e["first"], e["last"], _day(e["first_ns"]), _day(e["last_ns"]),
             f"{number(e['file_bytes'])}B") for e in found)  # fmt: skip
    table("Archived epochs", ("file", "first", "last", "from", "to", "size"), rows, "Nothing was archived.")


def _day(ns: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")


@command
def log_verify(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Archived files; without any, all of the data folder.", metavar="[FILE]…"),
    ] = None,
    data_dir: DataDir = Path(".data"),
    as_json: AsJson = False,
) -> None:
    """Check archived files: digests, counts, that none is missing, and against the log of the mesh if it runs.

    JSON: files [file, first, last, count, in_stream], archived, chain.
    """
    from shardy_common.care import verify

    found = _run(lambda: verify(data_dir, files or []))
    if as_json:
        print_json(found)
        return
    for one in found["files"]:
        with_stream = "" if one["in_stream"] is None else f"; {one['in_stream']} of them are in the log too, and equal"
        line(f"{Path(one['file']).name}: {one['count']} events are as they were written{with_stream}")
    if not found["files"]:
        line("Nothing was archived.")


@command
def log_restore(
    files: Annotated[list[Path], typer.Argument(help="Archived files, or folders with such.", metavar="FILE…")],
    into: Annotated[Path, typer.Option("--into", help="The data folder that misses them.", metavar="DATA_DIR")],
    as_json: AsJson = False,
) -> None:
    """Put archived files back into a data folder, each checked before. Services that stopped for them start again.

    JSON: restored [file].
    """
    from shardy_common.care import restore_files

    async def work() -> list[str]:
        return await asyncio.to_thread(restore_files, files, into)

    done = _run(work)
    if as_json:
        print_json({"restored": done})
    else:
        line(f"{len(done)} files put into {into / 'archive'}")


@command
def log_replay(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="A backup, or a folder of archived files.",
            show_default="the mesh that runs",
            metavar="FOLDER",
        ),
    ] = None,
    until: Annotated[int | None, typer.Option("--until", help="Stop after this event.", metavar="SEQ")] = None,
    data_dir: DataDir = Path(".data"),
    as_json: AsJson = False,
) -> None:
    """Fold the log into fresh projections of every service, for a trial: nothing of the mesh is touched.

    Of the mesh that runs, each fold is compared with the live projection at the same event. Exit code 1 when a fold
    breaks or differs.

    JSON: services [service, events, seconds, checkpoint, checksum, unreadable, active_jobs, live, equal, why, error].
    """
    from shardy_common.backup import MANIFEST
    from shardy_common.replay import replay_archive, replay_backup, replay_running

    if until is not None:
        bounded("--until", until, 1 << 62)

    async def work() -> Any:
        if source is None:
            return await replay_running(data_dir, until)
        return await (replay_backup if (source / MANIFEST).exists() else replay_archive)(source, until)

    done = [one.shown() for one in _run(work)]
    if as_json:
        print_json({"services": done})
    else:
        rows = ((d["service"], d["events"], d["seconds"], d["checkpoint"], d["checksum"][:16], d["unreadable"],
                 d["active_jobs"], _judged(d)) for d in done)  # fmt: skip
        columns = ("service", "events", "seconds", "checkpoint", "checksum", "unreadable", "active jobs", "live")
        table("Replay", columns, rows, "Nothing to replay.")
    wrong = [d["service"] for d in done if d["error"] or d["equal"] is False]
    if wrong:
        raise ShardyError(f"{', '.join(wrong)}: the fold broke, or differs from the live one")


def _judged(done: dict[str, Any]) -> str:
    if done["error"]:
        return f"broke: {done['error']}"
    if done["equal"] is None:
        return str(done["why"])
    return f"equal to {done['live']}" if done["equal"] else f"DIFFERS from {done['live']}"


@command
def backup(
    folder: Annotated[Path, typer.Argument(help="Where to; a folder with an older backup takes what is new.")],
    data_dir: DataDir = Path(".data"),
    trial: Annotated[bool, typer.Option("--trial/--no-trial", help="Put the copied log back once, to try it.")] = True,
    as_json: AsJson = False,
) -> None:
    """Copy a mesh of `shardy up` while it runs: log, archive, blobs, keys. Keep the copy as you keep the keys.

    JSON: folder, last_seq, files, bytes, made_ms.
    """
    from shardy_common.backup import backup as copy

    made = _run(lambda: copy(data_dir, folder, (lambda _line: None) if as_json else line, try_it=trial))
    size = sum(filed.bytes for filed in made.files.values())
    if as_json:
        print_json({"folder": str(folder), "last_seq": made.last_seq, "files": len(made.files), "bytes": size,
                    "made_ms": made.made_ms})  # fmt: skip
    else:
        line(f"backed up to {folder}: {len(made.files)} files, {number(size)}B; keep it as you keep the keys")


@command
def restore(
    folder: Annotated[Path, typer.Argument(help="A folder that shardy backup made.")],
    data_dir: Annotated[Path, typer.Option("--data-dir", help="A new folder for the mesh.")],
    as_json: AsJson = False,
) -> None:
    """Make a data folder of a backup, every file checked: `shardy up` on it goes on where the copied mesh stood.

    JSON: data_dir, last_seq, files.
    """
    from shardy_common.backup import restore as put_back

    made = _run(lambda: put_back(folder, data_dir, (lambda _line: None) if as_json else line))
    if as_json:
        print_json({"data_dir": str(data_dir), "last_seq": made.last_seq, "files": len(made.files)})
    else:
        line(f"restored through event {made.last_seq}; start it with: shardy up --data-dir {data_dir}")


@command
def blobs(
    older_than: Annotated[
        str, typer.Option("--older-than", help="Jobs that ended before so long count no more.")
    ] = "30d",
    data_dir: DataDir = Path(".data"),
    as_json: AsJson = False,
) -> None:
    """Say how much of the blob store belongs to active and recent jobs, and how much to none. Nothing is deleted.

    JSON: blobs, bytes, kept_jobs, unnamed_blobs, unnamed_bytes.
    """
    from shardy_common.blob_usage import usage

    age_s = seconds("--older-than", older_than)
    found = _run(lambda: usage(data_dir, age_s))
    if as_json:
        print_json(found)
        return
    line(f"{found['blobs']} blobs, {number(found['bytes'])}B")
    line(
        f"{found['unnamed_blobs']} of them, {number(found['unnamed_bytes'])}B, are named by none of the"
        f" {found['kept_jobs']} jobs that are active or ended within {older_than}"
    )
